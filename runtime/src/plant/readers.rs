//! RFID and barcode readers of the plant model: where a reader or an antenna stands, and which job a tag is.
//!
//! ```yaml
//! readers:
//!   - id: gate-1                          # as the reader calls itself, or its topic or call does
//!     location: goods-in
//!     antennas: {2: cell-1}               # an antenna that looks at another place
//!     read_points: ["urn:epc:id:sgln:0614141.07346.1234"]   # the same place in EPCIS events
//!     absence: 10s                        # unseen for so long, a tag is gone
//!     overlap: 2s                         # read at two places within this, it is where it is heard best
//!     hysteresis_db: 3                    # by at least this much better
//!     min_rssi_dbm: -70                   # what is heard more faintly is not taken
//! epcs:                                   # the first that fits counts; a tag that none fits is called by its EPC
//!   - {match: "urn:epc:id:sgtin:0614141.812345.*", job: "J-{serial}"}
//!   - {match: "E28011*", ignore: true}    # tags of tools, badges
//! ```
//! Promises: a pattern is text in which `*` stands for anything; a template may hold `{serial}`, `{reference}`,
//! `{company}`, `{key}` (GTIN-14 or SSCC-18) and `{epc}`. Binding is pure.

use std::collections::BTreeMap;

use gemba_twins::id;
use serde::Serialize;

use super::{
    Span,
    fields::{Fields, WORDS_MAX, shortened},
    written::{Problems, Tree},
};
use crate::decode::{Epc, Rejection, as_id};

const ABSENCE_MS: i64 = 10_000;
const OVERLAP_MS: i64 = 2_000;
const HYSTERESIS_DB: f64 = 3.0;
const PLACEHOLDERS: [&str; 5] = ["serial", "reference", "company", "key", "epc"];

/// A reader, and where it looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reader {
    /// As it calls itself, or as its topic or call does.
    pub id: Box<str>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Box<str>>,
    /// Antennas that look at other places, by number or name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub antennas: BTreeMap<Box<str>, Box<str>>,
    /// What EPCIS events call its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_points: Vec<Box<str>>,
    /// A tag that is unseen for so long is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absence: Option<Span>,
    /// A tag read at two places within this time is where it is heard best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Span>,
    /// By how much better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hysteresis_db: Option<f64>,
    /// Reads that are fainter are not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rssi_dbm: Option<f64>,
}

/// Which job a tag is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpcRule {
    /// A pattern over the EPC's URI, or over its hexadecimal where it is no GS1 EPC.
    #[serde(rename = "match")]
    pub pattern: Box<str>,
    /// The template of the job's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<str>>,
    /// Such tags are no jobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore: bool,
}

/// How a reader's reads become scans.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Smoothing {
    pub(crate) absence_ms: i64,
    pub(crate) overlap_ms: i64,
    pub(crate) hysteresis_db: f64,
    pub(crate) min_rssi_dbm: Option<f64>,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self {
            absence_ms: ABSENCE_MS,
            overlap_ms: OVERLAP_MS,
            hysteresis_db: HYSTERESIS_DB,
            min_rssi_dbm: None,
        }
    }
}

/// The readers and rules of a model, for binding.
#[derive(Debug, Default)]
pub(super) struct Readers {
    readers: BTreeMap<Box<str>, Reader>,
    /// Locations by what EPCIS calls them.
    points: BTreeMap<Box<str>, Box<str>>,
    rules: Vec<EpcRule>,
}

impl Readers {
    pub(super) fn of(readers: &[Reader], rules: &[EpcRule]) -> Self {
        let points = readers.iter().flat_map(|reader| {
            let location = reader.location.clone();
            reader
                .read_points
                .iter()
                .filter_map(move |point| Some((point.clone(), location.clone()?)))
        });
        Self {
            readers: readers
                .iter()
                .map(|reader| (reader.id.clone(), reader.clone()))
                .collect(),
            points: points.collect(),
            rules: rules.to_vec(),
        }
    }

