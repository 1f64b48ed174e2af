//! From a row to a native reading or scan, or to the reason why not.
//!
//! Promises: pure; a row with a cell that cannot be read is refused whole, with the column and the mend, and nothing of
//! it is loaded; what was not measured is left out, never zero; a row in which nothing was measured becomes nothing.

use serde_json::{Map, Value as Json, json};

use super::{
    dialect::Dialect,
    mapping::{Ids, Kind, Mapping, MetricRule},
    table::{Cell, Row},
    values::{TimeRules, epoch, is_absent, number, time_of_day},
};

/// What a row becomes.
#[derive(Debug, Clone, PartialEq)]
pub enum Becomes {
    /// A native reading or scan, as JSON.
    Message(String),
    /// Nothing: the row is empty, or none of its metrics was measured.
    Nothing,
    /// Nothing, for this reason.
    Bad {
        /// For programs, e.g. `import.number_invalid`.
        code: &'static str,
        /// The column, what is wrong, and the mend.
        detail: String,
    },
}

/// A row of a file and what it becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// The line in a text, the row in a sheet, the number in a JSON array; from 1.
    pub line: u64,
    /// What it becomes.
    pub becomes: Becomes,
    /// The cells that were read, as they were, for showing a row that is bad.
    pub cells: String,
}

/// Maps the rows of one file.
#[derive(Debug, Clone)]
pub(super) struct RowMapper {
    mapping: Mapping,
    times: TimeRules,
    decimal: char,
    sentinels: Vec<(String, Option<f64>)>,
    wanted: Vec<String>,
    /// Of the wanted columns, whether they hold words.
    words: Vec<bool>,
}

