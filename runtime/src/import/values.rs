//! Cells of a table as values: numbers with a decimal comma or point, times as people and controls write them.
//!
//! Promises: never guesses. What could be read two ways (`1.234` where the comma is the decimal sign, `03/04/2024`
//! without an order of day and month, an hour that the clock went through twice) is refused with how to say what is
//! meant. Knows nothing of files or of which column is what.

use gemba_twins::time::Timestamp;
use jiff::{
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// Words for "not measured" that spreadsheets and loggers write where a number belongs.
const ABSENT: [&str; 9] = ["", "nan", "na", "n/a", "#n/a", "null", "none", "-", "--"];

/// Whether a text says that nothing was measured.
pub(super) fn is_absent(text: &str) -> bool {
    text.len() <= 4 && ABSENT.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// In which order a date has its parts, where the year does not come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DateOrder {
    /// 31/12/2024
    DayFirst,
    /// 12/31/2024
    MonthFirst,
}

/// What to do with a time of the hour that a clock goes through twice when summer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Twice {
    /// Refuse the row.
    #[default]
    Refuse,
    /// The first time through, still in summer time.
    Earlier,
    /// The second time through.
    Later,
}

/// A number as it is written with this decimal sign; spaces around it do not count.
pub(super) fn number(text: &str, decimal: char) -> Result<f64, String> {
    let text = text.trim();
    let other = if decimal == ',' { '.' } else { ',' };
    if text.contains(other) {
        return Err(format!(
            "{text:?} has a {other:?} where the decimal sign is {decimal:?} (write numbers without separators of \
             thousands, or set decimal)"
        ));
    }
    let plain = if decimal == ',' {
        text.replace(',', ".")
    } else {
        text.to_owned()
    };
    // Rust reads `inf` and `infinity` too; no sensor means them.
    let is_plain = plain
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    match plain.parse::<f64>() {
        Ok(number) if is_plain && number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number")),
    }
}

/// How times of a file are to be read.
#[derive(Debug, Clone)]
pub(super) struct TimeRules {
    pub(super) order: Option<DateOrder>,
    pub(super) zone: Option<TimeZone>,
    pub(super) twice: Twice,
    /// As `strptime` has it, where the file has a format of its own.
    pub(super) format: Option<String>,
}

impl TimeRules {
    /// The time that a text means.
    pub(super) fn read(&self, text: &str) -> Result<Timestamp, String> {
        let text = text.trim();
        if let Some(format) = &self.format {
            return self.formatted(format, text);
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(time);
        }
        if let Some(written) = civil(text) {
            return self.placed(written.ordered(self.order)?);
        }
        match text.parse::<f64>() {
            Ok(number) => epoch(number),
            Err(_) => Err(format!(
                "{text:?} is not a time (e.g. 2024-03-10 18:00:00; set time_format for another form)"
            )),
        }
    }

    fn formatted(&self, format: &str, text: &str) -> Result<Timestamp, String> {
        let wrong = |error: jiff::Error| format!("{text:?} is not a time of the form {format:?}: {error}");
        let parsed = jiff::fmt::strtime::parse(format, text).map_err(wrong)?;
        match parsed.to_timestamp() {
            Ok(time) => within(time.as_millisecond()),
            Err(_) => {
                let date = parsed.to_date().map_err(wrong)?;
                let time = parsed.to_time().unwrap_or_default();
                self.placed(date.to_datetime(time))
            }
        }
    }

    /// A time of the clock on the wall as a point in time.
    pub(super) fn placed(&self, wall: DateTime) -> Result<Timestamp, String> {
        let Some(zone) = &self.zone else {
            return Err(format!(
                "{wall} has no offset (set timezone in [file], e.g. timezone = \"Europe/Rome\" or \"UTC\")"
            ));
        };
        let ambiguous = zone.to_ambiguous_timestamp(wall);
        let found = match (ambiguous.offset(), self.twice) {
            (AmbiguousOffset::Unambiguous { .. }, _) => ambiguous.unambiguous(),
            (AmbiguousOffset::Gap { .. }, _) => {
                return Err(format!(
                    "{wall} was skipped by the clock of this time zone (is timezone right?)"
                ));
            }
            (AmbiguousOffset::Fold { .. }, Twice::Refuse) => {
                return Err(format!(
                    "{wall} was there twice when summer time ended (set twice = \"earlier\" or \"later\" in [file])"
                ));
            }
            (AmbiguousOffset::Fold { .. }, Twice::Earlier) => ambiguous.earlier(),
            (AmbiguousOffset::Fold { .. }, Twice::Later) => ambiguous.later(),
        };
        within(found.map_err(|error| error.to_string())?.as_millisecond())
    }
}

