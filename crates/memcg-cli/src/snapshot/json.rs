//! A snapshot as JSON: the head's numbers, then the groups with every column the engine sent, in
//! its order.

use super::groups::{Cell, Group, Snapshot};
use serde::ser::{Serialize, SerializeMap, Serializer};

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(8))?;
        map.serialize_entry("pid", &self.pid)?;
        map.serialize_entry("comm", &self.comm)?;
        map.serialize_entry("uptime_ms", &self.uptime_ms)?;
        map.serialize_entry("rss", &self.rss)?;
        map.serialize_entry("charged", &self.charged)?;
        map.serialize_entry("coverage", &self.coverage)?;
        map.serialize_entry("accounting", &self.accounting)?;
        map.serialize_entry("groups", &self.groups)?;
        map.end()
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.cells.len() + 1))?;
        map.serialize_entry("path", &String::from_utf8_lossy(&self.path))?;
        for (name, cell) in &self.cells {
            map.serialize_entry(name, cell)?;
        }
        map.end()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Number(number) => serializer.serialize_u64(*number),
            Cell::Max => serializer.serialize_str("max"),
            Cell::Text(text) => serializer.serialize_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{parse, tests::TEXT};

    #[test]
    fn limits_are_numbers_or_max_and_columns_keep_their_order() {
        let json = serde_json::to_string(&parse(TEXT).expect("a snapshot")).expect("JSON");
        assert!(
            json.starts_with(r#"{"pid":42,"comm":"my app","uptime_ms":1500,"rss":2097152,"#),
            "{json}"
        );
        assert!(json.contains(
            r#"{"path":"/b c","current":4096,"peak":8192,"max":16384,"high":"max","tasks":2,"#
        ));
    }
}
