//! `gemba verify`: checks every record of a data folder.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use gemba_runtime::{clock, node::verify};
use serde_json::json;

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The data folder; no node may use it meanwhile
    #[arg(long, value_name = "DIR", default_value = "gemba-data")]
    data_dir: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let (began, shows) = (clock::instant(), std::io::stderr().is_terminal() && !args.json);
    let report = verify(&args.data_dir, &mut |checked| {
        if shows {
            let rate = checked as f64 / began.elapsed().as_secs_f64().max(0.001);
            eprint!("\r{checked} checked, {rate:.0}/s ");
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    })?;
    if shows {
        eprintln!();
    }
    if args.json {
        println!(
            "{}",
            json!({"records": report.records, "values": report.values, "damage": report.damage})
        );
    } else {
        report.damage.iter().for_each(|line| println!("damaged: {line}"));
        println!(
            "{} journal records and {} stored values checked, {} damaged",
            report.records,
            report.values,
            report.damage.len()
        );
    }
    anyhow::ensure!(
        report.damage.is_empty(),
        "the data folder is damaged (restore what is named above from a backup)"
    );
    Ok(())
}
