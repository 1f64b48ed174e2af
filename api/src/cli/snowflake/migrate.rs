//! The rendered files as migrations: run once each, in their order, and noted in the warehouse.
//!
//! Promises: a file is noted after its last statement has run, so one that was broken off is run again, which its
//! statements allow; a file whose text has changed since is run again; the first statement that is refused ends it all,
//! with the file and the statement named.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::Args;
use gemba_runtime::{
    checkpoint::{SnowflakeSettings, Warehouse, WarehouseError},
    clock,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    AccountArgs,
    render::{Names, render},
};

/// The object does not exist, or the role may not see it.
const NOT_THERE: [&str; 2] = ["002003", "002043"];

#[derive(Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    names: Names,
    #[command(flatten)]
    account: AccountArgs,
    /// Shows what would be run, and runs nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct MigrationsArgs {
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    names: Names,
}

impl MigrationsArgs {
    pub(super) fn is_asked(&self) -> bool {
        self.account.config.is_some()
    }
}

struct Migration {
    name: String,
    checksum: String,
    statements: Vec<String>,
}

/// How a file stands in the warehouse.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Applied,
    Changed,
    Missing,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Changed => "changed since it was applied",
            Self::Missing => "not applied",
        }
    }
}

pub(super) fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let (migrations, settings) = (migrations(&args.names)?, settings(&args.account, &args.names)?);
    let warehouse = Warehouse::open(&settings, true)?;
    let applied = applied(&warehouse, &args.names)?;
    let mut run = 0;
    for migration in &migrations {
        let standing = standing(&applied, migration);
        if standing == Standing::Applied {
            continue;
        }
        run += 1;
        let count = migration.statements.len();
        if args.dry_run {
            println!(
                "{}: {}, {count} statements would be run",
                migration.name,
                standing.word()
            );
            continue;
        }
        let left_out = run_all(&warehouse, &settings, migration)?;
        note(&warehouse, &args.names, migration)?;
        match left_out {
            0 => println!("{}: {count} statements", migration.name),
            _ => println!(
                "{}: {count} statements, {left_out} of which the emulator does not know",
                migration.name
            ),
        }
    }
    if run == 0 {
        println!("all {} files are applied", migrations.len());
    }
    warehouse.close();
    Ok(())
}

pub(super) fn status(args: &MigrationsArgs, as_json: bool) -> anyhow::Result<()> {
    let (migrations, settings) = (migrations(&args.names)?, settings(&args.account, &args.names)?);
    let warehouse = Warehouse::open(&settings, true)?;
    let applied = applied(&warehouse, &args.names)?;
    warehouse.close();
    let at = |migration: &Migration| applied.get(&migration.name).map(|(_, at)| at.clone());
    if as_json {
        let item = |migration: &Migration| {
            let standing = standing(&applied, migration);
            json!({
                "file": migration.name,
                "checksum": migration.checksum,
                "applied": standing == Standing::Applied,
                "changed": standing == Standing::Changed,
                "applied_at": at(migration),
            })
        };
        let items: Vec<_> = migrations.iter().map(item).collect();
        println!("{}", serde_json::to_string_pretty(&json!({"items": items}))?);
        return Ok(());
    }
    let width = migrations
        .iter()
        .map(|migration| migration.name.len())
        .max()
        .unwrap_or_default();
    for migration in &migrations {
        let word = standing(&applied, migration).word();
        let line = format!(
            "{:width$}  {word}  {}",
            migration.name,
            at(migration).unwrap_or_default()
        );
        println!("{}", line.trim_end());
    }
    Ok(())
}

fn settings(account: &AccountArgs, names: &Names) -> anyhow::Result<std::sync::Arc<SnowflakeSettings>> {
    let (_, settings) = account.settings(None)?;
    for (flag, ours, written) in [
        ("database", &names.database, &settings.database),
        ("schema", &names.schema, &settings.schema),
    ] {
        if ours != written {
            bail!(
                "--{flag} {ours} is not snowflake.{flag} of the configuration, {written}: nodes would write elsewhere"
            );
        }
    }
    Ok(settings)
}

fn migrations(names: &Names) -> anyhow::Result<Vec<Migration>> {
    let files = render(names)?.into_iter();
    let migration = |(name, text): (String, String)| {
        let checksum = Sha256::digest(text.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let statements = split(&text).with_context(|| name.clone())?;
        Ok(Migration {
            name,
            checksum,
            statements,
        })
    };
    files.map(migration).collect()
}

fn table(names: &Names) -> String {
    format!("{}.{}.MIGRATIONS", names.database, names.schema)
}

/// What is noted in the warehouse: the checksum of each file, and when it was applied.
fn applied(warehouse: &Warehouse, names: &Names) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    // Before the first file there is no warehouse yet; who may not use it is told so by the next statement.
    let _ = warehouse.run(&format!("USE WAREHOUSE {}_LOAD_WH", names.warehouse));
    let rows = warehouse.run(&format!(
        "SELECT FILE_NAME, CHECKSUM, APPLIED_TS::VARCHAR FROM {}",
        table(names)
    ));
    let rows = match rows {
        Err(WarehouseError::Refused(says)) if NOT_THERE.iter().any(|code| says.starts_with(code)) => {
            Vec::new()
        }
        rows => rows?,
    };
    let mut applied = BTreeMap::new();
    for row in rows {
        if let [Some(name), Some(checksum), Some(at)] = row.as_slice() {
            applied.insert(name.clone(), (checksum.clone(), at.clone()));
        }
    }
    Ok(applied)
}

