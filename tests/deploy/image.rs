//! The image: what hadolint and the sources say of how it is made. It is not built, for no Docker runs here.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use super::{deploy, of_python, said_by, said_well_by, text};

/// What the image says of settings.
pub(crate) fn settings_of_image() -> BTreeMap<String, String> {
    let dockerfile = text(&deploy("Dockerfile"));
    let last = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    let line = last
        .lines()
        .find_map(|line| line.strip_prefix("ENV "))
        .expect("variables");
    let pairs = line.split(' ').map(|pair| pair.split_once('=').expect("a pair"));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn the_image_is_made_of_what_is_here_and_runs_as_nobody() {
    said_well_by(of_python("hadolint").arg(deploy("Dockerfile")));
    let folder = tempfile::tempdir().expect("a folder");
    let worse = folder.path().join("Dockerfile");
    fs::write(&worse, "FROM debian\nRUN cd / && apt-get install curl\n").expect("written");
    said_by(of_python("hadolint").arg(&worse)).expect_err("hadolint sees nothing");

    let dockerfile = text(&deploy("Dockerfile"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let channel = text(&root.join("rust-toolchain.toml"));
    let rust = dockerfile
        .split("FROM rust:")
        .nth(1)
        .and_then(|rest| rest.split('-').next())
        .expect("a Rust");
    assert!(
        channel.contains(&format!("\"{rust}.")),
        "the image builds with Rust {rust}"
    );
    for line in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY api/"))
    {
        for source in line.split(' ').filter(|word| !word.starts_with('.')) {
            assert!(
                root.join("api").join(source.trim_start_matches("api/")).exists(),
                "no api/{source}"
            );
        }
    }
    // What the sources take in from elsewhere is let into the build.
    let ignored = text(&deploy("Dockerfile.dockerignore"));
    let let_in: Vec<_> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let crates = ["api", "runtime", "cluster", "twins"];
    assert!(crates.iter().all(|part| let_in.contains(part)));
    let mut grep = Command::new("grep");
    grep.args(["-rhoE", "include_(str|bytes)!\\(\"(\\.\\./)+deploy/[^\"]+"])
        .args(crates.map(|part| root.join(part).join("src")));
    let taken = said_well_by(&mut grep);
    assert!(taken.lines().count() > 0);
    for line in taken.lines() {
        let path = line.rsplit("../").next().expect("a path");
        let is_let_in = let_in
            .iter()
            .any(|known| path == *known || path.starts_with(&format!("{known}/")));
        assert!(is_let_in, "{path} is left out of the build");
    }

    let last = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    assert!(
        last.starts_with("gcr.io/distroless/static"),
        "there is no shell in it"
    );
    let user = last
        .lines()
        .find_map(|line| line.strip_prefix("USER "))
        .expect("a user");
    assert!(
        user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    for (port, variable) in [("8080", "HTTP"), ("1883", "MQTT"), ("7600", "CLUSTER")] {
        let exposed = last
            .lines()
            .find_map(|line| line.strip_prefix("EXPOSE "))
            .expect("ports");
        assert!(exposed.split(' ').any(|known| known == port), "{variable}");
    }
    // The folders that it makes are those that the settings name.
    for folder in settings_of_image().values() {
        let made = last.lines().any(|line| {
            line.starts_with("COPY") && line.contains("--chown=65532") && line.ends_with(folder.as_str())
        });
        assert!(made, "{folder}");
    }
    assert!(dockerfile.contains("+crt-static"));
}
