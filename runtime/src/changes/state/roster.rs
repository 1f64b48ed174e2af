//! The twins that groups know, by number.

use std::collections::HashMap;

use gemba_twins::id::TwinId;

use crate::changes::group::Update;

/// Twins that groups know, by number: sets of numbers are small.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) numbers: HashMap<TwinId, u32>,
    pub(super) names: Vec<TwinId>,
    /// The groups that each twin is a member of.
    pub(super) member_of: Vec<Vec<u64>>,
}

impl Roster {
    /// The number of a twin, given at first sight.
    pub(super) fn number(&mut self, twin: &TwinId) -> u32 {
        if let Some(number) = self.numbers.get(twin) {
            return *number;
        }
        // Twins number far less than 4 billion.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.numbers.insert(twin.clone(), number);
        self.names.push(twin.clone());
        self.member_of.push(Vec::new());
        number
    }

    /// Follows what an update did to a group.
    pub(super) fn track(&mut self, number: u32, group: u64, update: &Update) {
        let groups = &mut self.member_of[number as usize];
        match update {
            Update::Entered => groups.push(group),
            Update::Left(_) => groups.retain(|other| *other != group),
            Update::Nothing | Update::Changed(_) => {}
        }
    }
}