fn within(ms: i64) -> Result<Timestamp, String> {
    Timestamp::checked_from_ms(ms).ok_or_else(|| format!("{ms} ms since 1970 is not between 2000 and 2200"))
}

/// Seconds or milliseconds since 1970: from 2000 to 2200 the two cannot be mistaken for each other.
pub(super) fn epoch(number: f64) -> Result<Timestamp, String> {
    let ms = if number.abs() < 1e11 {
        number * 1_000.0
    } else {
        number
    };
    Timestamp::checked_from_ms(ms as i64).ok_or_else(|| {
        format!("{number} is not a time between 2000 and 2200 in seconds or milliseconds since 1970")
    })
}

/// A date of three numbers and a time of day, the order of the date's numbers not yet decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Written {
    /// Year, month, day where the year comes first; else the first two are day and month in some order.
    parts: [i16; 3],
    year_first: bool,
    time: jiff::civil::Time,
}

impl Written {
    pub(super) fn is_year_first(&self) -> bool {
        self.year_first
    }

    /// Which orders this date allows: day first, month first.
    pub(super) fn allows(&self) -> (bool, bool) {
        // By the month alone: a 31st of April is a mistake, and no hint at the order.
        (self.parts[1] <= 12, self.parts[0] <= 12)
    }

    fn ordered(&self, order: Option<DateOrder>) -> Result<DateTime, String> {
        let [first, second, third] = self.parts;
        let (year, month, day) = match (self.year_first, order) {
            (true, _) => (first, second, third),
            (false, Some(DateOrder::DayFirst)) => (third, second, first),
            (false, Some(DateOrder::MonthFirst)) => (third, first, second),
            (false, None) => {
                return Err(format!(
                    "{first}/{second}/{third} could be two days (set date_order = \"dmy\" or \"mdy\" in [file])"
                ));
            }
        };
        let date = jiff::civil::Date::new(year, month as i8, day as i8).map_err(|_| {
            format!("{first}/{second}/{third} is no date in this order (see date_order in [file])")
        })?;
        Ok(date.to_datetime(self.time))
    }
}

/// Reads `2024-03-10`, `10/3/24 18:00`, `10.03.2004 18.00.00`, `3/10/2024 6:05:07.250 PM` and their kin.
pub(super) fn civil(text: &str) -> Option<Written> {
    let (date, rest) = match text.find([' ', 'T', '\t']) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let separator = date.chars().find(|c| !c.is_ascii_digit());
    let (parts, year_first) = match separator {
        None if date.len() == 8 => ([&date[..4], &date[4..6], &date[6..]], true),
        Some(separator @ ('/' | '-' | '.')) => {
            let mut parts = date.split(separator);
            let parts = [parts.next()?, parts.next()?, parts.next()?];
            (parts, parts[0].len() == 4)
        }
        _ => return None,
    };
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if total + separator.map_or(0, |_| 2) != date.len() {
        return None;
    }
    let mut numbers = [0_i16; 3];
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = digits(part, 4)?;
    }
    let year = if year_first { 0 } else { 2 };
    match parts[year].len() {
        4 => {}
        2 => numbers[year] += 2000,
        _ => return None,
    }
    let [_, second, third] = numbers;
    let small = if year_first {
        [second, third]
    } else {
        [numbers[0], second]
    };
    if small.iter().any(|number| !(1..=31).contains(number)) {
        return None;
    }
    Some(Written {
        parts: numbers,
        year_first,
        time: time_of_day(rest)?,
    })
}

