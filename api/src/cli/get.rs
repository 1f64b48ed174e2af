//! `gemba get`: twins as a table, one in full, or followed live.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
};

use anyhow::{Context, bail};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value as Json, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{
    client::{NodeArgs, encoded},
    serve::runtime,
};

#[derive(Args)]
pub(super) struct GetArgs {
    /// machine, location or job, or one twin such as machine/cnc-07
    #[arg(value_name = "KIND[/ID]")]
    what: Option<String>,
    /// Only twins that match, e.g. 'kpis.oee < 0.6'
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Follows them live
    #[arg(long)]
    watch: bool,
    /// As JSON; with --watch a line for each frame
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &GetArgs) -> anyhow::Result<()> {
    let (kind, id) = match args
        .what
        .as_deref()
        .map(|what| what.split_once('/').unwrap_or((what, "")))
    {
        None => (None, None),
        Some((kind, "")) => (Some(kind), None),
        Some((kind, id)) => (Some(kind), Some(id)),
    };
    if let Some(kind) = kind
        && gemba_twins::id::Kind::parse(kind).is_err()
    {
        bail!("{kind:?} is no kind of twin (one of machine, location, job)");
    }
    if args.watch {
        let mut conditions = Vec::new();
        conditions.extend(kind.map(|kind| format!("kind == '{kind}'")));
        conditions.extend(id.map(|id| format!("id == '{id}'")));
        conditions.extend(args.filter.as_ref().map(|filter| format!("({filter})")));
        return runtime()?.block_on(watch(args, &conditions.join(" && ")));
    }
    if let (Some(kind), Some(id)) = (kind, id) {
        let twin = args.node.get(&format!("/v1/twins/{kind}/{}", encoded(id)))?;
        if args.json {
            println!("{twin}")
        } else {
            show_one(&twin)
        }
        return Ok(());
    }
    let parameters = [("kind", kind), ("filter", args.filter.as_deref())];
    let twins = args.node.list("/v1/twins", &parameters)?;
    if args.json {
        println!("{}", Json::Array(twins));
    } else {
        print!("{}", table(&twins));
    }
    Ok(())
}

/// A field as a table shows it; what is not known is a dash.
pub(super) fn shown(value: &Json) -> String {
    match value {
        Json::Null => "-".into(),
        Json::String(text) => text.clone(),
        Json::Number(number) => number.as_f64().map_or_else(
            || number.to_string(),
            |number| {
                if number.fract() == 0.0 {
                    format!("{number:.0}")
                } else {
                    format!("{number:.2}")
                }
            },
        ),
        other => other.to_string(),
    }
}

fn percent(value: &Json) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".into(), |share| format!("{:.1} %", 100.0 * share))
}

fn row(twin: &Json) -> Vec<String> {
    let (state, kpis) = (&twin["state"], &twin["kpis"]);
    let mut row = vec![shown(&twin["twin"]), shown(&state["quality"])];
    row.extend(match twin["kind"].as_str() {
        Some("machine") => vec![
            shown(&state["execution"]),
            percent(&kpis["oee"]),
            percent(&kpis["utilization"]),
            format!("{} parts", shown(&kpis["parts"])),
            format!("{} kWh", shown(&kpis["energy_kwh"])),
        ],
        Some("location") => vec![
            format!("air {}", shown(&state["air_quality"])),
            format!("CO2 {}", shown(&state["metrics"]["co2_ppm"]["value"])),
            format!("PM2.5 {}", shown(&state["metrics"]["pm25_ugm3"]["value"])),
            format!("{} jobs", shown(&kpis["wip"])),
            format!("dwell {} s", shown(&kpis["dwell_s_mean"])),
        ],
        _ => vec![
            shown(&state["status"]),
            shown(&state["location"]),
            format!("{} s", shown(&kpis["elapsed_s"])),
            format!("slowest at {}", shown(&kpis["bottleneck"])),
            shown(&state["product_id"]),
        ],
    });
    row.push(shown(&twin["updated_at"]));
    row
}

fn table<'a>(twins: impl IntoIterator<Item = &'a Json>) -> String {
    let rows: Vec<Vec<String>> = twins.into_iter().map(row).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    if text.is_empty() {
        "no twin matches\n".into()
    } else {
        text
    }
}

fn show_one(twin: &Json) {
    print!("{}", table([twin]));
    for (title, object) in [("attributes", &twin["attributes"]), ("kpis", &twin["kpis"])] {
        for (name, value) in object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_object())
        {
            println!("  {title}.{name}: {}", shown(value));
        }
    }
    for (name, metric) in twin["state"]["metrics"].as_object().into_iter().flatten() {
        let stale = metric["quality"]
            .as_str()
            .map_or_else(String::new, |quality| format!(" ({quality})"));
        println!(
            "  {name}: {} {} at {}{stale}",
            shown(&metric["value"]),
            metric["unit"].as_str().unwrap_or(""),
            shown(&metric["at"])
        );
    }
    show_causes(&twin["state"]);
    show_job(&twin["state"]);
    show_air(&twin["state"]["air"]);
}

