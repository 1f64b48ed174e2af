//! The gemba binary: hands over to the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    gemba_api::cli::run()
}