    /// The job of a tag; `None` for a tag that is no job. `known_only` keeps tags aside that no rule fits.
    pub(super) fn job(&self, epc: &Epc, known_only: bool) -> Result<Option<Box<str>>, Rejection> {
        let Some(rule) = self.rules.iter().find(|rule| fits(&rule.pattern, &epc.uri)) else {
            if known_only {
                let detail = format!(
                    "tag {} fits no rule of epcs in the plant model (add one, apply, and retry)",
                    epc.uri
                );
                return Err(Rejection::new("rfid.epc_unknown", detail));
            }
            return Ok(Some(as_id(&epc.uri)));
        };
        let job = rule.job.as_deref().filter(|_| !rule.ignore);
        Ok(job.map(|template| as_id(&filled(template, epc))))
    }

    /// Where a reader's antenna looks, and how its reads are smoothed; `None` for a reader that the model does not name.
    pub(super) fn place(&self, reader: &str, antenna: Option<&str>) -> Option<(Option<&str>, Smoothing)> {
        let reader = self.readers.get(reader)?;
        let by_antenna = antenna.and_then(|antenna| reader.antennas.get(antenna));
        let smoothing = Smoothing {
            absence_ms: reader.absence.map_or(ABSENCE_MS, Span::ms),
            overlap_ms: reader.overlap.map_or(OVERLAP_MS, Span::ms),
            hysteresis_db: reader.hysteresis_db.unwrap_or(HYSTERESIS_DB),
            min_rssi_dbm: reader.min_rssi_dbm,
        };
        Some((
            by_antenna
                .or(reader.location.as_ref())
                .map(|location| &**location),
            smoothing,
        ))
    }

