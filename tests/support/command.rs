//! `gemba` run to its end, and the keys that it makes.

use std::{path::Path, process::Command};

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A command that is not yet run, without any `GEMBA_` variable of whoever runs the tests.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gemba"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GEMBA_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().expect("gemba runs");
    Said {
        status: output.status.code().expect("an exit status"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs `gemba` with these arguments.
pub(crate) fn gemba(arguments: &[&str]) -> Said {
    run(&mut command(arguments))
}

/// A key made by `gemba key new`: its token, and its entry for the configuration.
pub(crate) fn new_key(tenant: &str, role: &str) -> (String, String) {
    let name = format!("{tenant}-{role}");
    let said = gemba(&["key", "new", "--tenant", tenant, "--role", role, "--name", &name]);
    assert_eq!(said.status, 0, "{}", said.err);
    let token = said.out.lines().find_map(|line| line.split_once("now): "));
    let entry = said.out.find("[[key]]").expect("an entry");
    (token.expect("a token").1.to_owned(), said.out[entry..].to_owned())
}

/// Makes a key for each tenant and role, writes them as a configuration, and answers the tokens in that order.
pub(crate) fn keys(config: &Path, of: &[(&str, &str)]) -> Vec<String> {
    let (tokens, entries): (Vec<String>, Vec<String>) =
        of.iter().map(|(tenant, role)| new_key(tenant, role)).unzip();
    std::fs::write(config, entries.join("\n")).expect("written");
    tokens
}
