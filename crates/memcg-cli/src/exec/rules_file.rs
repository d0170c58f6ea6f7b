//! `--rules FILE`: rules that are too many for a command line.
//!
//! One `GLOB=PATH` a line. Blanks around a line, empty lines and lines that begin with `#` are
//! passed over.

use super::rules::GroupRule;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// The rules of one file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesFile(Vec<GroupRule>);

impl RulesFile {
    /// Reads the file; the error says what is wrong, and in which line.
    pub fn read(path: &OsStr) -> Result<RulesFile, String> {
        RulesFile::parse(&fs::read(path).map_err(|e| e.to_string())?)
    }

    /// The rules.
    pub fn rules(&self) -> impl Iterator<Item = &GroupRule> {
        self.0.iter()
    }

    fn parse(text: &[u8]) -> Result<RulesFile, String> {
        let lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        let rules = lines
            .enumerate()
            .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
        rules
            .map(|(i, line)| {
                GroupRule::parse(OsStr::from_bytes(line))
                    .map_err(|why| format!("line {}: {why}", i + 1))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(RulesFile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_rules_in_order_and_nothing_else() {
        let text = b"# tenants\nacme-*=/acme\r\n\n  bob?=/b o b\n\t#x=/y\n*=/rest";
        let file = RulesFile::parse(text).expect("it is right");
        let rules: Vec<&[u8]> = file.rules().map(GroupRule::as_bytes).collect();
        assert_eq!(rules, [&b"acme-*=/acme"[..], b"bob?=/b o b", b"*=/rest"]);
        assert_eq!(RulesFile::parse(b""), Ok(RulesFile(Vec::new())));
    }

    #[test]
    fn an_error_names_its_line() {
        let wrong = |text: &str| RulesFile::parse(text.as_bytes()).expect_err("it is wrong");
        assert!(wrong("a=/a\n\n# x\nb\n").starts_with("line 4: there is no '='"));
        assert!(wrong("a=a").starts_with("line 1: PATH must begin"));
    }
}
