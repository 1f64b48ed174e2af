//! How a scan changes a job's path: the visits that are not what they were, by location.
//!
//! Promises: whatever a scan did to the path, taking the changes gives a location the visits of the path. Told after
//! everything else that a scan leads to, so that the older messages keep their numbers.

use super::{Job, Told};
use crate::{
    event::{JobFlow, TwinMessage, VisitChange},
    time::Timestamp,
};

/// A visit as locations count it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stay {
    pub(super) location: Box<str>,
    pub(super) entered_at: Timestamp,
    pub(super) left_at: Option<Timestamp>,
}

/// The visits of a path before a scan.
pub(super) type Path = Vec<Stay>;

impl Job {
    pub(super) fn path(&self) -> Path {
        let stay = |(index, visit): (usize, &super::Visit)| Stay {
            location: visit.location.clone(),
            entered_at: visit.entered_at,
            left_at: self.left_at(index),
        };
        self.visits.iter().enumerate().map(stay).collect()
    }

    /// Tells the locations what is not as it was `before`.
    pub(super) fn tell_flow(&self, id: &str, before: &Path, retraction: bool, told: &mut Told) {
        let after = self.path();
        let known = |path: &Path, index: usize| {
            let stay = path.get(index)?;
            let from = index.checked_sub(1).map(|from| path[from].location.clone());
            Some((from.unwrap_or_default(), stay.clone()))
        };
        let mut same = 0;
        while known(before, same).is_some() && known(before, same) == known(&after, same) {
            same += 1;
        }
        let mut behind = 0;
        while before.len().min(after.len()) > same + behind
            && known(before, before.len() - 1 - behind) == known(&after, after.len() - 1 - behind)
        {
            behind += 1;
        }
        let mut by_location: Vec<(Box<str>, Vec<VisitChange>)> = Vec::new();
        for (path, added) in [(before, false), (&after, true)] {
            for index in same..path.len() - behind {
                let Some((from, stay)) = known(path, index) else {
                    continue;
                };
                let change = VisitChange {
                    from,
                    entered_at: stay.entered_at,
                    left_at: stay.left_at,
                    added,
                };
                match by_location
                    .iter_mut()
                    .find(|(location, _)| *location == stay.location)
                {
                    Some((_, changes)) => changes.push(change),
                    None => by_location.push((stay.location, vec![change])),
                }
            }
        }
        for (location, changes) in by_location {
            let flow = JobFlow {
                job: id.into(),
                changes,
                retraction,
            };
            told.0.push((location, TwinMessage::JobFlow(flow)));
        }
    }
}
