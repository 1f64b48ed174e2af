//! What stands in `deploy/` works: each file is read by the tool that it is for, and says of gemba only what is true of it.
//!
//! `./dev test` installs the tools. No Docker and no Kubernetes run here: images are not built, manifests not applied.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod alerts;
mod chart;
mod compose;
mod guide;
mod image;
mod restart;
mod rolling;
mod service;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{
    command::{command, gemba, run},
    python::python,
};

/// A file of `deploy/`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a tool: what it said, or, where it is not content, all of that as the error.
fn said_by(tool: &mut Command) -> Result<String, String> {
    let output = tool
        .output()
        .unwrap_or_else(|error| panic!("{tool:?}: {error} (./dev test installs it)"));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(out),
        false => Err(format!(
            "{tool:?}\n{out}{}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// As [`said_by`], where it has to be content.
fn said_well_by(tool: &mut Command) -> String {
    said_by(tool).unwrap_or_else(|problem| panic!("{problem}"))
}

/// A program that a package of Python brings.
fn of_python(program: &str) -> Command {
    Command::new(Path::new(python().get_program()).with_file_name(program))
}

/// Asks `tools.py`.
fn asked(arguments: &[&str]) -> Result<Value, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deploy/tools.py");
    let answer = said_by(python().arg(script).args(arguments))?;
    Ok(serde_json::from_str(&answer).expect("JSON"))
}

/// The only document of a YAML file.
fn yaml(path: &Path) -> Value {
    let documents =
        asked(&["yaml", path.to_str().expect("UTF-8")]).unwrap_or_else(|problem| panic!("{problem}"));
    let mut documents = documents.as_array().expect("documents").clone();
    assert_eq!(documents.len(), 1, "{}", path.display());
    documents.remove(0)
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
        .iter()
        .map(|item| item.as_str().unwrap_or_else(|| panic!("no text: {item}")))
        .collect()
}

fn string<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} of {value}"))
}

/// Every setting that a node knows.
fn settings() -> BTreeSet<String> {
    in_force(&BTreeMap::new(), None)
        .unwrap_or_else(|problem| panic!("{problem}"))
        .into_keys()
        .collect()
}

/// Certificates of a cluster's nodes, in a folder of their own.
fn certificates(nodes: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("UTF-8");
    let said = gemba(&[
        "certs",
        "--cluster",
        "plant",
        "--nodes",
        &nodes.to_string(),
        "--out",
        out,
    ]);
    assert_eq!(said.status, 0, "{}", said.err);
    folder
}

/// What would be in force with these variables and this file; an error where gemba refuses them.
fn in_force(
    variables: &BTreeMap<String, String>,
    config: Option<&Path>,
) -> Result<BTreeMap<String, String>, String> {
    let mut show = command(&["config", "--print", "--json"]);
    if let Some(config) = config {
        show.arg("--config").arg(config);
    }
    let said = run(show.envs(variables));
    if said.status != 0 {
        return Err(said.err);
    }
    let shown: Value = serde_json::from_str(&said.out).expect("JSON");
    let entries = shown.as_array().expect("settings").iter();
    Ok(entries
        .map(|entry| {
            let value = &entry["value"];
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Texts are shown as they stand in the file, between quotes.
            (
                string(entry, "/key").to_owned(),
                value.trim_matches('"').to_owned(),
            )
        })
        .collect())
}

/// Asserts that gemba has this command with these options; what does not begin with `--` is not looked at.
fn is_understood(place: &str, arguments: &[&str]) {
    // Of a command with commands of its own the help of the inner one counts.
    let inner = arguments
        .get(1)
        .is_some_and(|word| word.chars().all(char::is_alphabetic))
        && ["key", "alarms", "snowflake"].contains(&arguments[0]);
    let mut asked: Vec<&str> = arguments[..if inner { 2 } else { 1 }].to_vec();
    asked.push("--help");
    let help = gemba(&asked);
    assert_eq!(
        help.status,
        0,
        "{place}: gemba {} is no command",
        arguments.join(" ")
    );
    for option in arguments.iter().filter(|argument| argument.starts_with("--")) {
        let name = option.split('=').next().unwrap_or(option);
        let known = help
            .out
            .split(|c: char| c.is_whitespace() || ",[]".contains(c))
            .any(|word| word == name);
        assert!(known, "{place}: gemba {} has no option {name}", arguments[0]);
    }
}

/// All files below `deploy/` but those of the warehouse, which `snowflake.rs` looks at, with their texts.
fn all_files() -> Vec<(String, String)> {
    fn walk(folder: &Path, into: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("snowflake") {
                walk(&path, into);
            } else if path.is_file() && !path.is_symlink() {
                let name = path
                    .strip_prefix(deploy(""))
                    .expect("within")
                    .display()
                    .to_string();
                into.push((name, text(&path)));
            }
        }
    }
    let mut files = Vec::new();
    walk(&deploy(""), &mut files);
    files.sort();
    files
}