    /// The location of one of an event's places.
    pub(super) fn point<'a>(&'a self, places: &'a [Box<str>]) -> Option<&'a str> {
        let named = places.iter().find_map(|place| self.points.get(place));
        named.map(|location| &**location)
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn filled(template: &str, epc: &Epc) -> String {
    let parts = epc.parts.as_ref();
    let key = epc.key();
    let value = |name: &str| match name {
        "serial" => parts.and_then(|parts| parts.serial.as_deref()),
        "reference" => parts.map(|parts| &*parts.reference),
        "company" => parts.map(|parts| &*parts.company),
        "key" => key.as_deref(),
        _ => None,
    };
    PLACEHOLDERS.iter().fold(template.to_owned(), |filled, name| {
        filled.replace(&format!("{{{name}}}"), value(name).unwrap_or(&epc.uri))
    })
}

pub(super) fn reader(tree: &Tree, path: String, problems: &mut Problems) -> Option<Reader> {
    let known = [
        "id",
        "location",
        "antennas",
        "read_points",
        "absence",
        "overlap",
        "hysteresis_db",
        "min_rssi_dbm",
    ];
    let mut reader = Fields::of(tree, path, &known, problems)?;
    let id = reader.id("id");
    let read = Reader {
        id: id.clone().unwrap_or_default(),
        location: reader.optional_id("location"),
        antennas: reader.antennas(),
        read_points: reader.list("read_points", words),
        absence: reader.span("absence"),
        overlap: reader.span("overlap"),
        hysteresis_db: reader.decibels("hysteresis_db", 0.0, 60.0),
        min_rssi_dbm: reader.decibels("min_rssi_dbm", -120.0, 0.0),
    };
    if read.location.is_none() && read.antennas.is_empty() {
        reader.problem("location", "is missing (or give antennas their locations)");
    }
    if read.location.is_none() && !read.read_points.is_empty() {
        reader.problem("read_points", "need a location");
    }
    id.map(|_| read)
}

pub(super) fn rule(tree: &Tree, path: String, problems: &mut Problems) -> Option<EpcRule> {
    let mut rule = Fields::of(tree, path, &["match", "job", "ignore"], problems)?;
    let (pattern, job, ignore) = (rule.words("match"), rule.words("job"), rule.truth("ignore"));
    if rule.get("match").is_none() {
        rule.problem(
            "match",
            "is missing (a pattern such as urn:epc:id:sgtin:0614141.812345.*)",
        );
    }
    if job.is_some() == ignore {
        rule.problem("job", "give either a template for the job's id or ignore: true");
    }
    if let Some(template) = &job {
        let rest = PLACEHOLDERS.iter().fold(template.to_string(), |rest, name| {
            rest.replace(&format!("{{{name}}}"), "")
        });
        if rest.contains(['{', '}']) {
            let detail = format!("only {{{}}} are known", PLACEHOLDERS.join("}, {"));
            rule.problem("job", &detail);
        } else if id::check_id("the id", &format!("{rest}x"), id::ID_MAX).is_err() {
            rule.problem("job", "an id has letters, digits, - _ . and : only");
        }
    }
    Some(EpcRule {
        pattern: pattern?,
        job,
        ignore,
    })
}

fn words(tree: &Tree, path: String, problems: &mut Problems) -> Option<Box<str>> {
    match tree {
        Tree::Text(text) if (1..=WORDS_MAX).contains(&text.chars().count()) => Some(text.as_str().into()),
        _ => {
            problems.add(path, format!("text of 1 to {WORDS_MAX} characters is needed"));
            None
        }
    }
}

impl Fields<'_, '_> {
    fn antennas(&mut self) -> BTreeMap<Box<str>, Box<str>> {
        let mut antennas = BTreeMap::new();
        for (antenna, location) in self.map("antennas") {
            let field = format!("antennas.{}", shortened(antenna));
            match location {
                Tree::Text(location) if id::check_id("the id", location, id::ID_MAX).is_ok() => {
                    antennas.insert(antenna.as_str().into(), location.as_str().into());
                }
                _ => self.problem(&field, "the id of a location is needed"),
            }
        }
        antennas
    }

    fn decibels(&mut self, field: &str, least: f64, most: f64) -> Option<f64> {
        let number = match self.get(field)? {
            Tree::Number(number) => number.as_f64(),
            _ => None,
        };
        let within = number.filter(|number| (least..=most).contains(number));
        if within.is_none() {
            self.problem(field, &format!("a number from {least} to {most} is needed"));
        }
        within
    }
}

/// Adds what is wrong between readers and locations.
pub(super) fn check<'m>(
    readers: &'m [Reader],
    is_place: impl Fn(&str) -> bool,
    places: impl Fn() -> Vec<&'m str>,
    problems: &mut Problems,
) {
    for (at, reader) in readers.iter().enumerate() {
        if readers[..at].iter().any(|before| before.id == reader.id) {
            problems.add(
                format!("readers[{at}].id"),
                format!("{} occurs a second time", reader.id),
            );
        }
        let by_antenna = reader
            .antennas
            .iter()
            .map(|(name, location)| (format!("antennas.{name}"), location));
        let own = reader
            .location
            .iter()
            .map(|location| ("location".to_owned(), location));
        for (field, location) in own.chain(by_antenna) {
            if !is_place(location) {
                let hint = problems.nearest(location, places().into_iter());
                problems.add(
                    format!("readers[{at}].{field}"),
                    format!("location {location} is not in the model{hint}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_people_expect() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            (
                "urn:epc:id:sgtin:0614141.812345.*",
                "urn:epc:id:sgtin:0614141.812345.6789",
                true,
            ),
            (
                "urn:epc:id:sgtin:0614141.8*.6789",
                "urn:epc:id:sgtin:0614141.812345.6789",
                true,
            ),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn a_tag_is_the_job_that_the_first_rule_says() {
        let rule = |pattern: &str, job: Option<&str>| EpcRule {
            pattern: pattern.into(),
            job: job.map(Into::into),
            ignore: job.is_none(),
        };
        let rules = [
            rule("urn:epc:id:sgtin:0614141.812345.*", Some("J-{serial}")),
            rule("urn:epc:id:sscc:*", Some("{key}")),
            rule("E28011*", None),
        ];
        let readers = Readers::of(&[], &rules);
        for (code, wanted) in [
            ("3074257BF7194E4000001A85", Some("J-6789")),
            ("3174257BF4499602D2000000", Some("106141412345678908")),
            ("E2801170200014CD9B5A08EC", None),
            ("pallet 7/a", Some("pallet-7-a")),
        ] {
            let epc = Epc::read(code).expect(code);
            assert_eq!(readers.job(&epc, false).expect(code).as_deref(), wanted, "{code}");
        }
        let unknown = Epc::read("pallet 7").expect("a code");
        assert_eq!(
            readers.job(&unknown, true).expect_err("aside").code,
            "rfid.epc_unknown"
        );
    }
}
