//! The names of the notifier's metrics, with what they count.

use metrics::{describe_counter, describe_gauge};

pub(super) const WAITING: &str = "notify_waiting";
pub(super) const DELIVERED: &str = "notify_delivered_total";
pub(super) const FAILED: &str = "notify_failed_total";
pub(super) const REFUSED: &str = "notify_refused_total";
pub(super) const DROPPED: &str = "notify_dropped_total";

pub(super) fn describe() {
    describe_gauge!(WAITING, "Notifications that wait for a destination");
    describe_counter!(DELIVERED, "Notifications that a destination took");
    describe_counter!(FAILED, "Tries that failed and are made again");
    describe_counter!(REFUSED, "Notifications that a destination refused for good");
    describe_counter!(DROPPED, "Notifications dropped because too many waited");
}
