//! The names of the journal's and the port's metrics, with what they count.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(crate) const COMMIT_SECONDS: &str = "journal_commit_seconds";
pub(crate) const APPENDED_BYTES: &str = "journal_appended_bytes_total";
pub(crate) const APPENDED_RECORDS: &str = "journal_appended_records_total";
pub(crate) const FRAMES: &str = "journal_frames_total";
pub(crate) const COMMIT_ERRORS: &str = "journal_commit_errors_total";
pub(crate) const SEGMENTS: &str = "journal_segments";
pub(crate) const QUEUE_BYTES: &str = "journal_queue_bytes";
pub(crate) const SENT_BYTES: &str = "cluster_sent_bytes_total";
pub(crate) const RECEIVED_BYTES: &str = "cluster_received_bytes_total";

/// Tells the recorder what each metric means.
pub(crate) fn describe() {
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "Time of one commit of the journal, for all shards together"
    );
    describe_counter!(APPENDED_BYTES, Unit::Bytes, "Bytes made durable by the journal");
    describe_counter!(APPENDED_RECORDS, "Records made durable by the journal");
    describe_counter!(FRAMES, "Frames made durable by the journal");
    describe_counter!(
        COMMIT_ERRORS,
        "Commits that failed, e.g. because the disk is full"
    );
    describe_counter!(
        SENT_BYTES,
        Unit::Bytes,
        "Bytes sent to other nodes of the cluster, with all that TLS adds"
    );
    describe_counter!(
        RECEIVED_BYTES,
        Unit::Bytes,
        "Bytes received from other nodes of the cluster"
    );
    describe_gauge!(SEGMENTS, "Segment files of the journal");
    describe_gauge!(
        QUEUE_BYTES,
        Unit::Bytes,
        "Bytes that wait for the journal's next commit"
    );
}
