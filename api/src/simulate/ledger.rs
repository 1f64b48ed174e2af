//! What a machine of the simulation did, quarter of an hour by quarter of an hour, and the KPIs that follow from it.
//!
//! Promises: by other code than the fold's: sums over a table of quarters and over a list of what the machine did one
//! after the other, looked at only in the end. Every shift and every break of the simulated plant begins and ends with a quarter
//! of an hour. Knows Helsinki's clocks by the rule of the EU, not by a time-zone database.

use std::collections::BTreeMap;

use gemba_twins::time::Timestamp;
use serde_json::{Map, Value as Json};

use super::truth::Said;

const QUARTER_MS: i64 = 900_000;
pub(super) const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// The shifts of the simulated plant, as its model has them.
pub(super) const SHIFTS: &str = "\
shifts:
  - {name: early, start: 06:00, end: 14:00, breaks: [09:00-09:15, 12:00-12:30]}
  - {name: late, start: 14:00, end: 22:00, breaks: [18:00-18:30]}
  - {name: night, start: 22:00, end: 06:00, breaks: [02:00-02:30]}
";
/// When they begin, and when there is a break, in minutes from local midnight.
const BEGIN_MIN: [i64; 3] = [360, 840, 1_320];
const BREAKS_MIN: [(i64, i64); 4] = [(540, 555), (720, 750), (1_080, 1_110), (120, 150)];

/// Milliseconds that Helsinki is ahead of UTC: two hours, three from the last Sunday of March, 01:00 UTC, to that of
/// October.
fn ahead_ms(ms: i64) -> i64 {
    let year = 1970 + ms / (365 * DAY_MS + DAY_MS / 4);
    let last_sunday = |of_year: i64, month_end: i64| {
        // Days from 1970 to the end of the month; the first of January 1970 was a Thursday.
        let leap = i64::from(of_year % 4 == 0);
        let years = 365 * (of_year - 1970) + (of_year - 1969).div_euclid(4);
        let end = years + month_end + leap - 1;
        (end - (end + 4).rem_euclid(7)) * DAY_MS + HOUR_MS
    };
    let summer = last_sunday(year, 90) <= ms && ms < last_sunday(year, 304);
    if summer { 3 * HOUR_MS } else { 2 * HOUR_MS }
}

fn local_minute(ms: i64) -> i64 {
    (ms + ahead_ms(ms)).rem_euclid(DAY_MS) / 60_000
}

fn is_break(ms: i64) -> bool {
    let minute = local_minute(ms);
    BREAKS_MIN.iter().any(|(from, to)| (*from..*to).contains(&minute))
}

/// When the shift of a time began, and when it ends, looked for quarter by quarter.
fn shift_of(ms: i64) -> (i64, i64) {
    let begins = |quarter: i64| BEGIN_MIN.contains(&local_minute(quarter));
    let mut began = ms - ms.rem_euclid(QUARTER_MS);
    while !begins(began) {
        began -= QUARTER_MS;
    }
    let mut end = began + QUARTER_MS;
    while !begins(end) {
        end += QUARTER_MS;
    }
    (began, end)
}

/// What a machine said at a time, and the register of its meter where that was read too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) said: Said,
    pub(super) register_kwh: Option<f64>,
}

/// What happened within a quarter of an hour.
#[derive(Debug, Clone, Default)]
struct Quarter {
    ms: BTreeMap<&'static str, i64>,
    kwh: BTreeMap<&'static str, f64>,
    cycles: u64,
    good: u64,
    /// What was used in it, whenever it was read.
    demand_kwh: Option<f64>,
    factors: u64,
}

/// One state from one time to another.
#[derive(Debug, Clone, Copy)]
struct Span {
    state: &'static str,
    from: i64,
    to: i64,
}

/// All of a machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    quarters: BTreeMap<i64, Quarter>,
    spans: Vec<Span>,
    newest: Option<Sample>,
    /// The register read last, and when.
    register: Option<(i64, f64)>,
}

/// Calls with each quarter's part of a time.
fn each_quarter(from: i64, to: i64, mut call: impl FnMut(i64, i64)) {
    let mut from = from;
    while from < to {
        let quarter = from - from.rem_euclid(QUARTER_MS);
        let end = to.min(quarter + QUARTER_MS);
        call(quarter, end - from);
        from = end;
    }
}