type Bad = (&'static str, String);

impl RowMapper {
    pub(super) fn new(mapping: &Mapping, dialect: &Dialect) -> Self {
        let wanted = mapping.wanted();
        let holds = |name: &String| dialect.columns.iter().find(|column| column.name == *name);
        let sentinel = |text: &String| (text.clone(), text.replace(',', ".").parse().ok());
        Self {
            times: TimeRules {
                order: mapping.order.or(dialect.order()),
                zone: mapping.zone.clone(),
                twice: mapping.twice,
                format: mapping.time_format.clone(),
            },
            decimal: mapping.decimal.unwrap_or(dialect.decimal),
            sentinels: mapping.sentinels.iter().map(sentinel).collect(),
            words: wanted
                .iter()
                .map(|name| {
                    let words = |holds| holds == "words" || (mapping.is_long() && holds == "mixed");
                    holds(name).is_some_and(|column| words(column.holds))
                })
                .collect(),
            wanted,
            mapping: mapping.clone(),
        }
    }

    pub(super) fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// What a row becomes; `identity` stands for the file and its mapping in message ids.
    pub(super) fn map(&self, row: &Row, identity: &str) -> Mapped {
        let cells = match &row.cells {
            Ok(cells) => cells,
            Err(detail) => {
                return Mapped {
                    line: row.line,
                    becomes: Becomes::Bad {
                        code: "import.row_unreadable",
                        detail: detail.clone(),
                    },
                    cells: String::new(),
                };
            }
        };
        let becomes = if cells.iter().all(|cell| self.is_absent(cell)) {
            Becomes::Nothing
        } else {
            match self.message(row.line, cells, identity) {
                Ok(Some(message)) => Becomes::Message(message.to_string()),
                Ok(None) => Becomes::Nothing,
                Err((code, detail)) => Becomes::Bad { code, detail },
            }
        };
        let shown = match becomes {
            Becomes::Bad { .. } => cells.iter().map(Cell::shown).collect::<Vec<_>>().join("; "),
            _ => String::new(),
        };
        Mapped {
            line: row.line,
            becomes,
            cells: shown,
        }
    }

    fn message(&self, line: u64, cells: &[Cell], identity: &str) -> Result<Option<Json>, Bad> {
        let mut message = Map::new();
        if self.mapping.kind == Kind::Readings {
            let metrics = if self.mapping.is_long() {
                self.long(cells)?
            } else {
                self.wide(cells)?
            };
            if metrics.is_empty() {
                return Ok(None);
            }
            message.insert("metrics".into(), Json::Object(metrics));
        }
        for field in self.mapping.kind.fields() {
            match *field {
                "metric" | "value" | "unit" => {}
                "timestamp" => {
                    let at = self.timestamp(cells)?;
                    message.insert("timestamp".into(), json!(at));
                }
                "quality_score" => {
                    if let Some(text) = self.field(field, cells) {
                        let score = number(&text, self.decimal).map_err(|detail| {
                            ("import.number_invalid", format!("quality_score: {detail}"))
                        })?;
                        message.insert("quality_score".into(), json!(score));
                    }
                }
                field => {
                    if let Some(text) = self.field(field, cells) {
                        message.insert(field.into(), json!(text));
                    }
                }
            }
        }
        if self.mapping.ids == Ids::Line && !message.contains_key("message_id") {
            message.insert("message_id".into(), json!(format!("import:{identity}:{line}")));
        }
        Ok(Some(Json::Object(message)))
    }

    fn cell<'c>(&self, name: &str, cells: &'c [Cell]) -> (usize, &'c Cell) {
        let at = self
            .wanted
            .iter()
            .position(|known| known == name)
            .unwrap_or(usize::MAX);
        (at, cells.get(at).unwrap_or(&Cell::Absent))
    }

    fn cells_of<'c>(&self, field: &str, cells: &'c [Cell]) -> Vec<&'c Cell> {
        let columns = self.mapping.columns.get(field);
        columns
            .into_iter()
            .flatten()
            .map(|name| self.cell(name, cells).1)
            .collect()
    }

    /// The text of a field: of its columns, joined by spaces, or its constant.
    fn field(&self, field: &str, cells: &[Cell]) -> Option<String> {
        if let Some(constant) = self.mapping.constants.get(field) {
            return Some(constant.clone());
        }
        let parts = self.cells_of(field, cells);
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|cell| **cell != Cell::Absent)
            .map(Cell::shown)
            .collect();
        let text = parts.join(" ");
        (!text.is_empty()).then(|| self.meaning(field, &text).unwrap_or(text))
    }

    fn meaning(&self, field: &str, cell: &str) -> Option<String> {
        self.mapping.values.get(field)?.get(cell).cloned()
    }

    fn timestamp(&self, cells: &[Cell]) -> Result<gemba_twins::time::Timestamp, Bad> {
        let parts = self.cells_of("timestamp", cells);
        let read = match parts.as_slice() {
            [Cell::Time(time)] => self.times.placed(*time),
            [Cell::Time(date), Cell::Time(time)] => self.times.placed(date.date().to_datetime(time.time())),
            [Cell::Time(date), rest] => match time_of_day(rest.shown().trim()) {
                Some(time) => self.times.placed(date.date().to_datetime(time)),
                None => Err(format!("{:?} is not a time of day", rest.shown())),
            },
            [Cell::Number(seconds)] if self.times.format.is_none() => epoch(*seconds),
            parts => {
                let shown: Vec<String> = parts.iter().map(|cell| cell.shown()).collect();
                let text = shown.join(" ");
                if text.trim().is_empty() {
                    Err("is empty".to_owned())
                } else {
                    self.times.read(&text)
                }
            }
        };
        read.map_err(|detail| {
            let columns = self.mapping.columns.get("timestamp").cloned().unwrap_or_default();
            (
                "import.timestamp_invalid",
                format!("{}: {detail}", columns.join(" + ")),
            )
        })
    }

    fn is_absent(&self, cell: &Cell) -> bool {
        match cell {
            Cell::Absent => true,
            Cell::Number(number) => self.sentinels.iter().any(|(_, known)| *known == Some(*number)),
            Cell::Text(text) => {
                is_absent(text)
                    || self.sentinels.iter().any(|(word, known)| {
                        word == text
                            || known
                                .is_some_and(|known| number(text, self.decimal).is_ok_and(|own| own == known))
                    })
            }
            Cell::Bool(_) | Cell::Time(_) => false,
        }
    }

    fn wide(&self, cells: &[Cell]) -> Result<Map<String, Json>, Bad> {
        let mut metrics = Map::new();
        for (name, rule) in &self.mapping.metrics {
            let (at, cell) = self.cell(&rule.from, cells);
            let words = self.words.get(at).copied().unwrap_or(false);
            if let Some(value) = self.value(name, &rule.from, cell, rule, words)? {
                metrics.insert(name.clone(), value);
            }
        }
        Ok(metrics)
    }

    fn long(&self, cells: &[Cell]) -> Result<Map<String, Json>, Bad> {
        let mut metrics = Map::new();
        let Some(named) = self.field("metric", cells) else {
            return Err(("import.metric_missing", "the row names no metric".to_owned()));
        };
        let found = self.mapping.metrics.iter().find(|(_, rule)| rule.from == named);
        let plain = MetricRule {
            from: named.clone(),
            scale: 1.0,
            offset: 0.0,
            unit: None,
            text: false,
        };
        let (name, rule) = match found {
            Some((name, rule)) => (name.as_str(), rule),
            None if self.mapping.metrics.is_empty() => (named.as_str(), &plain),
            // A metric that the mapping does not name is not wanted.
            None => return Ok(metrics),
        };
        if let (Some(unit), said) = (&rule.unit, self.field("unit", cells))
            && said.as_ref() != Some(unit)
        {
            let detail = format!(
                "{named} comes in {:?} where the mapping says {unit:?} (units are never converted silently)",
                said.unwrap_or_default()
            );
            return Err(("import.unit_differs", detail));
        }
        let Some(column) = self.mapping.columns.get("value").and_then(|names| names.first()) else {
            return Ok(metrics);
        };
        let (at, cell) = self.cell(column, cells);
        let words = self.words.get(at).copied().unwrap_or(false);
        if let Some(value) = self.value(name, column, cell, rule, words)? {
            metrics.insert(name.to_owned(), value);
        }
        Ok(metrics)
    }

    fn value(
        &self,
        metric: &str,
        column: &str,
        cell: &Cell,
        rule: &MetricRule,
        words: bool,
    ) -> Result<Option<Json>, Bad> {
        if self.is_absent(cell) {
            return Ok(None);
        }
        let shown = cell.shown();
        if let Some(meaning) = self.meaning(metric, &shown) {
            return Ok(Some(json!(meaning)));
        }
        if rule.text {
            return Ok(Some(json!(shown)));
        }
        match cell {
            Cell::Number(number) => Ok(Some(json!(rule.apply(*number)))),
            Cell::Bool(truth) => Ok(Some(json!(truth))),
            Cell::Text(text) => match number(text, self.decimal) {
                Ok(number) => Ok(Some(json!(rule.apply(number)))),
                Err(_) if words || self.mapping.values.contains_key(metric) => Ok(Some(json!(text))),
                Err(detail) => Err((
                    "import.number_invalid",
                    format!(
                        "{column}: {detail} (add it to sentinels if it means \"not measured\", or say text = true)"
                    ),
                )),
            },
            Cell::Time(_) | Cell::Absent => Err((
                "import.number_invalid",
                format!("{column}: {shown} is a time (say text = true to keep it as a word)"),
            )),
        }
    }
}
