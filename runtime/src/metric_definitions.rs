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
pub(crate) const SHARD_QUEUE: &str = "cluster_shard_queue_messages";
pub(crate) const SHARD_OWNED: &str = "cluster_shard_owned";
pub(crate) const SHARD_EPOCH: &str = "cluster_shard_epoch";
pub(crate) const SHARD_LAG: &str = "cluster_shard_lag_entries";
pub(crate) const SHARDS_WITHOUT_OWNER: &str = "cluster_shards_without_owner";
pub(crate) const HAS_QUORUM: &str = "cluster_has_quorum";
pub(crate) const NODES: &str = "cluster_nodes";
pub(crate) const OWNER_CHANGES: &str = "cluster_owner_changes_total";
pub(crate) const FORWARDED: &str = "cluster_forwarded_messages_total";
pub(crate) const FORWARD_RETRIES: &str = "cluster_forward_retries_total";
pub(crate) const CONNECTIONS_REFUSED: &str = "cluster_connections_refused";
pub(crate) const HISTORY_EVENTS: &str = "history_events_total";
pub(crate) const HISTORY_ROWS: &str = "history_rows_total";
pub(crate) const HISTORY_BYTES: &str = "history_written_bytes_total";
pub(crate) const HISTORY_FAILED: &str = "history_failed_total";
pub(crate) const HISTORY_ALARMS_DROPPED: &str = "history_alarms_dropped_total";
pub(crate) const HISTORY_COPIED_FILES: &str = "history_copied_files_total";
pub(crate) const HISTORY_COPIED_BYTES: &str = "history_copied_bytes_total";
pub(crate) const HISTORY_COPY_FAILED: &str = "history_copy_failed_total";
pub(crate) const HISTORY_COPY_BEHIND: &str = "history_copy_behind_files";
pub(crate) const HISTORY_LAG_EVENTS: &str = "history_lag_events";
pub(crate) const JOURNAL_FULL_RATIO: &str = "journal_full_ratio";
pub(crate) const JOURNAL_REFUSING: &str = "journal_refusing";
pub(crate) const REJECTED_DROPPED: &str = "rejected_dropped_total";
pub(crate) const UPLOAD_BYTES: &str = "upload_received_bytes_total";
pub(crate) const UPLOAD_KEPT_BYTES: &str = "upload_kept_bytes";
pub(crate) const UPLOAD_ROWS: &str = "upload_rows_total";
pub(crate) const UPLOAD_REFUSED: &str = "upload_refused_total";
pub(crate) const UPLOAD_EXPIRED: &str = "upload_expired_total";
pub(crate) const STORAGE_FREE: &str = "storage_free_bytes";
pub(crate) const STORAGE_SIZE: &str = "storage_size_bytes";
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
    describe_gauge!(
        SHARD_QUEUE,
        "Messages that wait for a shard's group on this node, by shard"
    );
    describe_gauge!(SHARD_OWNED, "1 where this node owns the shard");
    describe_gauge!(
        SHARD_EPOCH,
        "The epoch (raft term) of a shard as this node knows it"
    );
    describe_gauge!(
        SHARD_LAG,
        "Entries by which the farthest replica of an owned shard is behind"
    );
    describe_gauge!(
        SHARDS_WITHOUT_OWNER,
        "Shards kept here of which no owner is known"
    );
    describe_gauge!(
        HAS_QUORUM,
        "1 while every shard that is kept here has an owner known here"
    );
    describe_gauge!(NODES, "Nodes of the cluster, by state");
    describe_counter!(
        OWNER_CHANGES,
        "Changes of a shard's owner that this node has seen, by shard"
    );
    describe_counter!(FORWARDED, "Messages that another node put in order for this one");
    describe_counter!(FORWARD_RETRIES, "Batches that were sent on again");
    describe_gauge!(
        CONNECTIONS_REFUSED,
        "Connections that the cluster port refused since the start"
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
    describe_counter!(
        HISTORY_ALARMS_DROPPED,
        "Changes of alarms that no file could be written for in time"
    );
    describe_counter!(
        HISTORY_COPIED_FILES,
        "Files of the history that were copied into the object store"
    );
    describe_counter!(
        HISTORY_COPIED_BYTES,
        Unit::Bytes,
        "Bytes of the history's files that were copied"
    );
    describe_counter!(
        HISTORY_COPY_FAILED,
        "Rounds in which not all files could be copied; they are tried again"
    );
    describe_gauge!(
        HISTORY_COPY_BEHIND,
        "Files of the history that the object store lacks"
    );
    describe_gauge!(
        HISTORY_LAG_EVENTS,
        "Events that are not in the history's files yet, by shard"
    );
    describe_gauge!(
        JOURNAL_FULL_RATIO,
        "How much of its limit the journal has reached, in bytes or in the age of what a destination lacks; alarm from 0.8"
    );
    describe_gauge!(
        JOURNAL_REFUSING,
        "1 while new data is refused because the journal is full"
    );
    describe_counter!(UPLOAD_BYTES, Unit::Bytes, "Bytes of uploads that were taken");
    describe_gauge!(
        UPLOAD_KEPT_BYTES,
        Unit::Bytes,
        "Bytes of uploads that are kept or promised room"
    );
    describe_counter!(UPLOAD_ROWS, "Rows of uploads that came to their end, by end");
    describe_counter!(
        UPLOAD_REFUSED,
        "Uploads refused because a limit would be passed, by limit"
    );
    describe_counter!(UPLOAD_EXPIRED, "Uploads removed because they were too old");
    describe_gauge!(
        STORAGE_FREE,
        Unit::Bytes,
        "Bytes free on the disk of the data folder"
    );
    describe_gauge!(STORAGE_SIZE, Unit::Bytes, "Bytes of the disk of the data folder");
    describe_counter!(
        CONTRACT_VIOLATIONS,
        "Values that broke a data contract and were taken and marked, by tenant"
    );
    describe_counter!(
        REJECTED_DROPPED,
        "Rejected messages dropped because too many were kept"
    );
}
