//! The names of the runtime's own metrics, with what they count. `mqtt` and `changes` keep theirs beside them.
//!
//! Never a twin id in a label: tenants and sources are few, twins are not.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) const MESSAGES_RECEIVED: &str = "ingest_messages_received_total";
pub(crate) const MESSAGES_APPLIED: &str = "ingest_messages_applied_total";
pub(crate) const MESSAGES_DUPLICATE: &str = "ingest_messages_duplicate_total";
pub(crate) const MESSAGES_LATE: &str = "ingest_messages_late_total";
pub(crate) const MESSAGES_REJECTED: &str = "ingest_messages_rejected_total";
pub(crate) const ADMISSION_REFUSED: &str = "ingest_admission_refused_total";
pub(crate) const UNDER_WAY_MESSAGES: &str = "ingest_under_way_messages";
pub(crate) const UNDER_WAY_BYTES: &str = "ingest_under_way_bytes";
pub(crate) const APPEND_FAILED: &str = "shard_append_failed_total";
pub(crate) const TWINS_RESIDENT: &str = "shard_twins_resident";
pub(crate) const TWINS_KNOWN: &str = "shard_twins_known";
pub(crate) const TWINS_SET_ASIDE: &str = "shard_twins_set_aside_total";
pub(crate) const TWINS_PASSIVATED: &str = "shard_twins_passivated_total";
pub(crate) const SNAPSHOT_SECONDS: &str = "shard_snapshot_seconds";
pub(crate) const SNAPSHOT_FAILED: &str = "shard_snapshot_failed_total";
pub(crate) const RECOVERY_SECONDS: &str = "shard_recovery_seconds";
pub(crate) const OUTBOX_WAITING: &str = "shard_outbox_waiting";
pub(crate) const HISTORY_EVENTS: &str = "history_events_total";
pub(crate) const HISTORY_ROWS: &str = "history_rows_total";
pub(crate) const HISTORY_BYTES: &str = "history_written_bytes_total";
pub(crate) const HISTORY_FAILED: &str = "history_failed_total";
pub(crate) const HISTORY_LAG_EVENTS: &str = "history_lag_events";
pub(crate) const REJECTED_DROPPED: &str = "rejected_dropped_total";
pub(crate) const CONTRACT_VIOLATIONS: &str = "quality_contract_violations_total";

/// Tells the recorder what each metric means.
pub(crate) fn describe() {
    describe_counter!(
        MESSAGES_RECEIVED,
        "Messages whose end is known: applied + duplicate + late + rejected"
    );
    describe_counter!(MESSAGES_APPLIED, "Messages folded in order");
    describe_counter!(MESSAGES_DUPLICATE, "Messages recognised as sent before");
    describe_counter!(MESSAGES_LATE, "Messages folded late, with corrected history");
    describe_counter!(MESSAGES_REJECTED, "Messages kept aside with a reason");
    describe_counter!(
        ADMISSION_REFUSED,
        "Requests refused because too much was under way"
    );
    describe_gauge!(UNDER_WAY_MESSAGES, "Messages between admission and fold");
    describe_gauge!(UNDER_WAY_BYTES, Unit::Bytes, "Bytes between admission and fold");
    describe_counter!(APPEND_FAILED, "Frames that the journal could not make durable");
    describe_gauge!(TWINS_RESIDENT, "Twins in memory, by shard");
    describe_gauge!(TWINS_KNOWN, "Twins known, by shard");
    describe_counter!(TWINS_SET_ASIDE, "Twins whose fold failed and which fold no more");
    describe_counter!(TWINS_PASSIVATED, "Twins written out and taken from memory");
    describe_histogram!(
        SNAPSHOT_SECONDS,
        Unit::Seconds,
        "Time to write a shard's snapshot"
    );
    describe_counter!(SNAPSHOT_FAILED, "Snapshots that could not be written");
    describe_histogram!(
        RECOVERY_SECONDS,
        Unit::Seconds,
        "Time to recover a shard at the start"
    );
    describe_gauge!(
        OUTBOX_WAITING,
        "Messages to other twins that are not confirmed, by shard"
    );
    describe_counter!(HISTORY_EVENTS, "Events that stand in the history's files");
    describe_counter!(HISTORY_ROWS, "Rows written into the history's files, by kind");
    describe_counter!(
        HISTORY_BYTES,
        Unit::Bytes,
        "Bytes of the history's files, by kind"
    );
    describe_counter!(
        HISTORY_FAILED,
        "Turns of a shard's history that failed and are tried again"
    );
    describe_gauge!(
        HISTORY_LAG_EVENTS,
        "Events that are not in the history's files yet, by shard"
    );
    describe_counter!(
        CONTRACT_VIOLATIONS,
        "Values that broke a data contract and were taken and marked, by tenant"
    );
    describe_counter!(
        REJECTED_DROPPED,
        "Rejected messages dropped because too many were kept"
    );
}
