//! The names of the hub's metrics, with what they count.

use metrics::{describe_counter, describe_gauge};

pub(super) const SUBSCRIPTIONS: &str = "changes_subscriptions";
pub(super) const FRAMES: &str = "changes_frames_total";
pub(super) const LOST: &str = "changes_lost_total";
pub(super) const CONFLATED: &str = "changes_conflated_total";
pub(super) const WAITING: &str = "changes_waiting";
pub(super) const REFUSED: &str = "changes_subscriptions_refused_total";

/// Tells the recorder what each metric means.
pub(super) fn describe() {
    describe_gauge!(SUBSCRIPTIONS, "Subscriptions that are open");
    describe_counter!(FRAMES, "Frames handed to subscribers");
    describe_counter!(LOST, "Revisions that subscribers were told they lost");
    describe_counter!(
        CONFLATED,
        "Changes merged into one that a subscriber had not taken yet"
    );
    describe_gauge!(
        WAITING,
        "Changed twins and revisions that the hub has not looked at yet"
    );
    describe_counter!(REFUSED, "Subscriptions refused because a limit was reached");
}
