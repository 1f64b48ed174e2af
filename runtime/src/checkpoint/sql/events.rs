//! Readings and scans by SQL, where Snowpipe Streaming is not available.
//!
//! Promises: the lines are the same as those of Snowpipe Streaming, so that a row does not tell by which way it came.
//! They are inserted and not merged: a merge would look through the whole table, and the offset that moves in the same
//! transaction says already which of them are there.

use gemba_twins::time::Timestamp;

use super::statement::{Holds, ntz, quoted};
use crate::checkpoint::{client::Fault, place::Place, rows::Table};

/// The statement that inserts events' rows, a line of JSON each; `None` without lines.
pub(crate) fn insert_of(table: Table, schema: &str, lines: &[u8]) -> Result<Option<String>, Fault> {
    let columns: &[(&str, Holds)] = match table {
        Table::Readings => &READING,
        Table::Scans => &SCAN,
        Table::Twins => return Ok(None),
    };
    let text = std::str::from_utf8(lines).map_err(|error| Fault::Refused(error.to_string()))?;
    let values: Vec<String> = text.lines().map(|line| format!("({})", quoted(line))).collect();
    if values.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let read: Vec<String> = columns
        .iter()
        .map(|(name, holds)| read_of(name, *holds))
        .collect();
    Ok(Some(format!(
        "INSERT INTO {schema}.{} ({})\nSELECT {}\nFROM (SELECT PARSE_JSON(COLUMN1) AS R FROM VALUES\n{})",
        table.name(),
        names.join(", "),
        read.join(", "),
        values.join(",\n")
    )))
}

/// The statement that keeps a row, as a line of JSON, which the warehouse refuses.
pub(super) fn letter_of(
    place: &Place,
    schema: &str,
    seq: u64,
    says: &str,
    line: &[u8],
    now: Timestamp,
) -> String {
    let said: String = says.chars().take(4_000).collect();
    let (tenant, table, said, now) = (
        quoted(place.tenant.as_str()),
        quoted(place.table.name()),
        quoted(&said),
        quoted(&ntz(now)),
    );
    let line = quoted(String::from_utf8_lossy(line).trim_end());
    format!(
        "INSERT INTO {schema}.DEAD_LETTERS (TENANT_ID, SHARD, SEQ, TARGET_TABLE, REASON, REFUSED_TS, CONTENT) \
         SELECT {tenant}, {}, {seq}, {table}, {said}, {now}::TIMESTAMP_NTZ(3), PARSE_JSON({line})",
        place.shard
    )
}

fn read_of(name: &str, holds: Holds) -> String {
    match holds {
        Holds::Text => format!("R:{name}::VARCHAR"),
        Holds::Whole => format!("R:{name}::NUMBER(20, 0)"),
        Holds::Number => format!("R:{name}::FLOAT"),
        Holds::Time => format!("R:{name}::VARCHAR::TIMESTAMP_NTZ(3)"),
        Holds::Flag => format!("R:{name}::BOOLEAN"),
        // A null of JSON is no null of SQL, which is what Snowpipe Streaming makes of it.
        Holds::Json => format!("IFF(R:{name}::VARCHAR IS NULL, NULL, R:{name})"),
    }
}

static READING: [(&str, Holds); 15] = [
    ("TENANT_ID", Holds::Text),
    ("SHARD", Holds::Whole),
    ("SEQ", Holds::Whole),
    ("TWIN_KIND", Holds::Text),
    ("TWIN_ID", Holds::Text),
    ("SENSOR_ID", Holds::Text),
    ("SENSOR_TYPE", Holds::Text),
    ("LOCATION_ID", Holds::Text),
    ("EVENT_TS", Holds::Time),
    ("RECEIVED_TS", Holds::Time),
    ("PAYLOAD", Holds::Json),
    ("QUALITY_SCORE", Holds::Number),
    ("DEVICE_METADATA", Holds::Json),
    ("SOURCE_SYSTEM", Holds::Text),
    ("MESSAGE_ID", Holds::Text),
];

static SCAN: [(&str, Holds); 15] = [
    ("TENANT_ID", Holds::Text),
    ("SHARD", Holds::Whole),
    ("SEQ", Holds::Whole),
    ("JOB_ID", Holds::Text),
    ("LOCATION", Holds::Text),
    ("SCAN_TS", Holds::Time),
    ("RECEIVED_TS", Holds::Time),
    ("READER_ID", Holds::Text),
    ("PRODUCT_ID", Holds::Text),
    ("PRODUCT_VARIANT", Holds::Text),
    ("OPERATOR_ID", Holds::Text),
    ("COMPLETES", Holds::Flag),
    ("RETRACTS", Holds::Flag),
    ("METADATA", Holds::Json),
    ("MESSAGE_ID", Holds::Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_rows_by_their_names() {
        assert_eq!(insert_of(Table::Scans, "DB.S", b""), Ok(None));
        let lines = b"{\"JOB_ID\":\"j'1\"}\n{\"JOB_ID\":\"a\\\\b\"}\n";
        let statement = insert_of(Table::Scans, "DB.S", lines)
            .expect("lines")
            .expect("a statement");
        assert!(statement.starts_with("INSERT INTO DB.S.JOB_TRACKING (TENANT_ID, SHARD, SEQ, JOB_ID, "));
        assert!(
            statement.contains("R:COMPLETES::BOOLEAN, R:RETRACTS::BOOLEAN"),
            "{statement}"
        );
        let values = r#"VALUES
('{"JOB_ID":"j''1"}'),
('{"JOB_ID":"a\\\\b"}'))"#;
        assert!(statement.ends_with(values), "{statement}");
    }
}
