//! `gemba alarms`: what needs a person now, and what the person does about it.

use std::{io::Write as _, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::{
    client::{NodeArgs, encoded},
    get::shown,
    serve::runtime,
};

/// How often a list that is followed is asked for again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct AlarmsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args)]
struct ListArgs {
    /// Only those in these states, with commas between; also all, active, unacknowledged (all but normal if absent)
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Only those of these priorities: low, medium, high, urgent
    #[arg(long, value_name = "PRIORITIES")]
    priority: Option<String>,
    /// Only those of one twin, e.g. machine/cnc-07
    #[arg(long, value_name = "KIND/ID")]
    twin: Option<String>,
    /// Shows each change until it is stopped
    #[arg(long)]
    watch: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Acknowledges an alarm: somebody has seen it and takes care
    Ack(SayArgs),
    /// Puts an alarm on the shelf for a time
    Shelve(ShelveArgs),
    /// Takes an alarm back from the shelf
    Unshelve(SayArgs),
    /// Remarks on an alarm
    Comment(SayArgs),
    /// Takes an alarm out of service
    OutOfService(SayArgs),
    /// Puts an alarm back into service
    InService(SayArgs),
    /// Lets go a latched alarm
    Reset(SayArgs),
    /// What happened to an alarm, the newest first
    History(HistoryArgs),
    /// How the alarms stand: active, flood, chattering, standing for more than a day
    Figures(FiguresArgs),
}

#[derive(Args)]
struct SayArgs {
    /// The alarm, e.g. machine:cnc-07:spindle_hot
    #[arg(value_name = "ID")]
    id: String,
    /// Why, in a sentence
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
struct ShelveArgs {
    /// For how long, e.g. 30m
    #[arg(long = "for", value_name = "DURATION")]
    time: String,
    #[command(flatten)]
    say: SayArgs,
}

#[derive(Args)]
struct HistoryArgs {
    /// The alarm, e.g. machine:cnc-07:spindle_hot
    #[arg(value_name = "ID")]
    id: String,
    /// All since this time (RFC 3339), from the journal; the newest few if absent
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
struct FiguresArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &AlarmsArgs) -> anyhow::Result<()> {
    let Some(action) = &args.action else {
        return if args.list.watch {
            watch(&args.list)
        } else {
            list(&args.list)
        };
    };
    match action {
        Action::Ack(args) => say(args, "ack", None),
        Action::Shelve(args) => say(&args.say, "shelve", Some(&args.time)),
        Action::Unshelve(args) => say(args, "unshelve", None),
        Action::Comment(args) => say(args, "comment", None),
        Action::OutOfService(args) => say(args, "out-of-service", None),
        Action::InService(args) => say(args, "in-service", None),
        Action::Reset(args) => say(args, "reset", None),
        Action::History(args) => history(args),
        Action::Figures(args) => figures(args),
    }
}

fn alarms(args: &ListArgs) -> anyhow::Result<Vec<Json>> {
    let parameters = [
        ("state", args.state.as_deref()),
        ("priority", args.priority.as_deref()),
        ("twin", args.twin.as_deref()),
    ];
    args.node.list("/v1/alarms", &parameters)
}

fn line(alarm: &Json) -> String {
    let value = match &alarm["value"] {
        Json::Null => String::new(),
        value => format!(" ({} {})", shown(&alarm["metric"]), shown(value)),
    };
    let who = match alarm["acknowledged_by"].as_str() {
        Some(by) if alarm["state"] == "acknowledged_active" => format!(", acknowledged by {by}"),
        _ => String::new(),
    };
    format!(
        "{:<7} {:<24} {}  {}{value}  since {}{who}",
        shown(&alarm["priority"]),
        shown(&alarm["state"]),
        shown(&alarm["id"]),
        shown(&alarm["text"]),
        shown(&alarm["since"]),
    )
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let mut alarms = alarms(args)?;
    if args.json {
        println!("{}", Json::Array(alarms));
        return Ok(());
    }
    // What is most urgent stands first.
    let rank = |alarm: &Json| {
        ["urgent", "high", "medium", "low"]
            .iter()
            .position(|word| alarm["priority"] == *word)
    };
    alarms.sort_by_key(rank);
    if alarms.is_empty() {
        println!("no alarm");
    }
    for alarm in &alarms {
        println!("{}", line(alarm));
    }
    Ok(())
}

/// Says each alarm that came, changed or went, a line each.
fn watch(args: &ListArgs) -> anyhow::Result<()> {
    let mut known: std::collections::BTreeMap<String, Json> = std::collections::BTreeMap::new();
    let runtime = runtime()?;
    loop {
        let now: std::collections::BTreeMap<String, Json> = alarms(args)?
            .into_iter()
            .map(|alarm| (shown(&alarm["id"]), alarm))
            .collect();
        let mut text = String::new();
        for (id, alarm) in &now {
            let key =
                |alarm: &Json| json!([alarm["state"], alarm["count"], alarm["since"], alarm["comment"]]);
            if known.get(id).is_none_or(|before| key(before) != key(alarm)) {
                text += &if args.json {
                    format!("{alarm}\n")
                } else {
                    format!("{}\n", line(alarm))
                };
            }
        }
        for id in known.keys().filter(|id| !now.contains_key(*id)) {
            text += &if args.json {
                format!("{}\n", json!({"id": id, "gone": true}))
            } else {
                format!("gone    {id}\n")
            };
        }
        known = now;
        let mut out = std::io::stdout();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            // Whoever read this has seen enough.
            return Ok(());
        }
        let stopped = runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            }
        });
        if stopped {
            return Ok(());
        }
    }
}

