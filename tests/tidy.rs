//! Keeps the house in order: which crate may know which, how a file begins, how long it may get.
//!
//! The ratchet: a file may pass 500 lines only if it stands in `LONG`, and there only with the lines it has.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files past 500 lines, with the most they may have. Shorten one, and lower its number.
const LONG: [(&str, usize); 0] = [];

/// Which of our crates each crate may depend on.
const MAY_KNOW: [(&str, &[&str]); 4] = [
    ("twins", &[]),
    ("cluster", &[]),
    ("runtime", &["twins", "cluster"]),
    ("api", &["twins", "cluster", "runtime"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["twins", "cluster", "runtime", "api", "examples", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 40, "the walk found only {} files", files.len());
    files
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .expect("within the project")
        .display()
        .to_string()
}

#[test]
fn crates_know_only_those_below_them() {
    for (name, may_know) in MAY_KNOW {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        for (other, _) in MAY_KNOW {
            let depends = manifest
                .lines()
                .any(|line| line.starts_with(&format!("gemba-{other}")));
            assert!(
                !depends || may_know.contains(&other),
                "gemba-{name} may not depend on gemba-{other}"
            );
        }
    }
}

#[test]
fn every_file_says_first_what_it_is() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).expect("a source file");
        assert!(
            text.starts_with("//!"),
            "{} does not begin with //!",
            shown(&path)
        );
    }
}

#[test]
fn files_stay_short() {
    for path in all_sources() {
        let (name, lines) = (
            shown(&path),
            fs::read_to_string(&path).expect("a source file").lines().count(),
        );
        let most = LONG
            .iter()
            .find(|(long, _)| *long == name)
            .map_or(500, |(_, most)| *most);
        assert!(
            lines <= most,
            "{name} has {lines} lines, {most} are allowed; which second idea moved in?"
        );
    }
}

#[test]
fn vague_names_do_not_move_in() {
    for path in all_sources() {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let vague = ["utils", "util", "common", "types", "helpers", "imp", "misc"];
        assert!(
            !vague.contains(&&*stem),
            "{} has a name that says nothing",
            shown(&path)
        );
    }
}
