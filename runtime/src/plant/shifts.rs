//! Shifts as the plant model says them, and as the twins fold by them.
//!
//! ```yaml
//! shifts:
//!   - {name: early, days: [mon, tue, wed, thu, fri], start: 06:00, end: 14:00, breaks: [09:00-09:15, 12:00-12:30]}
//!   - {name: night, start: 22:00, end: 06:00}      # every day; ends on the next one
//! ```
//! A location or a machine with `shifts` of its own has those instead, also those within it; `[]` means none.
//!
//! Promises: times are by the clock on the wall at the site. The offsets of its zone from UTC, from 2020 to 2045, go
//! with the shifts to the twins, so that no fold asks a time-zone database and a replay knows the shifts of then.

use gemba_twins::{
    calendar::{Calendar, Offset, Shift as Resolved},
    time::Timestamp,
};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    fields::{Fields, shortened},
    written::{Problems, Tree},
};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MIN: u16 = 1_440;
/// Most shifts of one calendar.
const SHIFTS_MAX: usize = 32;
/// Most breaks of one shift.
const BREAKS_MAX: usize = 16;
/// 2020-01-01 and 2045-01-01.
const HORIZON_MS: (i64, i64) = (1_577_836_800_000, 2_366_841_600_000);
/// Most changes of a zone's offset: four a year.
const OFFSETS_MAX: usize = 104;

/// A shift as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shift {
    /// Its name.
    pub name: Box<str>,
    /// The days on which it begins; empty: every day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<&'static str>,
    /// `HH:MM` by the clock on the wall.
    pub start: Box<str>,
    /// As `start`; on the next day where it is not after it.
    pub end: Box<str>,
    /// `HH:MM-HH:MM`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<Box<str>>,
}

/// Minutes from midnight.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(60 * hour + minute)
}

/// From and to of a break within a shift that begins at `start`, counted from the midnight before it.
fn break_minutes(text: &str, start: u16) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minutes(from.trim())?, minutes(to.trim())?);
    let from = if from < start { from + DAY_MIN } else { from };
    let to = if to < start { to + DAY_MIN } else { to };
    (from < to).then_some((from, to))
}

impl Shift {
    /// Minutes from the midnight before it begins.
    fn span(&self) -> Option<(u16, u16)> {
        let (start, end) = (minutes(&self.start)?, minutes(&self.end)?);
        Some((start, if end <= start { end + DAY_MIN } else { end }))
    }

    fn resolved(&self) -> Option<Resolved> {
        let (start_min, end_min) = self.span()?;
        let on = |day: &&str| self.days.is_empty() || self.days.contains(day);
        let days = (0..).zip(DAYS).filter(|(_, day)| on(day));
        Some(Resolved {
            name: self.name.clone(),
            days: days.fold(0, |days, (bit, _): (u8, _)| days | (1 << bit)),
            start_min,
            end_min,
            breaks: self
                .breaks
                .iter()
                .filter_map(|text| break_minutes(text, start_min))
                .collect(),
        })
    }
}

/// The calendar of shifts in the time zone that has these offsets.
pub(super) fn calendar(shifts: &[Shift], offsets: &[Offset]) -> Calendar {
    if shifts.is_empty() {
        return Calendar::default();
    }
    Calendar {
        shifts: shifts.iter().filter_map(Shift::resolved).collect(),
        offsets: offsets.into(),
    }
}

/// When a zone is how far from UTC.
pub(super) fn offsets(timezone: Option<&str>) -> Box<[Offset]> {
    let zone = timezone.and_then(|name| TimeZone::get(name).ok());
    let (Some(zone), Ok(first), Ok(last)) = (
        zone,
        jiff::Timestamp::from_millisecond(HORIZON_MS.0),
        jiff::Timestamp::from_millisecond(HORIZON_MS.1),
    ) else {
        return Box::default();
    };
    let offset = |from: jiff::Timestamp, seconds: i32| {
        Offset::new(Timestamp::from_ms(from.as_millisecond()), seconds.div_euclid(60))
    };
    let mut offsets = vec![offset(first, zone.to_offset(first).seconds())];
    let changes = zone
        .following(first)
        .take_while(|change| change.timestamp() < last)
        .take(OFFSETS_MAX);
    offsets.extend(changes.map(|change| offset(change.timestamp(), change.offset().seconds())));
    // A change of name alone changes no time.
    offsets.dedup_by(|later, earlier| later.minutes() == earlier.minutes());
    offsets.into()
}