fn say(args: &SayArgs, what: &str, time: Option<&str>) -> anyhow::Result<()> {
    let mut body = json!({});
    if let Some(comment) = &args.comment {
        body["comment"] = comment.as_str().into();
    }
    if let Some(time) = time {
        body["for"] = time.into();
    }
    let path = format!("/v1/alarms/{}/{what}", encoded(&args.id));
    let alarm = args
        .node
        .send("POST", &path, "application/json", body.to_string().as_bytes())?;
    println!("{}", line(&alarm));
    Ok(())
}

fn history(args: &HistoryArgs) -> anyhow::Result<()> {
    let mut path = format!("/v1/alarms/{}/history?limit=1000", encoded(&args.id));
    if let Some(from) = &args.from {
        path.push_str(&format!("&from={}", encoded(from)));
    }
    let answer = args.node.get(&path)?;
    if args.json {
        println!("{}", answer["items"]);
        return Ok(());
    }
    for item in answer["items"].as_array().into_iter().flatten() {
        let by = item["by"]
            .as_str()
            .map_or_else(String::new, |by| format!(" by {by}"));
        let comment = item["comment"]
            .as_str()
            .map_or_else(String::new, |comment| format!(": {comment}"));
        println!("{}  {}{by}{comment}", shown(&item["at"]), shown(&item["what"]));
    }
    Ok(())
}

fn figures(args: &FiguresArgs) -> anyhow::Result<()> {
    let figures = args.node.get("/v1/alarms/figures")?;
    if args.json {
        println!("{figures}");
        return Ok(());
    }
    let flood = if figures["flood"] == true {
        " (a flood)"
    } else {
        ""
    };
    println!(
        "{} active, {} unacknowledged, {} shelved, {} in 10 minutes{flood}",
        figures["active"], figures["unacknowledged"], figures["shelved"], figures["per_10_min"]
    );
    for (name, title) in [
        ("chattering", "chattering"),
        ("stale", "standing for more than a day"),
    ] {
        for id in figures[name].as_array().into_iter().flatten() {
            println!("{title}: {}", shown(id));
        }
    }
    Ok(())
}