impl Ledger {
    pub(super) fn take(&mut self, sample: Sample) {
        let now = sample.at.ms();
        let before = self.newest.replace(sample);
        let held = before.map_or("unknown", |before| before.said.state);
        if let Some(before) = before {
            let since = before.at.ms();
            let by_power = self.register.is_none();
            each_quarter(since, now, |quarter, ms| {
                let quarter = self.quarters.entry(quarter).or_default();
                *quarter.ms.entry(held).or_default() += ms;
                if by_power {
                    let kwh = before.said.power_kw * ms as f64 / HOUR_MS as f64;
                    *quarter.kwh.entry(held).or_default() += kwh;
                    *quarter.demand_kwh.get_or_insert_default() += kwh;
                }
            });
            match self.spans.last_mut() {
                Some(last) if last.state == held => last.to = now,
                _ => self.spans.push(Span {
                    state: held,
                    from: since,
                    to: now,
                }),
            }
            let quarter = self.quarters.entry(now - now.rem_euclid(QUARTER_MS)).or_default();
            quarter.cycles += sample.said.cycles - before.said.cycles;
            quarter.good += sample.said.good - before.said.good;
        }
        if let Some(register) = sample.register_kwh {
            let (since, known) = self.register.replace((now, register)).unwrap_or((now, register));
            let quarter = self.quarters.entry(now - now.rem_euclid(QUARTER_MS)).or_default();
            *quarter.kwh.entry(held).or_default() += register - known;
            quarter.factors += 1;
            let per_ms = (register - known) / (now - since).max(1) as f64;
            each_quarter(since, now, |quarter, ms| {
                let quarter = self.quarters.entry(quarter).or_default();
                *quarter.demand_kwh.get_or_insert_default() += per_ms * ms as f64;
            });
        }
    }

    pub(super) fn newest(&self) -> Option<Sample> {
        self.newest
    }

    /// When the shift that is on began and when it ends.
    pub(super) fn period(&self) -> Option<(i64, i64)> {
        self.newest.map(|newest| shift_of(newest.at.ms()))
    }

    /// The sums of the shift that is on.
    pub(super) fn sums(&self, ideal_cycle_s: f64) -> Sums {
        let mut sums = Sums::default();
        let Some((began, end)) = self.period() else {
            return sums;
        };
        let now = self.newest.map_or(0, |newest| newest.at.ms());
        for (start, quarter) in self.quarters.range(began..end) {
            for (state, ms) in &quarter.ms {
                let work = matches!(*state, "producing" | "setup");
                let state = if is_break(*start) && !work {
                    "planned_down"
                } else {
                    state
                };
                *sums.ms.entry(state).or_default() += *ms as f64;
            }
            for (state, kwh) in &quarter.kwh {
                sums.kwh += kwh;
                match *state {
                    "producing" => sums.producing_kwh += kwh,
                    "unknown" => {}
                    _ => sums.idle_kwh += kwh,
                }
            }
            sums.parts += quarter.cycles as f64;
            sums.good += quarter.good as f64;
            sums.factors += quarter.factors as f64;
            // A quarter is over by the next reading of its register, or by time where there is none.
            let known_to = self.register.map_or(now, |(read, _)| read);
            if let Some(kwh) = quarter.demand_kwh.filter(|_| start + QUARTER_MS <= known_to) {
                sums.peak_kw = Some(sums.peak_kw.unwrap_or(0.0).max(4.0 * kwh));
            }
        }
        sums.ideal_ms = 1_000.0 * ideal_cycle_s * sums.parts;
        sums
    }

    /// The mean times between failures and to repair.
    fn failures(&self) -> (Option<f64>, Option<f64>) {
        let (mut operating, mut until_failure, mut failures) = (0, 0, 0_u32);
        let (mut down, mut repaired, mut repairs) = (0, 0, 0_u32);
        let mut failed = false;
        let on = self.newest.map(|newest| newest.said.state);
        let now = self.newest.map_or(0, |newest| newest.at.ms());
        let last = on.map(|state| Span {
            state,
            from: now,
            to: now,
        });
        for span in self.spans.iter().copied().chain(last) {
            if span.state == "down" && !failed {
                (failed, until_failure, failures) = (true, operating, failures + 1);
            } else if span.state != "down" && failed {
                (failed, repaired, repairs) = (false, down, repairs + 1);
            }
            match span.state {
                "producing" | "setup" => operating += span.to - span.from,
                "down" => down += planned_ms(span),
                _ => {}
            }
        }
        let mean = |ms: i64, number: u32| (number > 0).then(|| ms as f64 / 1_000.0 / f64::from(number));
        (mean(until_failure, failures), mean(repaired, repairs))
    }

