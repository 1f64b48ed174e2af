//! What commands print: lines on standard output, for people and pipes.
//!
//! Promises: a reader that has seen enough (`gemba get machine | head`) ends a command quietly and is no failure; an
//! output that cannot be written for another reason, such as a full disk, is.

use std::{
    fmt::Arguments,
    io::{ErrorKind, Write},
    process,
};

/// Prints, or ends the command where nobody reads any more.
#[expect(
    clippy::disallowed_methods,
    reason = "deep in a command that only prints there is no way back to main, and nothing to run down"
)]
pub(crate) fn write(text: Arguments<'_>) {
    let Err(error) = std::io::stdout().write_fmt(text) else {
        return;
    };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(0);
    }
    eprintln!("gemba: standard output cannot be written: {error}");
    process::exit(1);
}

/// In place of the standard library's, which panics where nobody reads.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::write(format_args!($($text)*)) };
}

/// In place of the standard library's, which panics where nobody reads.
macro_rules! println {
    () => { $crate::cli::output::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::write(format_args!("{}\n", format_args!($($text)*))) };
}