fn standing(applied: &BTreeMap<String, (String, String)>, migration: &Migration) -> Standing {
    match applied.get(&migration.name) {
        Some((checksum, _)) if *checksum == migration.checksum => Standing::Applied,
        Some(_) => Standing::Changed,
        None => Standing::Missing,
    }
}

/// Runs a file; how many of its statements an emulator does not know.
fn run_all(
    warehouse: &Warehouse,
    settings: &SnowflakeSettings,
    migration: &Migration,
) -> anyhow::Result<usize> {
    let mut left_out = 0;
    for (index, statement) in migration.statements.iter().enumerate() {
        let statement = if settings.emulator {
            without_masking(statement)
        } else {
            statement.clone()
        };
        match warehouse.run(&statement) {
            Ok(_) => {}
            Err(WarehouseError::Refused(says)) if settings.emulator => {
                tracing::debug!(says, "left out");
                left_out += 1;
            }
            Err(error) => {
                let head: String = statement.lines().take(2).collect::<Vec<_>>().join(" ");
                let name = &migration.name;
                bail!("{name}, statement {}: {error}\n  {head} …", index + 1);
            }
        }
    }
    Ok(left_out)
}

/// Emulators know no masking policies.
fn without_masking(statement: &str) -> String {
    statement.replace(" WITH MASKING POLICY PERSONAL_TEXT", "")
}

fn note(warehouse: &Warehouse, names: &Names, migration: &Migration) -> anyhow::Result<()> {
    let _ = warehouse.run(&format!("USE WAREHOUSE {}_LOAD_WH", names.warehouse));
    let now = clock::now().to_string();
    warehouse.run(&format!(
        "MERGE INTO {} AS T USING (SELECT {} AS FILE_NAME, {} AS CHECKSUM, {}::TIMESTAMP_NTZ(3) AS APPLIED_TS) AS S \
         ON T.FILE_NAME = S.FILE_NAME \
         WHEN MATCHED THEN UPDATE SET CHECKSUM = S.CHECKSUM, APPLIED_TS = S.APPLIED_TS \
         WHEN NOT MATCHED THEN INSERT (FILE_NAME, CHECKSUM, APPLIED_TS) VALUES (S.FILE_NAME, S.CHECKSUM, S.APPLIED_TS)",
        table(names),
        Warehouse::literal(&migration.name),
        Warehouse::literal(&migration.checksum),
        Warehouse::literal(now.trim_end_matches('Z'))
    ))?;
    Ok(())
}

/// The statements of a text, without comments: they end at semicolons that stand in no literal and no `$$` body.
fn split(text: &str) -> anyhow::Result<Vec<String>> {
    let (mut statements, mut statement, mut rest) = (Vec::new(), String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let taken = if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        } else if let Some(body) = rest.strip_prefix("$$") {
            let end = body.find("$$").context("a $$ has no end")?;
            &rest[..end + 4]
        } else if letter == '\'' {
            // A doubled quote ends one literal and begins the next: the same text in the end.
            let end = rest[1..].find('\'').context("a literal has no end")?;
            &rest[..end + 2]
        } else if letter == ';' {
            statements.push(std::mem::take(&mut statement));
            rest = &rest[1..];
            continue;
        } else {
            &rest[..letter.len_utf8()]
        };
        statement.push_str(taken);
        rest = &rest[taken.len()..];
    }
    statements.push(statement);
    let whole = statements.iter().map(|statement| statement.trim().to_owned());
    Ok(whole.filter(|statement| !statement.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_none_of_a_literal_or_body() {
        let text = "-- what; it is\nCREATE X COMMENT = 'a;''b--c'; -- so\n\nCREATE P AS\n$$\nBEGIN;\n  -- kept\nEND;\n$$;\nSELECT 1";
        let expected = [
            "CREATE X COMMENT = 'a;''b--c'",
            "CREATE P AS\n$$\nBEGIN;\n  -- kept\nEND;\n$$",
            "SELECT 1",
        ];
        assert_eq!(split(text).expect("whole"), expected);
        assert!(split("SELECT 'a").is_err() && split("AS $$ BEGIN").is_err());
    }
}