    pub(super) fn kpis(&self, ideal_cycle_s: f64) -> Json {
        let sums = self.sums(ideal_cycle_s);
        let mut kpis = sums.kpis();
        let (mtbf_s, mttr_s) = self.failures();
        let planned_h = sums.planned() / HOUR_MS as f64;
        for (name, value) in [
            ("mtbf_s", mtbf_s),
            ("mttr_s", mttr_s),
            ("peak_demand_kw", sums.peak_kw),
            (
                "cycle_time_s",
                over(sums.of(&["producing"]) / 1_000.0, sums.parts),
            ),
            ("throughput_per_h", over(sums.parts, planned_h)),
        ] {
            kpis.insert(name.into(), value.into());
        }
        Json::Object(kpis)
    }
}

/// What of a span lies outside of breaks.
fn planned_ms(span: Span) -> i64 {
    let mut planned = 0;
    each_quarter(span.from, span.to, |quarter, ms| {
        planned += if is_break(quarter) { 0 } else { ms }
    });
    planned
}

fn over(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Times and quantities of one machine, or of several.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    ms: BTreeMap<&'static str, f64>,
    parts: f64,
    good: f64,
    ideal_ms: f64,
    kwh: f64,
    producing_kwh: f64,
    idle_kwh: f64,
    factors: f64,
    peak_kw: Option<f64>,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        for (state, ms) in &other.ms {
            *self.ms.entry(state).or_default() += ms;
        }
        self.parts += other.parts;
        self.good += other.good;
        self.ideal_ms += other.ideal_ms;
        self.kwh += other.kwh;
        self.producing_kwh += other.producing_kwh;
        self.idle_kwh += other.idle_kwh;
        self.factors += other.factors;
    }

    fn of(&self, states: &[&str]) -> f64 {
        states.iter().filter_map(|state| self.ms.get(state)).sum()
    }

    fn planned(&self) -> f64 {
        self.of(&["producing", "setup", "idle", "stopped", "down"])
    }

    /// The KPIs that a machine and a line have.
    pub(super) fn kpis(&self) -> Map<String, Json> {
        let (apt, aust) = (self.of(&["producing"]), self.of(&["setup"]));
        let (adet, pbt) = (self.of(&["stopped", "down"]), self.planned());
        let (availability, quality) = (over(apt, pbt), over(self.good, self.parts));
        let effectiveness = over(self.ideal_ms, apt);
        // APT and PQ cancel out; but OEE is only known where all of its parts are.
        let known = availability.and(effectiveness).and(quality);
        let oee = known.and_then(|_| over(self.ideal_ms / self.parts * self.good, pbt));
        [
            ("utilization", over(apt, pbt + self.of(&["planned_down"]))),
            ("availability", availability),
            ("effectiveness", effectiveness),
            ("quality_ratio", quality),
            ("oee", oee),
            ("nee", oee.map(|oee| oee * (apt + aust) / apt)),
            ("utilization_efficiency", over(apt, apt + aust + adet)),
            ("allocation_efficiency", over(apt + aust + adet, pbt)),
            ("technical_efficiency", over(apt, apt + adet)),
            ("setup_rate", over(aust, apt + aust)),
            ("parts", Some(self.parts)),
            ("good_parts", Some(self.good)),
            ("scrap_parts", Some(self.parts - self.good)),
            ("energy_kwh", Some(self.kwh)),
            ("energy_per_good_part_kwh", over(self.kwh, self.good)),
            (
                "idle_energy_share",
                over(self.idle_kwh, self.idle_kwh + self.producing_kwh),
            ),
            ("power_factor", over(0.9 * self.factors, self.factors)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").ms()
    }

    #[test]
    fn helsinkis_clocks_change_by_the_rule_of_the_eu() {
        for (time, hours) in [
            ("2026-03-29T00:59:59Z", 2),
            ("2026-03-29T01:00:00Z", 3),
            ("2026-10-25T00:59:59Z", 3),
            ("2026-10-25T01:00:00Z", 2),
            ("2024-03-31T01:00:00Z", 3),
            ("2027-03-28T00:59:59Z", 2),
            ("2027-03-28T01:00:00Z", 3),
            ("2028-10-29T01:00:00Z", 2),
        ] {
            assert_eq!(ahead_ms(ms(time)), hours * HOUR_MS, "{time}");
        }
    }

    #[test]
    fn a_shift_is_found_quarter_by_quarter() {
        for (time, began, end) in [
            (
                "2026-01-15T05:00:00Z",
                "2026-01-15T04:00:00Z",
                "2026-01-15T12:00:00Z",
            ),
            (
                "2026-03-29T02:00:00Z",
                "2026-03-28T20:00:00Z",
                "2026-03-29T03:00:00Z",
            ),
            (
                "2026-10-25T03:59:59Z",
                "2026-10-24T19:00:00Z",
                "2026-10-25T04:00:00Z",
            ),
        ] {
            assert_eq!(shift_of(ms(time)), (ms(began), ms(end)), "{time}");
        }
    }
}
