//! The Python that has the packages of `tests/requirements.txt`: `GEMBA_PYTHON`, or what `./dev test` makes.

use std::process::Command;

/// Starts that Python; `./dev test` makes it in `target/python`.
pub(crate) fn python() -> Command {
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    Command::new(std::env::var("GEMBA_PYTHON").unwrap_or_else(|_| made.into()))
}
