//! The operators' guide, and every other text in `deploy/`, names what there is: files, commands, options, settings.

use std::collections::BTreeSet;

use super::{all_files, deploy, is_understood, settings, text};

/// What stands between the fences of a text.
fn fenced(markdown: &str) -> Vec<&str> {
    markdown.split("```").skip(1).step_by(2).collect()
}

/// Commands of gemba in a script: words up to what belongs to the shell.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in script.replace("\\\n", " ").lines() {
        let line = line.split('#').next().unwrap_or_default();
        for part in line.split(['|', ';', '&', '(', ')', '`', '\'']) {
            let mut words = part
                .split_whitespace()
                .skip_while(|word| *word != "gemba")
                .skip(1);
            let Some(first) = words
                .next()
                .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            else {
                continue;
            };
            found.push(std::iter::once(first).chain(words).map(str::to_owned).collect());
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for (name, text) in all_files().iter().filter(|(name, _)| name.ends_with(".md")) {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || link.contains("://") {
                continue;
            }
            let from = deploy(name);
            assert!(
                from.parent().expect("a folder").join(path).exists(),
                "{name}: {link} leads nowhere"
            );
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} links were found");
}

#[test]
fn the_guide_names_commands_and_options_that_there_are() {
    let guide = text(&deploy("README.md"));
    let mut named = BTreeSet::new();
    for script in fenced(&guide) {
        for command in commands(script) {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            is_understood("README.md", &words);
            named.insert(command[0].clone());
        }
    }
    for command in &["certs", "serve", "nodes", "drain", "key", "verify"] {
        assert!(
            named.contains(*command),
            "the guide does not say how {command} is used"
        );
    }
}

#[test]
fn settings_that_are_named_are_settings() {
    let settings = settings();
    let sections: BTreeSet<&str> = settings
        .iter()
        .filter_map(|key| key.split_once('.'))
        .map(|(section, _)| section)
        .collect();
    let mut seen = 0;
    for (name, text) in all_files() {
        // Variables, wherever they stand.
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let Some((section, key)) = word.strip_prefix("GEMBA_").and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let key = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
            // The pattern of all variables.
            assert!(
                key == "section.key" || settings.contains(&key) || optional(&key),
                "{name}: {word} sets nothing"
            );
            seen += 1;
        }
        // Keys between ticks in texts for people.
        if name.ends_with(".md") {
            for word in text.split('`').skip(1).step_by(2) {
                let is_key = word.split_once('.').is_some_and(|(section, key)| {
                    let is_file = ["json", "toml", "yaml", "redb"].contains(&key);
                    !is_file
                        && sections.contains(section)
                        && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                });
                assert!(
                    !is_key || settings.contains(word) || optional(word),
                    "{name}: {word} is no setting"
                );
                seen += usize::from(is_key);
            }
        }
    }
    assert!(seen >= 30, "only {seen} settings were found");
}

/// Settings without a default, which `gemba config --print` shows only where they are set.
fn optional(key: &str) -> bool {
    ["http", "mqtt"]
        .iter()
        .any(|section| key == format!("{section}.tls_certificate") || key == format!("{section}.tls_key"))
        || key == "mqtt.client_ca"
}
