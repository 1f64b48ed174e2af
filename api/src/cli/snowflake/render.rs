//! The warehouse's own side as numbered SQL files.
//!
//! Promises: what is rendered depends on nothing but the flags; each statement may be run again; names are checked, so
//! that no flag can become a statement.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use gemba_twins::id::TenantId;

use crate::config::plain_name;

/// The migrations in their order, as they stand in `deploy/snowflake/`.
const MIGRATIONS: [(&str, &str); 9] = [
    (
        "001_roles_and_warehouses.sql",
        include_str!("../../../../deploy/snowflake/001_roles_and_warehouses.sql"),
    ),
    (
        "002_tenants.sql",
        include_str!("../../../../deploy/snowflake/002_tenants.sql"),
    ),
    (
        "003_tables.sql",
        include_str!("../../../../deploy/snowflake/003_tables.sql"),
    ),
    (
        "004_normalized.sql",
        include_str!("../../../../deploy/snowflake/004_normalized.sql"),
    ),
    (
        "005_analytics.sql",
        include_str!("../../../../deploy/snowflake/005_analytics.sql"),
    ),
    (
        "006_streams_and_tasks.sql",
        include_str!("../../../../deploy/snowflake/006_streams_and_tasks.sql"),
    ),
    (
        "007_cortex.sql",
        include_str!("../../../../deploy/snowflake/007_cortex.sql"),
    ),
    (
        "008_costs.sql",
        include_str!("../../../../deploy/snowflake/008_costs.sql"),
    ),
    (
        "009_stages.sql",
        include_str!("../../../../deploy/snowflake/009_stages.sql"),
    ),
];
const PREMIUM: &str = include_str!("../../../../deploy/snowflake/100_premium_tenant.sql");

/// The names that the files are made with.
#[derive(Args)]
pub(super) struct Names {
    /// The database
    #[arg(long, default_value = "GEMBA")]
    pub(super) database: String,
    /// The schema of what all tenants share
    #[arg(long, default_value = "HISTORY")]
    pub(super) schema: String,
    /// What the names of roles and users begin with
    #[arg(long, default_value = "GEMBA")]
    role: String,
    /// What the names of warehouses begin with
    #[arg(long, default_value = "GEMBA")]
    pub(super) warehouse: String,
    /// Credits a month after which the warehouses are suspended
    #[arg(long, default_value_t = 150)]
    credit_quota: u32,
    /// A tenant that gets a schema, a role and a warehouse of its own; may be given again
    #[arg(long, value_name = "TENANT")]
    premium: Vec<String>,
}

#[derive(Args)]
pub(super) struct RenderArgs {
    #[command(flatten)]
    names: Names,
    /// The folder for the files; the standard output if absent
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn write(args: &RenderArgs) -> anyhow::Result<()> {
    let files = render(&args.names)?;
    let Some(out) = &args.out else {
        for (name, text) in files {
            println!("-- {name}\n{text}");
        }
        return Ok(());
    };
    std::fs::create_dir_all(out).with_context(|| format!("failed to make {}", out.display()))?;
    for (name, text) in files {
        let path = out.join(&name);
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The files: their names and texts, in their order.
pub(super) fn render(names: &Names) -> anyhow::Result<Vec<(String, String)>> {
    let quota = names.credit_quota.to_string();
    let mut values = vec![("credit_quota", quota.as_str())];
    for (flag, name) in [
        ("database", &names.database),
        ("schema", &names.schema),
        ("role", &names.role),
        ("warehouse", &names.warehouse),
    ] {
        plain_name(name).map_err(|detail| anyhow::anyhow!("--{flag} {detail}"))?;
        values.push((flag, name));
    }
    let mut files: Vec<(String, String)> = MIGRATIONS
        .iter()
        .map(|(name, template)| ((*name).to_owned(), filled(template, &values)))
        .collect();
    for (index, tenant) in names.premium.iter().enumerate() {
        TenantId::parse(tenant).with_context(|| format!("--premium {tenant}"))?;
        let upper: String = tenant
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect();
        let own = [("tenant", tenant.as_str()), ("tenant_upper", upper.as_str())];
        let of_tenant: Vec<_> = values.iter().copied().chain(own).collect();
        files.push((
            format!("{}_premium_{upper}.sql", 100 + index),
            filled(PREMIUM, &of_tenant),
        ));
    }
    Ok(files)
}

fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}
