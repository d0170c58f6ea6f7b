//! The results as one page that needs nothing else: no script, no picture, no font from anywhere.

#![forbid(unsafe_code)]

use crate::chart::{bars, escape, lines};
use crate::design::{Better, Experiment};
use crate::judge::{Judged, Verdict, judge};
use crate::results::Results;
use crate::runner::Outcome;
use crate::text::figure;
use std::fmt::Write as _;

/// Readable by day and by night; eight colours that differ in lightness too.
const STYLE: &str = "\
:root{color-scheme:light dark;--back:#fff;--text:#1c1e21;--dim:#667;--grid:#ddd;--good:#17713a;--bad:#a8281e}\
@media(prefers-color-scheme:dark){:root{--back:#15171a;--text:#e4e6ea;--dim:#9aa;--grid:#333a40;--good:#6fce92;--bad:#ff8d80}}\
body{background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1,h2,h3{line-height:1.2}h3{font-size:1rem;margin:1.4rem 0 .3rem}\
p.s{color:var(--dim);margin:.2rem 0}\
div.t{overflow-x:auto}table{border-collapse:collapse;font-size:13px}\
th,td{padding:.2rem .6rem;border-bottom:1px solid var(--grid);text-align:right;vertical-align:top}\
th:first-child,td:first-child,td.p{text-align:left}\
svg{max-width:100%;height:auto}svg text{fill:var(--text);font:12px system-ui,sans-serif}\
svg text.n{text-anchor:end}svg text.m{text-anchor:middle;fill:var(--dim)}\
line.g{stroke:var(--grid)}line.w{stroke:var(--text);stroke-width:1.5}\
polyline.l{fill:none!important;stroke-width:2}\
.c0{fill:#3d7dca;stroke:#3d7dca}.c1{fill:#d9822b;stroke:#d9822b}.c2{fill:#3a9d5d;stroke:#3a9d5d}.c3{fill:#b8527f;stroke:#b8527f}\
.c4{fill:#7a68c7;stroke:#7a68c7}.c5{fill:#8a8d3a;stroke:#8a8d3a}.c6{fill:#2f9aa3;stroke:#2f9aa3}.c7{fill:#a05a3c;stroke:#a05a3c}\
b.y{color:var(--good)}b.x{color:var(--bad)}";

/// The page.
pub fn page(outcome: &Outcome) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>memcg lab</title><style>{STYLE}</style></head><body>\n\
         <h1>memcg lab</h1>\n<p>The published designs of memory control groups, measured against each other on one engine: \
         scale {}, seed {}, {} run(s) of each alternative, each in a process of its own. Times are CPU times, the median of \
         the runs; a thin line goes from the least to the greatest. What is counted is the same for the same seed.</p>\n<ul>",
        outcome.setting.scale, outcome.setting.seed, outcome.nr_runs
    );
    for (experiment, _) in &outcome.experiments {
        let _ = write!(
            html,
            "<li><a href=\"#{}\">{}</a></li>",
            escape(experiment.name),
            escape(experiment.title)
        );
    }
    html += "</ul>\n";
    for (experiment, results) in &outcome.experiments {
        html += &section(experiment, results);
    }
    html + "</body></html>\n"
}

fn section(experiment: &Experiment, results: &Results) -> String {
    let mut html = format!(
        "<section id=\"{}\"><h2>{}</h2>\n<p class=\"s\">{}</p><p>{}</p>\n<ul>",
        escape(experiment.name),
        escape(experiment.title),
        escape(experiment.source),
        escape(experiment.what)
    );
    for arm in experiment.arms {
        let _ = write!(
            html,
            "<li><b>{}</b>: {}</li>",
            escape(arm.name),
            escape(arm.title)
        );
    }
    html += "</ul>\n";
    html += &table(experiment, results);
    html += "<h3>What was predicted</h3>\n<div class=\"t\"><table>";
    for judged in judge(experiment, results) {
        html += &prediction(experiment, &judged);
    }
    html += "</table></div>\n";
    for plot in experiment.plots {
        let svg = lines(experiment, plot, results);
        if !svg.is_empty() {
            let _ = writeln!(
                html,
                "<h3>{}</h3>{}{svg}",
                escape(plot.title),
                legend(experiment)
            );
        }
    }
    for row in experiment.rows {
        let better = match row.better {
            Better::Less => "less is better",
            Better::More => "more is better",
        };
        let _ = writeln!(
            html,
            "<h3>{} <small>({better})</small></h3>{}",
            escape(row.title),
            bars(experiment, row, results)
        );
    }
    html + "</section>\n"
}

fn legend(experiment: &Experiment) -> String {
    let mut html = String::from("<p class=\"s\">");
    for (nr, arm) in experiment.arms.iter().enumerate() {
        let _ = write!(
            html,
            "<svg width=\"14\" height=\"12\"><rect class=\"c{nr}\" y=\"2\" width=\"10\" height=\"10\"/></svg>{} ",
            escape(arm.name)
        );
    }
    html + "</p>"
}

fn table(experiment: &Experiment, results: &Results) -> String {
    let mut html = String::from("<div class=\"t\"><table><tr><th></th>");
    for arm in experiment.arms {
        let _ = write!(html, "<th>{}</th>", escape(arm.name));
    }
    html += "</tr>";
    for row in experiment.rows {
        let _ = write!(html, "<tr><td>{}</td>", escape(row.title));
        for arm in 0..experiment.arms.len() {
            let value = results.median(arm, row.key);
            let text = value.map_or_else(|| "–".to_owned(), |value| figure(value, row.unit));
            let _ = write!(html, "<td>{}</td>", escape(&text));
        }
        html += "</tr>";
    }
    html + "</table></div>\n"
}

fn prediction(experiment: &Experiment, judged: &Judged) -> String {
    let about = judged.prediction;
    let Some(row) = experiment.row(about.row) else {
        return String::new();
    };
    let class = match judged.verdict {
        Verdict::BorneOut => "y",
        Verdict::NoDifference => "z",
        Verdict::NotSo => "x",
    };
    format!(
        "<tr><td><b class=\"{class}\">{}</b></td><td class=\"p\">{} {} against {}: {} <small>({})</small></td>\
         <td class=\"p\">{}: {} against {}</td></tr>",
        judged.verdict.text(),
        escape(about.arm),
        if about.wins { "wins" } else { "loses" },
        escape(about.than),
        escape(about.says),
        escape(about.by),
        escape(row.title),
        escape(&figure(judged.value, row.unit)),
        escape(&figure(judged.against, row.unit)),
    )
}
