//! A report as a whole: its tables, what holds of the targets, what failed; as text and as files.

use crate::report::Report;
use crate::{json, machine, targets};
use std::path::PathBuf;

/// All of it.
pub fn text(report: &Report<'_>, markdown: bool) -> String {
    let mut out = report.tables(markdown);
    targets::write(report, &mut out, markdown);
    out + &report.failed()
}

/// Writes the Markdown and the JSON; answers where the Markdown is.
pub fn save(report: &Report<'_>) -> Result<PathBuf, String> {
    let dir = report.options.bench.join("results");
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    let part = if report.options.is_whole() {
        ""
    } else {
        "-part"
    };
    let stem = format!("{}-{}{part}", machine::day(), machine::name());
    let path = dir.join(format!("{stem}.md"));
    for (path, text) in [
        (path.clone(), text(report, true)),
        (dir.join(format!("{stem}.json")), json::text(report)),
    ] {
        std::fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(path)
}