/// Reads the shifts of a field; `None` where it is not there.
pub(super) fn shifts(fields: &mut Fields<'_, '_>, field: &str) -> Option<Vec<Shift>> {
    fields.get(field)?;
    let shifts = fields.list(field, shift);
    if shifts.len() > SHIFTS_MAX {
        fields.problem(
            field,
            &format!("has {} shifts (at most {SHIFTS_MAX})", shifts.len()),
        );
        return Some(Vec::new());
    }
    for (at, shift) in shifts.iter().enumerate() {
        if shifts[..at].iter().any(|before| before.name == shift.name) {
            fields.problem(field, &format!("shift {:?} is given twice", shift.name));
        }
    }
    Some(shifts)
}

fn shift(tree: &Tree, path: String, problems: &mut Problems) -> Option<Shift> {
    let known = ["name", "days", "start", "end", "breaks"];
    let mut fields = Fields::of(tree, path, &known, problems)?;
    if fields.get("name").is_none() {
        fields.problem("name", "is missing (it is required)");
    }
    let name = fields.words("name");
    let days = fields.list("days", day);
    let (start, end) = (clock(&mut fields, "start"), clock(&mut fields, "end"));
    let shift = Shift {
        name: name?,
        days,
        start: start?,
        end: end?,
        breaks: fields.list("breaks", words),
    };
    let (start_min, end_min) = shift.span()?;
    if shift.breaks.len() > BREAKS_MAX {
        fields.problem(
            "breaks",
            &format!("has {} entries (at most {BREAKS_MAX})", shift.breaks.len()),
        );
    }
    for (at, text) in shift.breaks.iter().enumerate() {
        let within = break_minutes(text, start_min).is_some_and(|(_, to)| to <= end_min);
        if !within {
            let detail = format!(
                "{:?} is no break within {}-{} (write it so: \"09:00-09:15\")",
                shortened(text),
                shift.start,
                shift.end
            );
            fields.problem(&format!("breaks[{at}]"), &detail);
        }
    }
    Some(shift)
}

fn clock(fields: &mut Fields<'_, '_>, field: &str) -> Option<Box<str>> {
    if fields.get(field).is_none() {
        fields.problem(field, "is missing (a time such as 06:00 is needed)");
    }
    let text = fields.text(field)?;
    if minutes(text).is_none() {
        let detail = format!("{:?} is no time of day (from 00:00 to 23:59)", shortened(text));
        fields.problem(field, &detail);
        return None;
    }
    Some(text.into())
}

fn day(tree: &Tree, path: String, problems: &mut Problems) -> Option<&'static str> {
    let text = if let Tree::Text(text) = tree {
        text.as_str()
    } else {
        ""
    };
    let found = DAYS.into_iter().find(|day| *day == text);
    if found.is_none() {
        let hint = problems.nearest(text, DAYS.into_iter());
        problems.add(
            path,
            format!("a day is needed{hint} (one of {})", DAYS.join(", ")),
        );
    }
    found
}

fn words(tree: &Tree, path: String, problems: &mut Problems) -> Option<Box<str>> {
    if let Tree::Text(text) = tree {
        return Some(text.as_str().into());
    }
    problems.add(
        path,
        format!("is {} (text is needed, e.g. 09:00-09:15)", tree.type_name()),
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shift(days: &[&'static str], start: &str, end: &str, breaks: &[&str]) -> Shift {
        Shift {
            name: "one".into(),
            days: days.to_vec(),
            start: start.into(),
            end: end.into(),
            breaks: breaks.iter().map(|text| (*text).into()).collect(),
        }
    }

    #[test]
    fn a_shift_over_midnight_and_its_breaks_are_counted_from_the_midnight_before() {
        for (shift, days, start_min, end_min, breaks) in [
            (
                shift(&["mon", "fri"], "06:00", "14:00", &["09:00-09:15"]),
                0b001_0001,
                360,
                840,
                vec![(540, 555)],
            ),
            (
                shift(&[], "22:00", "06:00", &["23:50-00:20", "02:00-02:30"]),
                0x7f,
                1_320,
                1_800,
                vec![(1_430, 1_460), (1_560, 1_590)],
            ),
            (
                shift(&["sun"], "0:00", "00:00", &[]),
                0b100_0000,
                0,
                1_440,
                vec![],
            ),
        ] {
            let resolved = shift
                .resolved()
                .map(|shift| (shift.days, shift.start_min, shift.end_min, shift.breaks.to_vec()));
            assert_eq!(resolved, Some((days, start_min, end_min, breaks)));
        }
    }

    #[test]
    fn the_changes_of_a_zone_go_with_the_shifts() {
        let of = |zone| offsets(zone).len();
        // Twice a year from 2020 to 2044, and what held before.
        assert_eq!(of(Some("Europe/Helsinki")), 51);
        assert_eq!((of(Some("Asia/Tokyo")), of(None)), (1, 0));
        assert_eq!(
            calendar(&[], &offsets(Some("Europe/Helsinki"))),
            Calendar::default()
        );
    }
}
