//! `map.toml`: which column is what, and what a file's bytes cannot tell.
//!
//! Promises: an unknown key is refused by its name with the nearest known one; what is required and missing is told;
//! the same mapping has the same fingerprint, so that a repetition of an import is known as one. Knows nothing of any
//! particular file.

mod read;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    table::TextHints,
    values::{DateOrder, Twice},
};

/// Largest mapping, in bytes.
pub const MAPPING_BYTES_MAX: usize = 256 << 10;

/// What a file's rows become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Readings of sensors, for `/v1/readings`.
    Readings,
    /// Scans of jobs, for `/v1/scans`.
    Scans,
}

impl Kind {
    /// The call that takes them.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Readings => "/v1/readings",
            Self::Scans => "/v1/scans",
        }
    }

    pub(super) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Readings => &[
                "sensor_id",
                "timestamp",
                "sensor_type",
                "location_id",
                "quality_score",
                "source_system",
                "message_id",
                "metric",
                "value",
                "unit",
            ],
            Self::Scans => &[
                "job_id",
                "location",
                "timestamp",
                "reader_id",
                "product_id",
                "product_variant",
                "operator_id",
                "message_id",
            ],
        }
    }
}

/// How a row's message id is made, where the file has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ids {
    /// Of the file's content and the line: two rows that are the same are two messages.
    #[default]
    Line,
    /// Of the message's content: rows that other files have too count once.
    Content,
}

/// How a column becomes a metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MetricRule {
    /// The column of a wide table, or the name in the metric column of a long one.
    pub(super) from: String,
    pub(super) scale: f64,
    pub(super) offset: f64,
    /// The unit that the unit column of a long table has to say.
    pub(super) unit: Option<String>,
    /// The cell is a word, also where it looks like a number.
    pub(super) text: bool,
}

impl MetricRule {
    /// A value in our unit. Thousandths are divided for, so that 5123400 Wh are 5123.4 kWh to the last bit.
    pub(super) fn apply(&self, value: f64) -> f64 {
        let inverse = (1.0 / self.scale).round();
        let scaled = if self.scale.abs() < 1.0 && 1.0 / inverse == self.scale {
            value / inverse
        } else {
            value * self.scale
        };
        scaled + self.offset
    }
}

/// A valid mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub(super) kind: Kind,
    pub(super) ids: Ids,
    pub(super) text: TextHints,
    pub(super) sheet: Option<String>,
    pub(super) decimal: Option<char>,
    pub(super) zone: Option<TimeZone>,
    pub(super) order: Option<DateOrder>,
    pub(super) twice: Twice,
    pub(super) time_format: Option<String>,
    pub(super) sentinels: Vec<String>,
    /// Fields that every row has.
    pub(super) constants: BTreeMap<String, String>,
    /// Columns of a field; several are joined by a space.
    pub(super) columns: BTreeMap<String, Vec<String>>,
    /// By our name.
    pub(super) metrics: BTreeMap<String, MetricRule>,
    /// What cells of a field or metric mean: by field, by cell.
    pub(super) values: BTreeMap<String, BTreeMap<String, String>>,
    fingerprint: u64,
}

impl Mapping {
    /// Reads a mapping. An error is one sentence that names the key and the mend.
    pub fn parse(text: &str) -> Result<Self, super::ImportError> {
        read::read(text)
    }

    /// What the rows become.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same for mappings that say the same.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether each row has one metric, named by a column.
    pub(super) fn is_long(&self) -> bool {
        self.columns.contains_key("metric")
    }

    /// The columns that are read, each once.
    pub(super) fn wanted(&self) -> Vec<String> {
        let mut wanted: Vec<String> = Vec::new();
        let fields = self.columns.values().flatten();
        let metrics = self
            .metrics
            .values()
            .filter(|_| !self.is_long())
            .map(|rule| &rule.from);
        for name in fields.chain(metrics) {
            if !wanted.contains(name) {
                wanted.push(name.clone());
            }
        }
        wanted
    }
}
