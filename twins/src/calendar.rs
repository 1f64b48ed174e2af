//! When a plant means to work: shifts by weekday and local time, their breaks, and the offset of local time from UTC.
//!
//! Promises: pure arithmetic. The offsets came with the plant model, so a replay needs no time-zone database and knows
//! the same shifts as the day it was journaled. A shift begins and ends by the clock on the wall: over a change of the
//! clocks it has an hour more or less. A time that the clocks skip is an hour later, one that comes twice the first of
//! the two. Where shifts overlap, the one that begins last is on. Past the last offset known, that one goes on.

use crate::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const QUARTER_MS: i64 = 15 * MINUTE_MS;
const DAY_MS: i64 = 86_400_000;
/// 2000-01-01T00:00:00Z, from which quarter hours are counted.
const EPOCH_MS: i64 = 946_684_800_000;
/// The first day of 1970 was a Thursday, the fourth day of the week.
const WEEKDAY_OF_1970: i64 = 3;
/// Offsets are at most a day.
const OFFSET_QUARTERS_MAX: i64 = 96;

/// The shifts of a machine or a location. Empty: there is no calendar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar {
    /// The shifts, in the order of the plant model.
    pub shifts: Box<[Shift]>,
    /// From when which offset holds, in the order of time.
    pub offsets: Box<[Offset]>,
}

/// A shift as the plant model says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// Its name.
    pub name: Box<str>,
    /// The days on which it begins: Monday is bit 0.
    pub days: u8,
    /// Minutes from midnight, local time.
    pub start_min: u16,
    /// Minutes from the midnight before it began; more than 1440 where it ends on the next day.
    pub end_min: u16,
    /// Its breaks, counted as `end_min` is.
    pub breaks: Box<[(u16, u16)]>,
}

/// From when which offset from UTC holds. Four bytes, for every machine has some fifty of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset(u32);

impl Offset {
    /// Local time is `offset_min` ahead of UTC from `from` on; to the quarter of an hour, as all zones of this
    /// century are.
    #[must_use]
    pub fn new(from: Timestamp, offset_min: i32) -> Self {
        let from = ((from.ms() - EPOCH_MS).div_euclid(QUARTER_MS)).clamp(0, (1 << 24) - 1);
        let offset = (i64::from(offset_min).div_euclid(15)).clamp(-OFFSET_QUARTERS_MAX, OFFSET_QUARTERS_MAX);
        // Both are in range, so nothing is lost.
        Self(u32::try_from((from << 8) | (offset + OFFSET_QUARTERS_MAX)).unwrap_or(0))
    }

    /// Minutes ahead of UTC.
    #[must_use]
    pub fn minutes(self) -> i64 {
        self.ms() / MINUTE_MS
    }

    pub(crate) fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    fn holds_from_ms(self) -> i64 {
        EPOCH_MS + i64::from(self.0 >> 8) * QUARTER_MS
    }

    fn ms(self) -> i64 {
        (i64::from(self.0 & 0xff) - OFFSET_QUARTERS_MAX) * QUARTER_MS
    }
}

/// One occurrence of a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Occurrence {
    /// Which of the calendar's shifts.
    pub(crate) index: usize,
    pub(crate) began_at: Timestamp,
    pub(crate) ends_at: Timestamp,
}

/// What the calendar says of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The shift that is on; `None` between shifts.
    pub(crate) shift: Option<Occurrence>,
    /// Work is planned: a shift is on, and it has no break.
    pub(crate) planned: bool,
    /// Until when this holds; looked up again then.
    pub(crate) until: Timestamp,
}

impl Calendar {
    fn offset_ms(&self, at_ms: i64) -> i64 {
        let later = self
            .offsets
            .partition_point(|offset| offset.holds_from_ms() <= at_ms);
        let holds = self.offsets.get(later.saturating_sub(1));
        holds.map_or(0, |offset| offset.ms())
    }

    /// The time of a local one, given as milliseconds as if local time were UTC.
    fn utc_ms(&self, local_ms: i64) -> i64 {
        let before = self.offset_ms(local_ms - DAY_MS);
        let after = self.offset_ms(local_ms + DAY_MS);
        let by_after = local_ms - after;
        if self.offset_ms(local_ms - before) != before && self.offset_ms(by_after) == after {
            by_after
        } else {
            local_ms - before
        }
    }