/// Where a job was and is, what holds it up, when it will be done.
fn show_job(state: &Json) {
    let Some(path) = state["path"].as_array().filter(|path| !path.is_empty()) else {
        return;
    };
    let step = |visit: &Json| {
        let open = if visit["open"] == true {
            ", still there"
        } else {
            ""
        };
        format!(
            "{} ({} s{open})",
            shown(&visit["location"]),
            shown(&visit["dwell_s"])
        )
    };
    let steps: Vec<String> = path.iter().map(step).collect();
    println!("  flow path: {}", steps.join(" → "));
    let bottleneck = &state["bottleneck"];
    if bottleneck.is_object() {
        println!(
            "  bottleneck: {} with {} s",
            shown(&bottleneck["location"]),
            shown(&bottleneck["dwell_s"])
        );
    }
    match (&state["estimated_completion"], &state["late_by_s"]) {
        (Json::String(at), Json::Null) => println!("  estimated completion: {at}"),
        (Json::String(at), late) => println!("  estimated completion: {at} (late by {} s)", shown(late)),
        _ => println!(
            "  estimated completion: unknown ({})",
            shown(&state["estimated_completion_reason"])
        ),
    }
}

/// How good the air is, by which rule.
fn show_air(air: &Json) {
    if !air.is_object() {
        return;
    }
    println!("  air: {} ({})", shown(&air["category"]), shown(&air["why"]));
    match &air["aqi"] {
        Json::Null => {
            for (pollutant, why) in air["nowcast_why"].as_object().into_iter().flatten() {
                println!("  AQI by {pollutant}: unknown ({})", shown(why));
            }
        }
        aqi => println!(
            "  AQI: {} {} by {} ({})",
            shown(aqi),
            shown(&air["aqi_category"]),
            shown(&air["aqi_pollutant"]),
            shown(&air["aqi_basis"])
        ),
    }
    for level in air["profiles"].as_array().into_iter().flatten() {
        let value = match &level["value"] {
            Json::Null => shown(&level["why"]),
            value => shown(value),
        };
        println!(
            "  {}: {} {} ({value}) after {}",
            shown(&level["profile"]),
            shown(&level["metric"]),
            shown(&level["level"]),
            shown(&level["source"])
        );
    }
}

/// Why a machine's figures are what they are: its shift, its time in each state, what it stood still for.
fn show_causes(state: &Json) {
    let shift = &state["shift"];
    if shift.is_object() {
        let (name, began, ends) = (&shift["name"], &shift["began_at"], &shift["ends_at"]);
        println!("  shift {}: {} to {}", shown(name), shown(began), shown(ends));
    }
    if let Some(times) = state["time_in_state_s"].as_object() {
        let whole: f64 = times.values().filter_map(Json::as_f64).sum();
        let mut times: Vec<_> = times.iter().collect();
        let seconds = |time: &Json| time.as_f64().unwrap_or(0.0);
        times.sort_by(|one, other| seconds(other.1).total_cmp(&seconds(one.1)));
        for (name, s) in times {
            let share = json!(s.as_f64().map(|s| s / whole.max(f64::MIN_POSITIVE)));
            println!("  time {name}: {} s, {}", shown(s), percent(&share));
        }
    }
    for stop in state["downtime"].as_array().into_iter().flatten() {
        let (reason, s, count) = (&stop["reason"], &stop["s"], &stop["count"]);
        println!(
            "  stood for {}: {} s, {} times",
            shown(reason),
            shown(s),
            shown(count)
        );
    }
    if state["micro_stops"]["count"]
        .as_u64()
        .is_some_and(|count| count > 0)
    {
        let stops = &state["micro_stops"];
        println!(
            "  micro-stops: {}, {} s",
            shown(&stops["count"]),
            shown(&stops["s"])
        );
    }
}

/// RFC 7396 on what this client has.
fn merge(target: &mut Json, patch: &Json) {
    let Json::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            if let Json::Object(object) = target {
                object.remove(name);
            }
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

async fn watch(args: &GetArgs, filter: &str) -> anyhow::Result<()> {
    let address = format!(
        "{}/v1/stream",
        args.node.url.trim_end_matches('/').replacen("http", "ws", 1)
    );
    let mut request = address
        .as_str()
        .into_client_request()
        .with_context(|| format!("{address} is no address"))?;
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "gemba.v1".parse()?);
    if let Some(token) = &args.node.token {
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
    }
    let (mut socket, _) = connect_async(request)
        .await
        .with_context(|| format!("failed to follow {address} (is the node running?)"))?;
    let subscribe = json!({"type": "subscribe", "id": "watch", "filter": filter, "max_rate_hz": 4});
    socket
        .send(Message::text(subscribe.to_string()))
        .await
        .context("the connection broke off")?;
    let (mut twins, draws) = (
        BTreeMap::<String, Json>::new(),
        std::io::stdout().is_terminal() && !args.json,
    );
    let mut live = false;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(_)) | Err(_)) | None => {
                bail!("the node closed the connection (start gemba get --watch again)")
            }
            Some(Ok(_)) => continue,
        };
        let frame: Json = serde_json::from_str(&text).unwrap_or_default();
        let twin = frame["twin"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str() {
            Some("error") => bail!("{}", shown(&frame["detail"])),
            Some("snapshot") => drop(twins.insert(twin.clone(), frame["value"].clone())),
            Some("change") => merge(twins.entry(twin.clone()).or_default(), &frame["patch"]),
            Some("leave") => drop(twins.remove(&twin)),
            Some("live") => live = true,
            _ => {}
        }
        let shown = if args.json {
            format!("{text}\n")
        } else if draws && live {
            format!("\x1b[2J\x1b[H{}", table(twins.values()))
        } else if let (false, Some(value)) = (draws, twins.get(&twin)) {
            table([value])
        } else {
            continue;
        };
        let mut out = std::io::stdout();
        if out
            .write_all(shown.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            // Whoever read this has seen enough.
            return Ok(());
        }
    }
}
