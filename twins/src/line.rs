//! A line, a cell, an area or a site as the sum of its machines.
//!
//! Promises: times and quantities are added, ratios never averaged. Each machine tells where it stands with cumulative
//! figures, so a repeated message changes nothing and a lost one is made good by the next. A machine whose shift is
//! over counts no more until it tells of the next one. Bounded: machines beyond the most are not counted in. The
//! figures are as of each machine's last message, at most a minute of its time ago; those of shifts that are over
//! are exact.

use std::collections::BTreeMap;

use prost::Message;

use crate::{
    config::Execution,
    machine::{
        Figures,
        runs::Run,
        view::RunView,
        wire::{FiguresWire, RunWire, figures_from_wire, figures_to_wire, run_from_wire, run_to_wire},
    },
    time::Timestamp,
};

/// Most machines of one location.
const MACHINES_MAX: usize = 2_000;
/// Shifts kept, counted by name and beginning.
const SHIFTS_MAX: usize = 12;

/// What a machine tells the locations around it.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineReport {
    pub(crate) machine: Box<str>,
    /// Up to when its time is accounted.
    pub(crate) at: Timestamp,
    pub(crate) execution: Execution,
    /// When the period of the figures ends.
    pub(crate) ends_at: Timestamp,
    /// Of the shift that is on, else of the day, with the ideal time of what was made.
    pub(crate) figures: Figures,
    /// A shift that is over since the last report.
    pub(crate) over: Option<Box<Run>>,
    /// It stands here no more.
    pub(crate) left: bool,
}

impl MachineReport {
    pub(crate) fn left(machine: &str) -> Self {
        Self {
            machine: machine.into(),
            at: Timestamp::default(),
            execution: Execution::Unknown,
            ends_at: Timestamp::default(),
            figures: Figures::default(),
            over: None,
            left: true,
        }
    }

    /// The machine's id.
    #[must_use]
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Its execution state as a word.
    #[must_use]
    pub fn execution(&self) -> &'static str {
        self.execution.as_str()
    }
}

/// A machine as it told of itself last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    at: Timestamp,
    execution: Execution,
    ends_at: Timestamp,
    figures: Figures,
}

/// A shift that is over, of all machines that told of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShiftSum {
    run: Run,
    /// The machines that are in it: a message that is repeated adds nothing.
    machines: Vec<Box<str>>,
}

