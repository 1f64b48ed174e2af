//! The warehouse's SQL as `gemba snowflake render` writes it: it parses, isolates tenants, and uses nothing that does
//! not exist.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use support::python::python;

const GEMBA: &str = env!("CARGO_BIN_EXE_gemba");

/// Renders with two premium tenants; file names and their texts.
fn rendered(folder: &Path) -> BTreeMap<String, String> {
    let output = Command::new(GEMBA)
        .args([
            "snowflake",
            "render",
            "--premium",
            "acme",
            "--premium",
            "globex-eu",
            "--out",
        ])
        .arg(folder)
        .output()
        .expect("gemba snowflake render");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let files = fs::read_dir(folder).expect("a folder").map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("its text"))
    });
    files.collect()
}

#[test]
fn sqlfluff_reads_everything_that_is_rendered() {
    let folder = tempfile::tempdir().expect("a folder");
    rendered(folder.path());
    let lint = |folder: &Path| {
        python()
            .args([
                "-m",
                "sqlfluff",
                "lint",
                "--nofail",
                "--format",
                "github-annotation",
                "--config",
            ])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/snowflake/.sqlfluff"))
            .arg(folder)
            .output()
            .expect("a Python with sqlfluff (./dev test makes one in target/python)")
    };
    let output = lint(folder.path());
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(found.trim().trim_matches(['[', ']']), "", "{found}");
    // It does see what is wrong.
    fs::write(folder.path().join("002_tenants.sql"), "CREATE TABEL X (A INT);\n").expect("written");
    let output = lint(folder.path());
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("PRS"),
        "a fault was not found"
    );
}

#[test]
fn every_table_of_tenants_is_isolated_and_nothing_is_used_that_does_not_exist() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = rendered(folder.path());
    assert_eq!(files.len(), 11, "{:?}", files.keys());
    for (name, text) in &files {
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"))
            .map(|line| format!("{}\n", line.to_uppercase()))
            .collect();
        assert!(!code.contains("{{"), "{name} has a value that was not filled in");
        for wrong in [
            "CURRENT_SESSION_PARAMETER",
            "CREATE OR REPLACE TABLE",
            "CREATE OR REPLACE DYNAMIC",
            "OVER (PARTITION BY TENANT_ID, MACHINE_ID ORDER BY HOUR) AS FORECASTED",
            "ML.FORECAST(\n            AVG",
            "ML.DETECT_ANOMALIES(",
            "GET_PRESIGNED_URL",
            "SYSTEM$DATA_QUALITY",
            "OBJECT_AGG(LOCATION",
            "COUNT(DISTINCT STATE_CHANGE",
        ] {
            assert!(!code.contains(wrong), "{name} uses {wrong}");
        }
        for statement in code.split(';') {
            let statement = statement.trim();
            let holds_tenants = statement.contains("TENANT_ID");
            let is_table =
                statement.starts_with("CREATE TABLE") || statement.starts_with("CREATE DYNAMIC TABLE");
            if is_table && holds_tenants && !statement.contains("TENANT_ROLE_MAP") {
                assert!(
                    statement.contains("WITH ROW ACCESS POLICY TENANT_ISOLATION ON (TENANT_ID)"),
                    "{name}: {statement}"
                );
            }
            if is_table || statement.starts_with("CREATE VIEW") || statement.starts_with("CREATE STREAM") {
                assert!(
                    statement.contains("IF NOT EXISTS"),
                    "{name}: cannot be run again: {statement}"
                );
            }
        }
    }
    let premium = &files["101_premium_GLOBEX_EU.sql"];
    assert!(premium.contains("WHERE TENANT_ID = 'globex-eu'"), "{premium}");
}

#[test]
fn a_name_that_is_none_is_refused() {
    for (flag, value) in [
        ("--database", "GEMBA; DROP"),
        ("--role", "gemba"),
        ("--premium", "a'b"),
    ] {
        let output = Command::new(GEMBA)
            .args(["snowflake", "render", flag, value])
            .output()
            .expect("gemba");
        assert!(!output.status.success(), "{flag} {value}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(flag), "{said}");
    }
}
