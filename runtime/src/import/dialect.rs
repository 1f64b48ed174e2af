//! The dialect of a file, sniffed from its beginning and shown before anything is loaded.
//!
//! Promises: pure over what it is shown; says what it found and what it cannot decide. What is ambiguous stays so until
//! the mapping says it: the order of day and month, a value such as -200 that may mean "not measured".

use serde::Serialize;

use super::{
    table::{Cell, Layout},
    values::{DateOrder, civil, is_absent, number, time_of_day},
};

/// Values that loggers write for "not measured", where they are far from all others of their column.
const SUSPECTS: [f64; 10] = [
    -200.0, -999.0, -9999.0, -99.0, -99.9, -32768.0, 9999.0, 99999.0, 65535.0, 32767.0,
];

/// What a column holds, as far as its beginning tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnSeen {
    /// Its name; a second one of the same name has `#2` behind it.
    pub name: String,
    /// `empty`, `number`, `time`, `words` or `mixed`.
    pub holds: &'static str,
    /// The first value that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// A value that probably means "not measured", and how often it occurs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspect: Option<(f64, usize)>,
    /// Which orders of day and month its dates allow: day first, month first.
    #[serde(skip)]
    orders: Option<(bool, bool)>,
    #[serde(skip)]
    decimals: (usize, usize),
}

/// How a file is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dialect {
    /// `csv`, `xlsx`, `json` or `ndjson`.
    pub format: &'static str,
    /// The encoding of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// Whether a byte order mark stands before it.
    pub bom: bool,
    /// What separates fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
    /// The line of the header; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_line: Option<u64>,
    /// The decimal sign of numbers.
    pub decimal: char,
    /// `dmy`, `mdy`, `ambiguous`, or absent where the year comes first or there are no dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_order: Option<&'static str>,
    /// The columns in their order.
    pub columns: Vec<ColumnSeen>,
    /// What somebody should know before loading.
    pub notes: Vec<String>,
}

impl Dialect {
    /// The order of day and month, where the file's dates allow one only.
    pub(super) fn order(&self) -> Option<DateOrder> {
        match self.date_order {
            Some("dmy") => Some(DateOrder::DayFirst),
            Some("mdy") => Some(DateOrder::MonthFirst),
            _ => None,
        }
    }
}

/// Looks at the first rows of a table.
pub(super) fn look(
    format: &'static str,
    layout: &Layout,
    names: &[String],
    rows: &[Vec<Cell>],
    sentinels: &[String],
) -> Dialect {
    let columns: Vec<ColumnSeen> = names
        .iter()
        .enumerate()
        .map(|(at, name)| column(name, rows.iter().filter_map(|row| row.get(at)), sentinels))
        .collect();
    let decimals = columns.iter().fold((0, 0), |sum, column| {
        (sum.0 + column.decimals.0, sum.1 + column.decimals.1)
    });
    let decimal = if decimals.1 > decimals.0 { ',' } else { '.' };
    let mut notes = Vec::new();
    let (mut encoding, mut bom, mut separator, mut header_line) = (None, false, None, None);
    if let Layout::Text(text) = layout {
        encoding = Some(text.encoding.name());
        bom = text.bom;
        separator = Some(char::from(text.separator));
        header_line = (text.header_line > 0).then_some(text.header_line);
        for name in &text.doubled {
            notes.push(format!(
                "the header has {name:?} twice: the second one is called \"{name}#2\""
            ));
        }
        if header_line.is_none() {
            notes.push("there is no header: columns are called \"1\", \"2\", …".to_owned());
        }
        if text.encoding == encoding_rs::WINDOWS_1252 {
            notes.push("the text is not UTF-8 and is read as windows-1252".to_owned());
        }
    }
    if decimals.0 > 0 && decimals.1 > 0 {
        notes.push(format!(
            "numbers are written with a decimal point {} times and with a comma {} times: {decimal:?} is taken",
            decimals.0, decimals.1
        ));
    }
    let date_order = date_order(&columns, &mut notes);
    for column in &columns {
        if let Some((value, count)) = column.suspect {
            notes.push(format!(
                "{:?} holds {value} {count} times, far from its other values: if it means \"not measured\", say \
                 sentinels = [{value}] in [file]",
                column.name
            ));
        }
    }
    Dialect {
        format,
        encoding,
        bom,
        separator,
        header_line,
        decimal,
        date_order,
        columns,
        notes,
    }
}