/// The machines of a location.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Line {
    machines: BTreeMap<Box<str>, Told>,
    /// The newest last.
    shifts: Vec<ShiftSum>,
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.machines.is_empty() && self.shifts.is_empty()
    }

    pub(crate) fn hear(&mut self, report: &MachineReport) {
        if let Some(over) = &report.over {
            self.add_shift(&report.machine, over);
        }
        if report.left {
            self.machines.remove(&report.machine);
            return;
        }
        let full = self.machines.len() >= MACHINES_MAX;
        match self.machines.get(&report.machine) {
            Some(told) if told.at > report.at => {}
            None if full => {}
            _ => {
                let told = Told {
                    at: report.at,
                    execution: report.execution,
                    ends_at: report.ends_at,
                    figures: report.figures.clone(),
                };
                self.machines.insert(report.machine.clone(), told);
            }
        }
    }

    fn add_shift(&mut self, machine: &str, over: &Run) {
        let same = |sum: &ShiftSum| sum.run.began_at == over.began_at && sum.run.name == over.name;
        let place = self.shifts.iter().position(same).unwrap_or_else(|| {
            let place = self
                .shifts
                .partition_point(|sum| (sum.run.began_at, &sum.run.name) < (over.began_at, &over.name));
            let run = Run {
                figures: Figures::default(),
                ..over.clone()
            };
            let machines = Vec::new();
            self.shifts.insert(place, ShiftSum { run, machines });
            place
        });
        let sum = &mut self.shifts[place];
        let known = sum.machines.iter().any(|known| **known == *machine);
        if !known && sum.machines.len() < MACHINES_MAX {
            sum.machines.push(machine.into());
            sum.run.figures.add(&over.figures);
            sum.run.ends_at = sum.run.ends_at.max(over.ends_at);
        }
        if self.shifts.len() > SHIFTS_MAX {
            self.shifts.remove(0);
        }
    }

    /// The machines by state, those with the most first by the numbers of the states.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        Execution::ALL.into_iter().filter_map(|execution| {
            let told = self.machines.values();
            let number = told.filter(|told| told.execution == execution).count();
            (number > 0).then_some((execution.as_str(), number))
        })
    }

    /// The sum of the machines' periods that are not over.
    pub(crate) fn figures(&self) -> Figures {
        let newest = self.machines.values().map(|told| told.at).max();
        let mut sum = Figures::default();
        for told in self.machines.values() {
            if newest.is_some_and(|newest| newest < told.ends_at) {
                sum.add(&told.figures);
            }
        }
        sum
    }

    /// Shifts that are over, the newest first.
    pub(crate) fn shifts(&self) -> Vec<RunView> {
        let newest_first = self.shifts.iter().rev();
        newest_first.map(|sum| RunView::over(sum.run.clone())).collect()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let told = self.machines.keys().map(|name| 400 + name.len());
        let shifts = self.shifts.iter().map(|sum| 350 + 32 * sum.machines.len());
        told.sum::<usize>() + shifts.sum::<usize>()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReportWire {
    #[prost(string, tag = "1")]
    machine: String,
    #[prost(sint64, tag = "2")]
    at_ms: i64,
    #[prost(uint32, tag = "3")]
    execution: u32,
    #[prost(sint64, tag = "4")]
    ends_at_ms: i64,
    #[prost(message, optional, tag = "5")]
    figures: Option<FiguresWire>,
    #[prost(message, optional, tag = "6")]
    over: Option<RunWire>,
    #[prost(bool, tag = "7")]
    left: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LineWire {
    /// Those that stand here.
    #[prost(message, repeated, tag = "1")]
    machines: Vec<ReportWire>,
    #[prost(message, repeated, tag = "2")]
    shifts: Vec<ShiftSumWire>,
}

#[derive(Clone, PartialEq, Message)]
struct ShiftSumWire {
    #[prost(message, optional, tag = "1")]
    run: Option<RunWire>,
    #[prost(string, repeated, tag = "2")]
    machines: Vec<String>,
}

fn execution(number: u32) -> Execution {
    Execution::from_number(number).unwrap_or(Execution::Unknown)
}

pub(crate) fn report_to_wire(report: &MachineReport) -> ReportWire {
    ReportWire {
        machine: report.machine.to_string(),
        at_ms: report.at.ms(),
        execution: report.execution as u32,
        ends_at_ms: report.ends_at.ms(),
        figures: Some(figures_to_wire(&report.figures)),
        over: report.over.as_deref().map(run_to_wire),
        left: report.left,
    }
}

pub(crate) fn report_from_wire(wire: ReportWire) -> MachineReport {
    MachineReport {
        machine: wire.machine.into(),
        at: Timestamp::from_ms(wire.at_ms),
        execution: execution(wire.execution),
        ends_at: Timestamp::from_ms(wire.ends_at_ms),
        figures: wire.figures.map(figures_from_wire).unwrap_or_default(),
        over: wire.over.map(run_from_wire).map(Box::new),
        left: wire.left,
    }
}

impl Line {
    pub(crate) fn wire(&self) -> Option<LineWire> {
        let machine = |(name, told): (&str, &Told)| ReportWire {
            machine: name.to_owned(),
            at_ms: told.at.ms(),
            execution: told.execution as u32,
            ends_at_ms: told.ends_at.ms(),
            figures: Some(figures_to_wire(&told.figures)),
            over: None,
            left: false,
        };
        let shift = |sum: &ShiftSum| ShiftSumWire {
            run: Some(run_to_wire(&sum.run)),
            machines: sum.machines.iter().map(|machine| machine.to_string()).collect(),
        };
        (!self.is_empty()).then(|| LineWire {
            machines: self
                .machines
                .iter()
                .map(|(name, told)| machine((name, told)))
                .collect(),
            shifts: self.shifts.iter().map(shift).collect(),
        })
    }

    pub(crate) fn from_wire(wire: LineWire) -> Self {
        let machine = |wire: ReportWire| {
            let report = report_from_wire(wire);
            let told = Told {
                at: report.at,
                execution: report.execution,
                ends_at: report.ends_at,
                figures: report.figures,
            };
            (report.machine, told)
        };
        let shift = |wire: ShiftSumWire| {
            let machines = wire.machines.into_iter().map(String::into_boxed_str).collect();
            let run = run_from_wire(wire.run?);
            Some(ShiftSum { run, machines })
        };
        Self {
            machines: wire.machines.into_iter().map(machine).collect(),
            shifts: wire.shifts.into_iter().filter_map(shift).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::figures::Quantity;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_ms(1_764_115_200_000 + minutes * 60_000)
    }

    fn report(machine: &str, minute: i64, execution: Execution, good: f64, ideal_s: f64) -> MachineReport {
        let mut figures = Figures::default();
        figures.add_time(Execution::Producing, 60_000 * minute);
        figures.count(Quantity::Good, good);
        figures.count(Quantity::Scrap, 0.0);
        MachineReport {
            machine: machine.into(),
            at: at(minute),
            execution,
            ends_at: at(480),
            figures: figures.with_ideal(Some(ideal_s)),
            over: None,
            left: false,
        }
    }

    #[test]
    fn a_line_is_the_sum_of_what_its_machines_told_last() {
        let mut line = Line::default();
        assert!(line.is_empty());
        for (machine, minute, execution, good, ideal_s) in [
            ("fast", 30, Execution::Producing, 900.0, 1.0),
            ("slow", 60, Execution::Producing, 30.0, 60.0),
            ("fast", 60, Execution::Down, 1_800.0, 1.0),
            ("fast", 45, Execution::Producing, 1_350.0, 1.0),
        ] {
            let report = report(machine, minute, execution, good, ideal_s);
            line.hear(&report);
            line.hear(&report);
        }
        assert_eq!(line.counts().collect::<Vec<_>>(), [("producing", 1), ("down", 1)]);
        assert_eq!(line.figures().kpi("good_parts", None), Some(Ok(1_830.0)));
        // (1,800 s + 1,800 s of ideal time) in 7,200 s.
        assert_eq!(line.figures().kpi("oee", None), Some(Ok(0.5)));
        let left = MachineReport {
            left: true,
            ..report("slow", 61, Execution::Idle, 0.0, 1.0)
        };
        line.hear(&left);
        assert_eq!(line.figures().kpi("good_parts", None), Some(Ok(1_800.0)));
    }

    #[test]
    fn a_machine_whose_period_is_over_counts_no_more_and_its_shift_is_added_once() {
        let mut line = Line::default();
        line.hear(&report("one", 470, Execution::Producing, 100.0, 1.0));
        let over = Run {
            name: "early".into(),
            began_at: at(0),
            ends_at: Some(at(480)),
            figures: report("one", 480, Execution::Producing, 120.0, 1.0).figures,
        };
        for machine in ["two", "one", "two"] {
            let next = MachineReport {
                ends_at: at(960),
                over: Some(Box::new(over.clone())),
                ..report(machine, 481, Execution::Producing, 1.0, 1.0)
            };
            line.hear(&next);
        }
        assert_eq!(line.figures().kpi("good_parts", None), Some(Ok(2.0)));
        assert_eq!(line.shifts.len(), 1);
        assert_eq!(line.shifts[0].run.figures.good, 240.0);
        assert_eq!(Line::from_wire(line.wire().unwrap_or_default()), line);
    }
}
