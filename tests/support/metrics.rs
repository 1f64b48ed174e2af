//! The metrics that nodes have, by the files that define them, and those that an expression of Prometheus reads.

use std::{collections::BTreeSet, fs, path::Path};

/// The metrics of a node, with the names that a histogram is shown under. A name that is defined and described, and then
/// used nowhere, is none.
pub(crate) fn known() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut dyn FnMut(&Path)) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found)
            } else {
                found(&path)
            }
        }
    }
    let read = |path: &Path| fs::read_to_string(path).expect("a source file");
    let mut files = Vec::new();
    for part in ["cluster", "runtime", "api"] {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(part).join("src");
        walk(&sources, &mut |path| {
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains("metric"))
            {
                files.push(path.to_owned());
            }
        });
    }
    let mut names = BTreeSet::new();
    for file in files {
        let mut around = String::new();
        walk(file.parent().expect("a folder"), &mut |path| {
            if path.extension().is_some_and(|extension| extension == "rs") {
                around.push_str(&read(path));
            }
        });
        for line in read(&file).lines() {
            let Some((constant, text)) = line.split_once(": &str = \"") else {
                continue;
            };
            let constant = constant.rsplit(' ').next().expect("a name");
            let words = around.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if words.filter(|word| *word == constant).count() >= 3 {
                names.extend(text.split('"').next().map(str::to_owned));
            }
        }
    }
    assert!(names.len() > 30, "only {} names were found", names.len());
    let histograms: Vec<String> = names
        .iter()
        .filter(|name| name.ends_with("_seconds"))
        .cloned()
        .collect();
    for name in histograms {
        names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
    }
    names
}

/// The metrics that an expression reads: its words that are neither functions, nor labels, nor words of the language.
pub(crate) fn read_by(expression: &str) -> BTreeSet<String> {
    const LANGUAGE: [&str; 7] = [
        "and",
        "or",
        "unless",
        "offset",
        "bool",
        "group_left",
        "group_right",
    ];
    const BEFORE_LABELS: [&str; 4] = ["by", "without", "on", "ignoring"];
    let mut metrics = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
            .unwrap_or(rest.len());
        let skip = |until: char| rest.find(until).map_or(rest.len(), |at| at + 1);
        if first == '{' {
            rest = &rest[skip('}')..];
        } else if first == '[' {
            rest = &rest[skip(']')..];
        } else if first.is_ascii_digit() {
            // A number or a duration, also 5e6.
            rest = &rest[length.max(1)..];
        } else if length == 0 {
            rest = &rest[first.len_utf8()..];
        } else {
            let word = &rest[..length];
            rest = &rest[length..];
            // Also `max by (shard) (…)`.
            let is_called = ["(", "by ", "without "]
                .iter()
                .any(|then| rest.trim_start().starts_with(then));
            if BEFORE_LABELS.contains(&word) {
                rest = rest.split_once(')').map_or("", |(_, after)| after);
            } else if !is_called && !LANGUAGE.contains(&word) {
                metrics.insert(word.to_owned());
            }
        }
    }
    metrics
}