    /// What holds at a time.
    pub(crate) fn at(&self, at: Timestamp) -> Stretch {
        let today = (at.ms() + self.offset_ms(at.ms())).div_euclid(DAY_MS);
        let mut stretch = Stretch {
            shift: None,
            planned: false,
            until: at.plus_ms(DAY_MS),
        };
        let mut in_break = false;
        for day in today - 2..=today + 2 {
            let weekday = (day + WEEKDAY_OF_1970).rem_euclid(7);
            let moment =
                |minutes: u16| Timestamp::from_ms(self.utc_ms(day * DAY_MS + i64::from(minutes) * MINUTE_MS));
            for (index, shift) in self.shifts.iter().enumerate() {
                if shift.days & (1 << weekday) == 0 {
                    continue;
                }
                let (began_at, ends_at) = (moment(shift.start_min), moment(shift.end_min));
                for edge in [began_at, ends_at] {
                    if edge > at {
                        stretch.until = stretch.until.min(edge);
                    }
                }
                if !(began_at <= at && at < ends_at) {
                    continue;
                }
                if stretch.shift.is_none_or(|other| began_at >= other.began_at) {
                    stretch.shift = Some(Occurrence {
                        index,
                        began_at,
                        ends_at,
                    });
                    in_break = false;
                    for (from, to) in &*shift.breaks {
                        let (from, to) = (moment(*from), moment(*to));
                        in_break |= from <= at && at < to;
                        for edge in [from, to] {
                            if edge > at {
                                stretch.until = stretch.until.min(edge);
                            }
                        }
                    }
                }
            }
        }
        stretch.planned = stretch.shift.is_some() && !in_break;
        stretch
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        self.shifts.get(index).map_or("", |shift| &shift.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Helsinki: UTC+2, UTC+3 from the last Sunday of March to that of October, both at 01:00 UTC
    /// (IANA time-zone database, rule `EU`).
    fn helsinki() -> Box<[Offset]> {
        [
            ("2025-10-26T01:00:00Z", 120),
            ("2026-03-29T01:00:00Z", 180),
            ("2026-10-25T01:00:00Z", 120),
        ]
        .map(|(from, minutes)| Offset::new(at(from), minutes))
        .into()
    }

    fn calendar() -> Calendar {
        let shift = |name: &str, days, start_min, end_min, breaks: &[(u16, u16)]| Shift {
            name: name.into(),
            days,
            start_min,
            end_min,
            breaks: breaks.into(),
        };
        Calendar {
            shifts: [
                shift("early", 0b001_1111, 6 * 60, 14 * 60, &[(9 * 60, 9 * 60 + 15)]),
                shift("late", 0b001_1111, 14 * 60, 22 * 60, &[]),
                shift("night", 0b111_1111, 22 * 60, 30 * 60, &[(26 * 60, 26 * 60 + 30)]),
            ]
            .into(),
            offsets: helsinki(),
        }
    }

    fn on(calendar: &Calendar, time: &str) -> Option<(String, String, String)> {
        let occurrence = calendar.at(at(time)).shift?;
        Some((
            calendar.name(occurrence.index).to_owned(),
            occurrence.began_at.to_string(),
            occurrence.ends_at.to_string(),
        ))
    }

    #[test]
    fn a_shift_is_on_by_the_clock_on_the_wall_also_over_a_change_of_the_clocks() {
        let calendar = calendar();
        for (time, name, began, ends, hours) in [
            (
                "2026-01-15T04:00:00Z",
                "early",
                "2026-01-15T04:00:00.000Z",
                "2026-01-15T12:00:00.000Z",
                8,
            ),
            (
                "2026-07-15T11:00:00Z",
                "late",
                "2026-07-15T11:00:00.000Z",
                "2026-07-15T19:00:00.000Z",
                8,
            ),
            // The clocks go forward within the night of Saturday to Sunday: an hour is missing.
            (
                "2026-03-29T00:59:00Z",
                "night",
                "2026-03-28T20:00:00.000Z",
                "2026-03-29T03:00:00.000Z",
                7,
            ),
            (
                "2026-03-29T02:59:59Z",
                "night",
                "2026-03-28T20:00:00.000Z",
                "2026-03-29T03:00:00.000Z",
                7,
            ),
            // And back: an hour comes twice.
            (
                "2026-10-25T03:59:59Z",
                "night",
                "2026-10-24T19:00:00.000Z",
                "2026-10-25T04:00:00.000Z",
                9,
            ),
        ] {
            let wanted = (name.to_owned(), began.to_owned(), ends.to_owned());
            assert_eq!(on(&calendar, time), Some(wanted), "{time}");
            assert_eq!(at(ends).ms_since(at(began)), hours * 3_600_000, "{time}");
        }
        // Sunday has a night only.
        assert_eq!(on(&calendar, "2026-03-29T10:00:00Z"), None);
    }

    #[test]
    fn a_stretch_ends_where_something_changes() {
        let calendar = calendar();
        for (time, planned, until) in [
            ("2026-01-15T04:00:00Z", true, "2026-01-15T07:00:00.000Z"),
            ("2026-01-15T07:00:00Z", false, "2026-01-15T07:15:00.000Z"),
            ("2026-01-15T07:15:00Z", true, "2026-01-15T12:00:00.000Z"),
            ("2026-01-17T04:00:00Z", false, "2026-01-17T20:00:00.000Z"),
            // A break from 02:00 to 02:30 on the night in which the clocks jump from 03:00 to 04:00.
            ("2026-03-29T00:10:00Z", false, "2026-03-29T00:30:00.000Z"),
        ] {
            let stretch = calendar.at(at(time));
            assert_eq!(
                (stretch.planned, stretch.until.to_string()),
                (planned, until.to_owned()),
                "{time}"
            );
        }
    }

    #[test]
    fn skipped_and_repeated_times_are_read_as_later_and_earlier() {
        let calendar = calendar();
        for (local, utc) in [
            // 03:30 does not exist on that day: it is 04:30 summer time.
            ("2026-03-29T03:30:00Z", "2026-03-29T01:30:00.000Z"),
            ("2026-03-29T04:00:00Z", "2026-03-29T01:00:00.000Z"),
            ("2026-03-29T02:59:00Z", "2026-03-29T00:59:00.000Z"),
            // 03:30 comes twice: the first is summer time.
            ("2026-10-25T03:30:00Z", "2026-10-25T00:30:00.000Z"),
            ("2026-10-25T04:00:00Z", "2026-10-25T02:00:00.000Z"),
        ] {
            let found = Timestamp::from_ms(calendar.utc_ms(at(local).ms()));
            assert_eq!(found.to_string(), utc, "{local}");
        }
    }

    #[test]
    fn an_offset_is_packed_without_loss() {
        for (from, minutes) in [
            ("2000-01-01T00:00:00Z", -720),
            ("2026-03-29T01:00:00Z", 180),
            ("2026-04-04T15:45:00Z", 765),
        ] {
            let offset = Offset::new(at(from), minutes);
            assert_eq!(
                (offset.holds_from_ms(), offset.ms()),
                (at(from).ms(), i64::from(minutes) * MINUTE_MS)
            );
        }
    }
}
