//! The names of the checkpoint's metrics, with what they count.

use metrics::{Unit, describe_counter, describe_gauge};

pub(super) const LAG_EVENTS: &str = "checkpoint_lag_events";
pub(super) const LAG_BYTES: &str = "checkpoint_lag_bytes";
pub(super) const LAG_SECONDS: &str = "checkpoint_lag_seconds";
pub(super) const ROWS_SENT: &str = "checkpoint_rows_sent_total";
pub(super) const ROWS_FILED: &str = "checkpoint_rows_filed_total";
pub(super) const BYTES_SENT: &str = "checkpoint_sent_bytes_total";
pub(super) const BYTES_ON_WIRE: &str = "checkpoint_on_wire_bytes_total";
pub(super) const ROWS_COMMITTED: &str = "checkpoint_rows_committed_total";
pub(super) const COMMITS: &str = "checkpoint_commits_total";
pub(super) const REOPENS: &str = "checkpoint_reopens_total";
pub(super) const DEAD_LETTERS: &str = "checkpoint_dead_letters_total";
pub(super) const FAILED: &str = "checkpoint_failed_total";
pub(super) const FENCED: &str = "checkpoint_fenced_channels";
pub(super) const BREAKER_OPEN: &str = "checkpoint_breaker_open";
pub(super) const CREDITS: &str = "checkpoint_estimated_credits";

/// Tells the recorder what each metric means.
pub(super) fn describe() {
    describe_gauge!(
        LAG_EVENTS,
        "Events of the journal that are not known to be committed, by tenant and table"
    );
    describe_gauge!(
        LAG_BYTES,
        Unit::Bytes,
        "What these events come to as rows, by the mean of the rows before"
    );
    describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "Age of the oldest event that is not known to be committed"
    );
    describe_counter!(ROWS_SENT, "Rows sent, those that were sent again too");
    describe_counter!(
        ROWS_FILED,
        "Rows among them that the journal had given up and the history's files held"
    );
    describe_counter!(BYTES_SENT, Unit::Bytes, "Bytes of rows sent, before compression");
    describe_counter!(BYTES_ON_WIRE, Unit::Bytes, "Bytes of rows sent, compressed");
    describe_counter!(ROWS_COMMITTED, "Rows that the warehouse said it has committed");
    describe_counter!(COMMITS, "Times that the warehouse said it has committed more");
    describe_counter!(REOPENS, "Channels opened, by reason");
    describe_counter!(
        DEAD_LETTERS,
        "Rows that the warehouse refused and that were written down"
    );
    describe_counter!(
        FAILED,
        "Requests that failed and are tried again, by what is known of them"
    );
    describe_gauge!(FENCED, "Channels that another writer took");
    describe_gauge!(
        BREAKER_OPEN,
        "1 while the warehouse is not asked because it does not answer"
    );
    describe_gauge!(
        CREDITS,
        "Credits that what was sent since the start is estimated to cost"
    );
}
