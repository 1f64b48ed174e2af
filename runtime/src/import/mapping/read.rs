//! A mapping as it was written, and what is wrong with it.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use toml::{Table, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::{Ids, Kind, MAPPING_BYTES_MAX, Mapping, MetricRule};
use crate::decode::METRICS_MAX;
use crate::import::{
    ImportError, nearest,
    table::{TextHints, encoding_named},
    values::{DateOrder, Twice},
};

const TOP: [&str; 7] = ["kind", "ids", "file", "constants", "columns", "metrics", "values"];
const FILE: [&str; 10] = [
    "encoding",
    "separator",
    "header",
    "decimal",
    "timezone",
    "date_order",
    "time_format",
    "twice",
    "sentinels",
    "sheet",
];
const RULE: [&str; 5] = ["from", "scale", "offset", "unit", "text"];

fn wrong(detail: impl Into<String>) -> ImportError {
    ImportError::new("import.map_invalid", detail)
}

pub(super) fn read(text: &str) -> Result<Mapping, ImportError> {
    if text.len() > MAPPING_BYTES_MAX {
        return Err(wrong(format!(
            "the mapping has more than {MAPPING_BYTES_MAX} bytes"
        )));
    }
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        wrong(format!(
            "the mapping is not TOML: {}",
            error.to_string().trim().replace('\n', " ")
        ))
    })?;
    known("", &table, &TOP)?;
    let kind = match one_of(&table, "kind", &["readings", "scans"])? {
        Some("scans") => Kind::Scans,
        _ => Kind::Readings,
    };
    let ids = match one_of(&table, "ids", &["line", "content"])? {
        Some("content") => Ids::Content,
        _ => Ids::Line,
    };
    let file = section(&table, "file")?;
    known("file.", &file, &FILE)?;
    let (constants, columns) = (constants(&table, kind)?, columns(&table, kind)?);
    let mut mapping = Mapping {
        kind,
        ids,
        text: hints(&file)?,
        sheet: words(&file, "sheet")?.map(str::to_owned),
        decimal: one_of(&file, "decimal", &[".", ","])?.and_then(|sign| sign.chars().next()),
        zone: zone(&file)?,
        order: match one_of(&file, "date_order", &["dmy", "mdy"])? {
            Some("dmy") => Some(DateOrder::DayFirst),
            Some(_) => Some(DateOrder::MonthFirst),
            None => None,
        },
        twice: match one_of(&file, "twice", &["refuse", "earlier", "later"])? {
            Some("earlier") => Twice::Earlier,
            Some("later") => Twice::Later,
            _ => Twice::Refuse,
        },
        time_format: words(&file, "time_format")?.map(str::to_owned),
        sentinels: sentinels(&file)?,
        constants,
        columns,
        metrics: metrics(&table)?,
        values: values(&table)?,
        fingerprint: 0,
    };
    complete(&mapping)?;
    // Tables of TOML are kept in the order of their keys, so comments, order and spaces make no difference.
    mapping.fingerprint = xxh3_64(Value::Table(table).to_string().as_bytes());
    Ok(mapping)
}

/// What every import needs, and what does not go together.
fn complete(mapping: &Mapping) -> Result<(), ImportError> {
    let given = |field: &str| mapping.columns.contains_key(field) || mapping.constants.contains_key(field);
    let required: &[&str] = match mapping.kind {
        Kind::Readings => &["sensor_id", "timestamp"],
        Kind::Scans => &["job_id", "location", "timestamp"],
    };
    for field in required {
        if !given(field) {
            return Err(wrong(format!(
                "{field} is missing (say [columns] {field} = \"the column's name\"{})",
                if *field == "timestamp" {
                    ""
                } else {
                    ", or give it in [constants]"
                }
            )));
        }
    }
    if mapping.constants.contains_key("timestamp") {
        return Err(wrong(
            "constants.timestamp: a time for all rows is no history (name its column in [columns])",
        ));
    }
    if let Some(twice) = mapping
        .columns
        .keys()
        .find(|field| mapping.constants.contains_key(*field))
    {
        return Err(wrong(format!(
            "{twice} is in [columns] and in [constants] (take it out of one)"
        )));
    }
    if mapping.metrics.len() > METRICS_MAX {
        let detail = format!(
            "[metrics] names more than {METRICS_MAX} (import the file twice, with half of them each)"
        );
        return Err(wrong(detail));
    }
    let long = mapping.columns.contains_key("metric");
    match mapping.kind {
        Kind::Scans if !mapping.metrics.is_empty() => {
            Err(wrong("[metrics] is for readings, and kind is scans"))
        }
        Kind::Scans => Ok(()),
        Kind::Readings if long != mapping.columns.contains_key("value") => Err(wrong(
            "columns.metric and columns.value go together (a table with a metric a row has both)",
        )),
        Kind::Readings if !long && mapping.columns.contains_key("unit") => Err(wrong(
            "columns.unit is for tables with a metric a row (give columns.metric and columns.value)",
        )),
        Kind::Readings if !long && mapping.metrics.is_empty() => Err(wrong(
            "no metrics are named (say [metrics] power_kw = \"the column's name\", or columns.metric and columns.value)",
        )),
        Kind::Readings => match mapping.metrics.iter().find(|(_, rule)| rule.unit.is_some()) {
            Some((name, _)) if !mapping.columns.contains_key("unit") => Err(wrong(format!(
                "metrics.{name}.unit: no column says the unit (give columns.unit; the plant model says which unit a metric has)"
            ))),
            _ => Ok(()),
        },
    }
}

