//! How an import comes along: a line that is written over on a terminal, a line now and then in a pipe.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use gemba_runtime::clock;

use super::notes::Counts;

/// Time between two lines in a pipe.
const PIPE_EVERY: Duration = Duration::from_secs(10);
/// Time between two updates on a terminal.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Progress {
    terminal: bool,
    silent: bool,
    began: Instant,
    shown: Option<Instant>,
    /// Rows that were done before.
    before: u64,
    /// Rows that there are, about, where that is known.
    total: Option<u64>,
    looked: u32,
    written: bool,
}

impl Progress {
    pub(super) fn new(silent: bool) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            silent,
            began: clock::instant(),
            shown: None,
            before: 0,
            total: None,
            looked: 0,
            written: false,
        }
    }

    fn is_due(&mut self) -> bool {
        let every = if self.terminal { TERMINAL_EVERY } else { PIPE_EVERY };
        if self.silent && !self.terminal {
            return false;
        }
        let now = clock::instant();
        let due = now.duration_since(self.shown.unwrap_or(self.began)) >= every;
        if due {
            self.shown = Some(now);
        }
        due
    }

    /// The file is read once to know it again.
    pub(super) fn reading(&mut self, read: u64, size: u64) {
        if self.is_due() {
            let share = read as f64 / size.max(1) as f64;
            self.write(&format!("reading {} {:.0} %", bar(share), 100.0 * share));
        }
    }

    pub(super) fn loading(&mut self, before: u64, total: Option<u64>) {
        (self.before, self.total) = (before, total);
        self.began = clock::instant();
    }

    pub(super) fn rows(&mut self, counts: &Counts) {
        // The clock is asked only now and then: rows come by the hundred thousand a second.
        self.looked = self.looked.wrapping_add(1);
        if self.looked.is_multiple_of(256) && self.is_due() {
            let seconds = self.began.elapsed().as_secs_f64().max(0.001);
            let rate = (counts.rows() - self.before) as f64 / seconds;
            let left = self.total.map(|total| {
                let share = counts.rows() as f64 / total.max(1) as f64;
                let seconds = total.saturating_sub(counts.rows()) as f64 / rate.max(1.0);
                format!(", {} {:.0} s left", bar(share), seconds)
            });
            self.write(&format!("{counts}; {rate:.0} rows/s{}", left.unwrap_or_default()));
        }
    }

    pub(super) fn end(&mut self) {
        if self.written && self.terminal {
            eprintln!();
        }
    }

    fn write(&mut self, line: &str) {
        self.written = true;
        if self.terminal {
            eprint!("\r{line}\u{1b}[K");
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

fn bar(share: f64) -> String {
    let full = (20.0 * share.clamp(0.0, 1.0)) as usize;
    format!("[{}{}]", "#".repeat(full), " ".repeat(20 - full))
}
