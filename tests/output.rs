//! What commands write, and who reads it: pipes, files, nobody.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use support::command::command;

/// Colours were written into files and pipes.
#[test]
fn what_goes_into_a_pipe_has_no_colours() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut serve = command(&["serve", "--http", "127.0.0.1:0", "--mqtt", "off", "--data-dir"]);
    let mut node = serve
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gemba starts");
    let mut lines = BufReader::new(node.stdout.take().expect("its output")).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line == "ready");
    assert!(ready);
    node.kill().expect("killed");
    node.wait().expect("reaped");
    let mut logged = String::new();
    let mut stderr = node.stderr.take().expect("its log");
    stderr.read_to_string(&mut logged).expect("text");
    assert!(logged.contains("shard recovered"), "{logged}");
    assert!(!logged.contains('\u{1b}'), "{logged}");
}

/// `gemba get machine | head` ended in a panic.
#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let said = command(&["config", "--print"])
        .stdout(writer)
        .output()
        .expect("gemba runs");
    assert_eq!(said.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    let full = std::fs::File::create("/dev/full").expect("a device that is always full");
    let said = command(&["config", "--print"])
        .stdout(full)
        .output()
        .expect("gemba runs");
    assert_eq!(said.status.code(), Some(1));
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(error.contains("standard output cannot be written"), "{error}");
}
