//! How much room the disk of the data folder has left.
//!
//! Promises: asks the system anew each time; what cannot be asked shows as not a number, never as an old figure.

use std::path::Path;

use super::Node;
use crate::metric_definitions as names;

/// Bytes that the node may still write, and bytes of the whole file system.
fn room(folder: &Path) -> Option<(f64, f64)> {
    let figures = rustix::fs::statvfs(folder).ok()?;
    let block = figures.f_frsize as f64;
    Some((figures.f_bavail as f64 * block, figures.f_blocks as f64 * block))
}

impl Node {
    /// Sets the metrics of the data folder's disk; called when somebody asks for metrics.
    pub fn measure_room(&self) {
        let (free, size) = room(&self.settings().data_dir).unwrap_or((f64::NAN, f64::NAN));
        metrics::gauge!(names::STORAGE_FREE).set(free);
        metrics::gauge!(names::STORAGE_SIZE).set(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_one_that_is_not_there_has_none_to_tell_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let (free, size) = room(folder.path()).expect("figures");
        assert!(0.0 < free && free <= size, "{free} of {size}");
        assert_eq!(room(&folder.path().join("nowhere")), None);
    }
}
