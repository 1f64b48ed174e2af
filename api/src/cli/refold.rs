//! `gemba refold`: twins folded again from the journal with today's plant model, shown first, taken over with `--apply`.

use clap::Args;
use serde_json::{Value as Json, json};

use super::client::NodeArgs;

/// Differences of one twin that are shown; the rest is counted.
const SHOWN_MAX: usize = 12;

#[derive(Args)]
pub(super) struct RefoldArgs {
    /// Only this twin; may be given more than once
    #[arg(long, value_name = "KIND/ID")]
    twin: Vec<String>,
    /// Only twins of this kind: machine, location or job
    #[arg(long, value_name = "KIND", conflicts_with = "twin")]
    kind: Option<String>,
    /// Today's model from this time on only (RFC 3339); from the beginning if absent
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Takes the new state over; without it, nothing is changed
    #[arg(long)]
    apply: bool,
    /// As JSON, a line for each twin
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &RefoldArgs) -> anyhow::Result<()> {
    let (mut looked_at, mut differing, mut applied, mut failed) = (0, 0, 0, 0);
    let mut cursor = Json::Null;
    loop {
        let mut asked = json!({"twins": args.twin, "apply": args.apply});
        for (name, value) in [
            ("kind", json!(args.kind)),
            ("from", json!(args.from)),
            ("cursor", cursor),
        ] {
            if !value.is_null() {
                asked[name] = value;
            }
        }
        let answer = args.node.send(
            "POST",
            "/v1/refold",
            "application/json",
            asked.to_string().as_bytes(),
        )?;
        for item in answer["items"].as_array().into_iter().flatten() {
            looked_at += 1;
            differing += usize::from(item["difference"] != json!([]));
            applied += usize::from(item["applied"] == true);
            failed += usize::from(!item["error"].is_null());
            if args.json {
                println!("{item}");
            } else {
                show(item);
            }
        }
        cursor = answer["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    if !args.json {
        let taken = match (args.apply, differing) {
            (true, _) => format!("{applied} taken over"),
            (false, 0) => "nothing to take over".to_owned(),
            (false, _) => "nothing was changed (take it over with --apply)".to_owned(),
        };
        println!("{looked_at} twins folded again, {differing} differ, {taken}");
    }
    if failed > 0 {
        anyhow::bail!("{failed} twins were not taken over (their errors stand above; run it again)");
    }
    Ok(())
}

fn show(item: &Json) {
    let differences = item["difference"].as_array().map_or(&[][..], Vec::as_slice);
    if differences.is_empty() {
        return;
    }
    println!("{}", item["twin"].as_str().unwrap_or_default());
    for difference in differences.iter().take(SHOWN_MAX) {
        let path = difference["path"].as_str().unwrap_or_default();
        println!(
            "    {path}: {} → {}",
            shown(&difference["before"]),
            shown(&difference["after"])
        );
    }
    if differences.len() > SHOWN_MAX {
        println!("    and {} more (all with --json)", differences.len() - SHOWN_MAX);
    }
    if let Some(detail) = item["error"]["detail"].as_str() {
        println!("    not taken over: {detail}");
    }
}

fn shown(value: &Json) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        text
    } else {
        text.chars().take(59).chain(['…']).collect()
    }
}
