//! Where a machine's periods begin and end: quarters of an hour, shifts and breaks, days.
//!
//! Promises: cut to the millisecond and in one order; looked up in the calendar only where something changes.

use super::{
    DAY_MS, Machine, Plan,
    energy::QUARTER_MS,
    figures::Quantity,
    runs::{self, Run},
};
use crate::{config::Execution, time::Timestamp};

impl Machine {
    /// Most of a long gap at once: the shifts in it that nobody saw are not listed.
    pub(super) fn skip(&mut self, from: Timestamp, at: Timestamp, plan: Plan<'_>) -> Timestamp {
        let to = at.floor_to(DAY_MS).plus_ms(-DAY_MS);
        let unknown = &mut self.total[Execution::Unknown as usize - 1];
        *unknown = unknown.saturating_add(to.ms_since(from));
        self.end_shift(from, plan);
        self.energy.close_quarter();
        self.accounted_to = Some(to);
        self.stretch_until = Timestamp::default();
        self.boundary = to;
        to
    }

    /// Does what is due at a boundary: ends a quarter of an hour, a shift, a day, in this order.
    pub(super) fn cross(&mut self, at: Timestamp, plan: Plan<'_>) {
        if at.floor_to(QUARTER_MS) == at
            && let Some(mean_kw) = self.energy.close_quarter()
        {
            self.each(|figures| figures.count(Quantity::Peak, mean_kw));
        }
        if at >= self.stretch_until {
            self.enter(at, plan);
        }
        let day = at.floor_to(DAY_MS);
        if day > self.day_began {
            if self.shift.is_none() {
                self.flush_stop();
            }
            self.day = self.day.begun();
            (self.day_began, self.stretch_since) = (day, at);
        }
        let mut boundary = day.plus_ms(DAY_MS).min(self.stretch_until);
        if self.energy.is_timed() {
            boundary = boundary.min(at.floor_to(QUARTER_MS).plus_ms(QUARTER_MS));
        }
        self.boundary = boundary;
    }

    /// Looks up what the calendar says from `at` on.
    pub(super) fn enter(&mut self, at: Timestamp, plan: Plan<'_>) {
        let calendar = plan
            .operation
            .map(|operation| &operation.calendar)
            .filter(|calendar| !calendar.shifts.is_empty());
        let Some(calendar) = calendar else {
            self.end_shift(at, plan);
            self.planned = true;
            self.stretch_until = at.plus_ms(DAY_MS);
            return;
        };
        let stretch = calendar.at(at);
        let goes_on = match (&self.shift, &stretch.shift) {
            (Some(run), Some(on)) => run.began_at == on.began_at && *run.name == *calendar.name(on.index),
            (None, None) => true,
            _ => false,
        };
        if !goes_on {
            self.end_shift(at, plan);
            self.flush_stop();
            self.shift = stretch.shift.map(|on| {
                Box::new(Run {
                    name: calendar.name(on.index).into(),
                    began_at: on.began_at,
                    ends_at: Some(on.ends_at),
                    figures: self.day.begun(),
                })
            });
        }
        if !goes_on || self.planned != stretch.planned {
            self.stretch_since = at;
        }
        self.planned = stretch.planned;
        self.stretch_until = stretch.until;
    }

    pub(super) fn end_shift(&mut self, at: Timestamp, plan: Plan<'_>) {
        if self.shift.is_none() {
            return;
        }
        self.flush_stop();
        if let Some(shift) = self.shift.take() {
            let over = shift.over(at, plan.ideal_cycle_s);
            runs::keep(&mut self.shifts_done, runs::SHIFTS_MAX, &over);
            self.untold.push(over);
        }
    }

    /// The plant model changed: the calendar is looked up again.
    pub(crate) fn replan(&mut self) {
        (self.stretch_until, self.boundary) = (Timestamp::default(), Timestamp::default());
    }
}
