//! The gemba binary: hands over to the command line.

use std::process::ExitCode;

/// Requests and events are many small pieces, made on one core and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gemba_api::cli::run()
}
