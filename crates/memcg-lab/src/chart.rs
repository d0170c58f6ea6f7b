//! Pictures for the page: bars of a row, lines of a plot, as SVG. Colours are the page's.

#![forbid(unsafe_code)]

use crate::design::{Experiment, Plot, Row, Unit};
use crate::results::Results;
use crate::text::figure;
use std::fmt::Write as _;

const WIDTH: f64 = 620.0;
const NAMES: f64 = 170.0;
const BAR: f64 = 18.0;

/// Text for HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}

/// A bar for each arm; a thin line from the least to the greatest of its runs.
pub fn bars(experiment: &Experiment, row: &Row, results: &Results) -> String {
    let found: Vec<(usize, f64, (f64, f64))> = (0..experiment.arms.len())
        .filter_map(|arm| {
            let value = results.median(arm, row.key)?;
            Some((arm, value, results.range(arm, row.key)?))
        })
        .collect();
    let most = found
        .iter()
        .map(|(_, _, (_, high))| *high)
        .fold(0.0, f64::max);
    let scale = |value: f64| match most {
        0.0 => 0.0,
        most => value / most * (WIDTH - NAMES - 90.0),
    };
    let height = found.len() as f64 * (BAR + 4.0);
    let mut svg = open(height, row.title);
    for (at, (arm, value, (low, high))) in found.iter().enumerate() {
        let y = at as f64 * (BAR + 4.0);
        let text = figure(*value, row.unit);
        let wide = scale(*value);
        let _ = write!(
            svg,
            "<text class=\"n\" x=\"{:.0}\" y=\"{:.1}\">{}</text>\
             <rect class=\"c{arm}\" x=\"{NAMES:.0}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR:.0}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            y + 13.5,
            escape(experiment.arms[*arm].name),
            wide.max(1.0),
            NAMES + scale(*high).max(wide) + 6.0,
            y + 13.5,
            escape(&text),
        );
        if high > low {
            let _ = write!(
                svg,
                "<line class=\"w\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                NAMES + scale(*low),
                NAMES + scale(*high),
                y + BAR / 2.0,
                y + BAR / 2.0,
            );
        }
    }
    svg + "</svg>"
}

const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const FOOT: f64 = 34.0;

/// A line for each arm that has points. Empty if none has.
pub fn lines(experiment: &Experiment, plot: &Plot, results: &Results) -> String {
    let series: Vec<(usize, &[(f64, f64)])> = (0..experiment.arms.len())
        .map(|arm| (arm, results.points(arm, plot.key)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let all = || series.iter().flat_map(|(_, points)| points.iter());
    let right = all().map(|point| point.0).fold(0.0, f64::max).max(1.0);
    let top = all().map(|point| point.1).fold(0.0, f64::max).max(1.0);
    if series.is_empty() {
        return String::new();
    }
    let (wide, high) = (WIDTH - LEFT - 10.0, HEIGHT - FOOT - 10.0);
    let x = |value: f64| LEFT + value / right * wide;
    let y = |value: f64| 10.0 + high - value / top * high;
    let mut svg = open(HEIGHT, plot.title);
    for part in 0..=4 {
        let part = f64::from(part) / 4.0;
        let _ = write!(
            svg,
            "<line class=\"g\" x1=\"{LEFT:.0}\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"n\" x=\"{:.0}\" y=\"{:.1}\">{}</text>\
             <text class=\"m\" x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            WIDTH - 10.0,
            y(top * part),
            y(top * part),
            LEFT - 6.0,
            y(top * part) + 4.0,
            escape(&figure(top * part, plot.unit)),
            x(right * part),
            HEIGHT - FOOT + 16.0,
            escape(&figure(right * part, Unit::Count)),
        );
    }
    let _ = write!(
        svg,
        "<text class=\"m\" x=\"{:.0}\" y=\"{:.0}\">{}</text>",
        LEFT + wide / 2.0,
        HEIGHT - 4.0,
        escape(plot.across)
    );
    for (arm, points) in &series {
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        // Lines that lie on each other are told apart by their dashes.
        let _ = write!(
            svg,
            "<polyline class=\"l c{arm}\" stroke-dasharray=\"{}\" points=\"{}\"><title>{}</title></polyline>",
            ["none", "8 3", "2 3", "8 3 2 3", "4 4", "12 4", "1 2", "6 2"][arm % 8],
            path.join(" "),
            escape(experiment.arms[*arm].name)
        );
    }
    svg + "</svg>"
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg role=\"img\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" height=\"{height:.0}\"><title>{}</title>",
        escape(title)
    )
}