fn date_order(columns: &[ColumnSeen], notes: &mut Vec<String>) -> Option<&'static str> {
    let dates = columns.iter().filter_map(|column| column.orders);
    let (day_first, month_first) = dates.reduce(|all, one| (all.0 && one.0, all.1 && one.1))?;
    match (day_first, month_first) {
        (true, false) => Some("dmy"),
        (false, true) => Some("mdy"),
        (true, true) => {
            notes.push("dates such as 03/04/2024 could have the day or the month first: say date_order = \"dmy\" or \"mdy\" in [file]".to_owned());
            Some("ambiguous")
        }
        (false, false) => {
            notes.push(
                "some dates have the day first, others the month: rows that do not fit will be refused"
                    .to_owned(),
            );
            Some("ambiguous")
        }
    }
}

fn column<'c>(name: &str, cells: impl Iterator<Item = &'c Cell>, sentinels: &[String]) -> ColumnSeen {
    let (mut numbers, mut times, mut words, mut values) = (0, 0, 0, Vec::new());
    let mut seen = ColumnSeen {
        name: name.to_owned(),
        holds: "empty",
        example: None,
        suspect: None,
        orders: None,
        decimals: (0, 0),
    };
    for cell in cells {
        let shown = cell.shown();
        if is_absent(&shown) || sentinels.contains(&shown) {
            continue;
        }
        seen.example
            .get_or_insert_with(|| shown.chars().take(60).collect());
        match cell {
            Cell::Absent => {}
            Cell::Time(_) => times += 1,
            Cell::Bool(_) => words += 1,
            Cell::Number(number) => {
                numbers += 1;
                values.push(*number);
            }
            Cell::Text(text) => match (number(text, '.'), number(text, ',')) {
                (Ok(value), comma) => {
                    numbers += 1;
                    values.push(value);
                    // A whole number says nothing of the sign.
                    seen.decimals.0 += usize::from(comma.is_err());
                }
                (Err(_), Ok(value)) => {
                    numbers += 1;
                    values.push(value);
                    seen.decimals.1 += 1;
                }
                _ => match civil(text) {
                    Some(written) => {
                        times += 1;
                        if !written.is_year_first() {
                            let (allowed, known) = (written.allows(), seen.orders.unwrap_or((true, true)));
                            seen.orders = Some((known.0 && allowed.0, known.1 && allowed.1));
                        }
                    }
                    None if text.parse::<gemba_twins::time::Timestamp>().is_ok() => times += 1,
                    None if time_of_day(text).is_some() => times += 1,
                    None => words += 1,
                },
            },
        }
    }
    seen.holds = match (numbers, times, words) {
        (0, 0, 0) => "empty",
        (_, 0, 0) => "number",
        (0, _, 0) => "time",
        (0, 0, _) => "words",
        _ => "mixed",
    };
    seen.suspect = suspect(&values);
    seen
}

/// A value of the known ones that occurs more than once and lies beyond all others by more than their whole range.
fn suspect(values: &[f64]) -> Option<(f64, usize)> {
    SUSPECTS.iter().find_map(|suspect| {
        let count = values.iter().filter(|value| *value == suspect).count();
        let rest = values.iter().filter(|value| *value != suspect);
        let (low, high) = rest.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
        let range = (high - low).max(1.0);
        let far = low.is_finite() && (*suspect < low - range.min(100.0) || *suspect > high + range);
        (count > 1 && far).then_some((*suspect, count))
    })
}