fn known(place: &str, table: &Table, known: &[&str]) -> Result<(), ImportError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(wrong(format!(
            "{place}{key} is unknown{} (known are {})",
            nearest(key, known.iter().copied()),
            known.join(", ")
        ))),
    }
}

fn section(table: &Table, name: &str) -> Result<Table, ImportError> {
    match table.get(name) {
        None => Ok(Table::new()),
        Some(Value::Table(section)) => Ok(section.clone()),
        Some(_) => Err(wrong(format!("{name} has to be a section, [{name}]"))),
    }
}

fn words<'t>(table: &'t Table, key: &str) -> Result<Option<&'t str>, ImportError> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(wrong(format!("{key} has to be text, in quotes"))),
    }
}

fn one_of<'t>(table: &'t Table, key: &str, words_known: &[&str]) -> Result<Option<&'t str>, ImportError> {
    let word = words(table, key)?;
    match word {
        Some(word) if !words_known.contains(&word) => Err(wrong(format!(
            "{key} = {word:?} is none of {}",
            words_known.join(", ")
        ))),
        word => Ok(word),
    }
}

fn hints(file: &Table) -> Result<TextHints, ImportError> {
    let encoding = match words(file, "encoding")? {
        None => None,
        Some(name) => Some(encoding_named(name).ok_or_else(|| {
            wrong(format!(
                "file.encoding = {name:?} is none of utf-8, utf-16le, utf-16be, windows-1252"
            ))
        })?),
    };
    let separator = match words(file, "separator")? {
        None => None,
        Some("tab" | "\\t") => Some(b'\t'),
        Some(text) if text.len() == 1 => Some(text.as_bytes()[0]),
        Some(text) => {
            return Err(wrong(format!(
                "file.separator = {text:?} is not one character of ASCII"
            )));
        }
    };
    let header_line = match file.get("header") {
        None | Some(Value::Boolean(true)) => None,
        Some(Value::Boolean(false)) => Some(0),
        Some(Value::Integer(line)) if *line > 0 => u64::try_from(*line).ok(),
        Some(_) => {
            return Err(wrong(
                "file.header has to be true, false or the header's line, from 1",
            ));
        }
    };
    Ok(TextHints {
        encoding,
        separator,
        header_line,
    })
}

fn zone(file: &Table) -> Result<Option<TimeZone>, ImportError> {
    let Some(name) = words(file, "timezone")? else {
        return Ok(None);
    };
    TimeZone::get(name).map(Some).map_err(|_| {
        wrong(format!(
            "file.timezone = {name:?} is not a time zone (use a name of the IANA database, e.g. Europe/Rome, or UTC)"
        ))
    })
}

fn sentinels(file: &Table) -> Result<Vec<String>, ImportError> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        _ => Err(wrong("file.sentinels holds what is neither text nor a number")),
    };
    match file.get("sentinels") {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(one).collect(),
        Some(_) => Err(wrong("file.sentinels has to be a list, e.g. [-200, \"n.a.\"]")),
    }
}

fn constants(table: &Table, kind: Kind) -> Result<BTreeMap<String, String>, ImportError> {
    let section = section(table, "constants")?;
    known("constants.", &section, kind.fields())?;
    let one = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Integer(number) => Ok((name, number.to_string())),
        Value::Float(number) => Ok((name, number.to_string())),
        _ => Err(wrong(format!("constants.{name} is neither text nor a number"))),
    };
    section.into_iter().map(one).collect()
}

fn columns(table: &Table, kind: Kind) -> Result<BTreeMap<String, Vec<String>>, ImportError> {
    let section = section(table, "columns")?;
    known("columns.", &section, kind.fields())?;
    let text = |field: &str, value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(wrong(format!(
            "columns.{field} has to be a column's name, or a list of them such as [\"Date\", \"Time\"]"
        ))),
    };
    section
        .iter()
        .map(|(field, value)| {
            let names = match value {
                Value::Array(several) if !several.is_empty() => several
                    .iter()
                    .map(|value| text(field, value))
                    .collect::<Result<_, _>>()?,
                one => vec![text(field, one)?],
            };
            Ok((field.clone(), names))
        })
        .collect()
}