fn digits(text: &str, most: usize) -> Option<i16> {
    let good = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// `18:00`, `18.00.00`, `6:05:07.250 PM`; nothing is midnight.
pub(super) fn time_of_day(text: &str) -> Option<jiff::civil::Time> {
    if text.is_empty() {
        return Some(jiff::civil::Time::midnight());
    }
    let upper = text.to_ascii_uppercase();
    let (clock, half) = if let Some(clock) = upper.strip_suffix("AM") {
        (clock.trim_end(), Some(0))
    } else if let Some(clock) = upper.strip_suffix("PM") {
        (clock.trim_end(), Some(12))
    } else {
        (&*upper, None)
    };
    let separator = if clock.contains(':') { ':' } else { '.' };
    let mut parts = clock.splitn(3, separator);
    let mut hour = digits(parts.next()?, 2)?;
    let minute = digits(parts.next()?, 2)?;
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once(['.', ',']).unwrap_or((seconds, ""));
            (digits(whole, 2)?, nanoseconds(fraction)?)
        }
    };
    if let Some(half) = half {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + half;
    }
    jiff::civil::Time::new(hour as i8, minute as i8, second as i8, fraction).ok()
}

fn nanoseconds(fraction: &str) -> Option<i32> {
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(order: Option<DateOrder>, zone: &str) -> TimeRules {
        TimeRules {
            order,
            zone: Some(TimeZone::get(zone).expect("a zone")),
            twice: Twice::Refuse,
            format: None,
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let rome = rules(Some(DateOrder::DayFirst), "Europe/Rome");
        for (text, utc) in [
            ("10/03/2004 18.00.00", "2004-03-10T17:00:00.000Z"),
            ("10/3/2004 18:05", "2004-03-10T17:05:00.000Z"),
            ("10.03.24", "2024-03-09T23:00:00.000Z"),
            ("2024-07-10 18:00:00,250", "2024-07-10T16:00:00.250Z"),
            ("20240710T06:00", "2024-07-10T04:00:00.000Z"),
            ("20240710", "2024-07-09T22:00:00.000Z"),
            ("10-07-2024 6:05:07 PM", "2024-07-10T16:05:07.000Z"),
            ("10/07/2024 12:00 AM", "2024-07-09T22:00:00.000Z"),
            ("2024-07-10T18:00:00+05:00", "2024-07-10T13:00:00.000Z"),
            ("1720000000", "2024-07-03T09:46:40.000Z"),
            ("1720000000250", "2024-07-03T09:46:40.250Z"),
        ] {
            assert_eq!(rome.read(text).expect(text).to_string(), utc, "{text}");
        }
        for text in [
            "",
            "noon",
            "32/01/2024",
            "10/13/2024",
            "10/03",
            "12:00",
            "5",
            "10/03/2024 25:00",
            "1/2-2024",
        ] {
            assert!(rome.read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_could_be_two_times_is_refused_until_it_is_said() {
        let undecided = rules(None, "UTC");
        assert!(
            undecided
                .read("03/04/2024")
                .expect_err("two days")
                .contains("date_order")
        );
        let mut rome = rules(Some(DateOrder::DayFirst), "Europe/Rome");
        assert!(
            rome.read("27/10/2024 02:30")
                .expect_err("twice")
                .contains("twice")
        );
        assert!(
            rome.read("31/03/2024 02:30")
                .expect_err("never")
                .contains("skipped")
        );
        rome.twice = Twice::Earlier;
        assert_eq!(
            rome.read("27/10/2024 02:30").expect("said").to_string(),
            "2024-10-27T00:30:00.000Z"
        );
        rome.twice = Twice::Later;
        assert_eq!(
            rome.read("27/10/2024 02:30").expect("said").to_string(),
            "2024-10-27T01:30:00.000Z"
        );
        rome.zone = None;
        assert!(
            rome.read("27/10/2024 12:30")
                .expect_err("where")
                .contains("timezone")
        );
        rome.format = Some("%Y %j %H".into());
        rome.zone = Some(TimeZone::UTC);
        assert_eq!(
            rome.read("2024 061 07").expect("a form").to_string(),
            "2024-03-01T07:00:00.000Z"
        );
    }

    #[test]
    fn numbers_follow_the_decimal_sign_and_nothing_else() {
        for (text, decimal, value) in [
            ("2,6", ',', Some(2.6)),
            (" -200 ", ',', Some(-200.0)),
            ("2.6", '.', Some(2.6)),
            ("1e3", '.', Some(1_000.0)),
            ("1.234", ',', None),
            ("1,234.5", '.', None),
            ("inf", '.', None),
            ("0x10", '.', None),
            ("12 kg", '.', None),
        ] {
            assert_eq!(number(text, decimal).ok(), value, "{text}");
        }
    }
}
