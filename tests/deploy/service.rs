//! The unit, read by systemd's own tools.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{deploy, is_understood, said_by, said_well_by, text};

/// The unit with the binary that there is here, in a folder of its own.
fn unit(folder: &Path, changed: impl Fn(String) -> String) -> PathBuf {
    let unit = text(&deploy("systemd/gemba.service"));
    let unit = unit.replace("/usr/local/bin/gemba", env!("CARGO_BIN_EXE_gemba"));
    let path = folder.join("gemba.service");
    std::fs::write(&path, changed(unit)).expect("written");
    path
}

/// What systemd says of a unit that it passes over, and still ends well.
fn complaints(unit: &Path) -> String {
    let mut verify = Command::new("systemd-analyze");
    let said = verify
        .arg("verify")
        .arg(unit)
        .output()
        .expect("systemd-analyze (./dev test installs it)");
    let said_of_it = String::from_utf8_lossy(&said.stderr).into_owned();
    // The machine's own units are not our business.
    let lines = said_of_it
        .lines()
        .filter(|line| line.contains("gemba.service"))
        .map(str::to_owned);
    assert!(
        said.status.success() || lines.clone().next().is_some(),
        "{said_of_it}"
    );
    lines.collect()
}

fn setting<'t>(unit: &'t str, name: &str) -> &'t str {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn systemd_takes_the_unit_and_finds_little_that_it_may_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = unit(folder.path(), |unit| unit);
    assert_eq!(complaints(&path), "");
    // Of 100: what is left are the network, and files that its own group reads.
    let security = ["security", "--offline=true", "--threshold=20"];
    said_well_by(Command::new("systemd-analyze").args(security).arg(&path));

    let worse = unit(folder.path(), |unit| {
        unit.replace("ProtectHome=yes", "ProtectHome=maybe")
    });
    assert!(
        complaints(&worse).contains("maybe"),
        "systemd-analyze sees no mistakes"
    );
    let open = unit(folder.path(), |unit| {
        unit.replace("CapabilityBoundingSet=", "#")
            .replace("ProtectSystem=", "#")
    });
    said_by(Command::new("systemd-analyze").args(security).arg(&open)).expect_err("that is too open");
}

#[test]
fn the_unit_says_what_gemba_understands_and_what_sysusers_makes() {
    let unit = text(&deploy("systemd/gemba.service"));
    let arguments: Vec<_> = setting(&unit, "ExecStart").split(' ').skip(1).collect();
    is_understood("the unit", &arguments);
    let data = arguments
        .iter()
        .position(|argument| *argument == "--data-dir")
        .expect("a folder");
    assert_eq!(
        arguments[data + 1],
        format!("/var/lib/{}", setting(&unit, "StateDirectory"))
    );
    // A member hands its shards over before it ends.
    assert!(setting(&unit, "TimeoutStopSec").parse::<u32>().expect("seconds") >= 60);

    let root = tempfile::tempdir().expect("a folder");
    let etc = root.path().join("etc");
    let folder = root.path().join("usr/lib/sysusers.d");
    std::fs::create_dir_all(&etc).expect("made");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::copy(deploy("systemd/gemba.sysusers"), folder.join("gemba.conf")).expect("copied");
    said_well_by(Command::new("systemd-sysusers").arg(format!("--root={}", root.path().display())));
    let users = text(&etc.join("passwd"));
    assert!(
        users.contains(&format!("{}:x:", setting(&unit, "User"))),
        "{users}"
    );
}