fn metrics(table: &Table) -> Result<BTreeMap<String, MetricRule>, ImportError> {
    section(table, "metrics")?
        .iter()
        .map(|(name, value)| Ok((name.clone(), rule(name, value)?)))
        .collect()
}

fn rule(name: &str, value: &Value) -> Result<MetricRule, ImportError> {
    let plain = |from: &str| MetricRule {
        from: from.to_owned(),
        scale: 1.0,
        offset: 0.0,
        unit: None,
        text: false,
    };
    match value {
        Value::String(from) if !from.is_empty() => Ok(plain(from)),
        Value::Table(fields) => {
            known(&format!("metrics.{name}."), fields, &RULE)?;
            let from = words(fields, "from")?
                .ok_or_else(|| wrong(format!("metrics.{name}.from is missing (the column's name)")))?;
            let number = |key: &str, otherwise: f64| match fields.get(key) {
                None => Ok(otherwise),
                Some(Value::Float(number)) if number.is_finite() => Ok(*number),
                Some(Value::Integer(number)) => Ok(*number as f64),
                Some(_) => Err(wrong(format!("metrics.{name}.{key} has to be a number"))),
            };
            let mut rule = plain(from);
            rule.scale = number("scale", 1.0)?;
            rule.offset = number("offset", 0.0)?;
            rule.unit = words(fields, "unit")?.map(str::to_owned);
            rule.text = match fields.get("text") {
                None => false,
                Some(Value::Boolean(text)) => *text,
                Some(_) => return Err(wrong(format!("metrics.{name}.text has to be true or false"))),
            };
            Ok(rule)
        }
        _ => Err(wrong(format!(
            "metrics.{name} has to be a column's name, or {{ from = \"…\", scale = 0.001 }}"
        ))),
    }
}

fn values(table: &Table) -> Result<BTreeMap<String, BTreeMap<String, String>>, ImportError> {
    let one = |field: &str, cells: &Value| {
        let Value::Table(cells) = cells else {
            return Err(wrong(format!(
                "values.{field} has to be a section, e.g. [values.execution] Run = \"producing\""
            )));
        };
        let word = |(cell, ours): (&String, &Value)| match ours {
            Value::String(ours) => Ok((cell.clone(), ours.clone())),
            _ => Err(wrong(format!("values.{field}.{cell} has to be text, in quotes"))),
        };
        cells.iter().map(word).collect()
    };
    section(table, "values")?
        .iter()
        .map(|(field, cells)| Ok((field.clone(), one(field, cells)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: &str = r#"
        [file]
        timezone = "Europe/Rome"
        sentinels = [-200]
        [constants]
        sensor_id = "air-1"
        [columns]
        timestamp = ["Date", "Time"]
        [metrics]
        co_mgm3 = "CO(GT)"
        energy_kwh = { from = "Wh", scale = 0.001 }
    "#;

    #[test]
    fn a_mapping_is_read_and_known_again() {
        let mapping = Mapping::parse(WIDE).expect("valid");
        assert_eq!(mapping.wanted(), ["Date", "Time", "CO(GT)", "Wh"]);
        assert_eq!(mapping.metrics["energy_kwh"].scale, 0.001);
        let same = format!("# the same\n{}", WIDE.replace("        ", ""));
        assert_eq!(
            Mapping::parse(&same).expect("valid").fingerprint(),
            mapping.fingerprint()
        );
        let other = Mapping::parse(&WIDE.replace("0.001", "0.002")).expect("valid");
        assert_ne!(other.fingerprint(), mapping.fingerprint());
    }

    #[test]
    fn what_is_wrong_is_named_with_the_nearest_known() {
        for (from, to, named) in [
            ("timezone", "timezome", "did you mean timezone?"),
            ("[metrics]", "[metric]", "did you mean metrics?"),
            ("timestamp =", "timestmap =", "did you mean timestamp?"),
            ("scale", "scael", "did you mean scale?"),
            ("Europe/Rome", "Europe/Roam", "Europe/Roam"),
            ("sensor_id = \"air-1\"", "", "sensor_id is missing"),
            ("[\"Date\", \"Time\"]", "[]", "columns.timestamp"),
            ("[-200]", "-200", "sentinels"),
            ("[columns]", "[columns]\nmetric = \"M\"", "columns.value"),
            ("[columns]", "[columns]\nsensor_id = \"S\"", "take it out of one"),
            ("[file]", "kind = \"scnas\"\n[file]", "kind"),
            ("\"Wh\"", "\"Wh\", unit = \"kWh\"", "columns.unit"),
        ] {
            let text = WIDE.replacen(from, to, 1);
            assert_ne!(text, WIDE, "{from}");
            let error = Mapping::parse(&text).expect_err(to);
            assert_eq!(error.code, "import.map_invalid");
            assert!(error.detail.contains(named), "{to}: {}", error.detail);
        }
    }
}
