// The plant as it is now: follows all twins over the public WebSocket and shows nothing that it did not receive.
const element = (tag, text, name) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
};

const number = (value, digits = 0) => (typeof value === "number" ? value.toFixed(digits) : "–");
const percent = (value) => (typeof value === "number" ? `${(100 * value).toFixed(1)} %` : "–");
const metric = (twin, name, digits) => {
  const found = twin.state?.metrics?.[name];
  return found ? `${number(found.value, digits)}${found.unit ? ` ${found.unit}` : ""}` : "–";
};
const span = (seconds) => {
  if (typeof seconds !== "number") return "–";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
};
const age = (at) => (at ? span(Math.max(0, (Date.now() - Date.parse(at)) / 1000)) : "–");
const word = (text) => (text ?? "unknown").replaceAll("_", " ");
const state = (text) => element("span", word(text), `state ${text ?? "unknown"}`);
const path = (visits) => (visits ?? []).map((visit) => visit.location).join(" → ");

// What each kind of twin shows: heading, and the cell made of a twin.
const columns = {
  machine: [
    ["Machine", (twin, id) => twin.attributes?.name ?? id],
    ["Where", (twin) => twin.attributes?.location ?? "–"],
    ["State", (twin) => state(twin.state?.execution)],
    ["for", (twin) => age(twin.state?.execution_since)],
    ["OEE", (twin) => percent(twin.kpis?.oee)],
    ["Availability", (twin) => percent(twin.kpis?.availability)],
    ["Effectiveness", (twin) => percent(twin.kpis?.effectiveness)],
    ["Quality", (twin) => percent(twin.kpis?.quality_ratio)],
    ["Good parts", (twin) => number(twin.kpis?.good_parts)],
    ["Energy today", (twin) => (twin.kpis?.energy_kwh == null ? "–" : `${number(twin.kpis.energy_kwh, 1)} kWh`)],
    ["Data", (twin) => state(twin.state?.quality)],
  ],
  location: [
    ["Location", (twin, id) => twin.attributes?.name ?? id],
    ["Air", (twin) => state(twin.state?.air_quality)],
    ["because", (twin) => twin.state?.air_quality_reason ?? "–"],
    ["CO2", (twin) => metric(twin, "co2_ppm")],
    ["PM2.5", (twin) => metric(twin, "pm25_ugm3", 1)],
    ["Jobs here", (twin) => number(twin.kpis?.wip)],
    ["Mean dwell", (twin) => span(twin.kpis?.dwell_s_mean)],
    ["Left today", (twin) => number(twin.kpis?.left_today)],
  ],
  job: [
    ["Job", (_, id) => id],
    ["Product", (twin) => twin.state?.product_id ?? "–"],
    ["Where", (twin) => twin.state?.location ?? "–"],
    ["since", (twin) => age(twin.state?.location_since)],
    ["Underway", (twin) => age(twin.state?.started_at)],
    ["Longest at", (twin) => twin.kpis?.bottleneck ?? "–"],
    ["Path", (twin) => path(twin.state?.flow_path)],
  ],
};
const filters = {
  machine: "kind == 'machine'",
  location: "kind == 'location'",
  job: "kind == 'job' && state.status == 'in_progress'",
};
const fields = {
  machine: ["attributes.name", "attributes.location", "state.execution", "state.execution_since", "state.quality", "kpis"],
  location: ["attributes.name", "state.air_quality", "state.air_quality_reason", "state.metrics", "kpis"],
  job: ["state.product_id", "state.location", "state.location_since", "state.started_at", "state.flow_path", "kpis"],
};
const ROWS_MAX = 200;

const twins = { machine: new Map(), location: new Map(), job: new Map() };
const resume = {};
let heardAt = null;
let live = 0;

const merge = (target, patch) => {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const base = target && typeof target === "object" && !Array.isArray(target) ? target : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete base[name];
    else base[name] = merge(base[name], value);
  }
  return base;
};

const take = (frame) => {
  const known = twins[frame.id];
  if (frame.type === "snapshot") known.set(frame.twin, frame.value);
  else if (frame.type === "change") known.set(frame.twin, merge(known.get(frame.twin), frame.patch));
  else if (frame.type === "leave") known.delete(frame.twin);
  else if (frame.type === "subscribed" && !resume[frame.id]) known.clear();
  else if (frame.type === "lost") known.clear();
  else if (frame.type === "live") {
    resume[frame.id] = frame.resume;
    live += 1;
  }
};

const show = () => {
  for (const [kind, wanted] of Object.entries(columns)) {
    const table = document.getElementById(kind);
    const head = element("tr");
    wanted.forEach(([name]) => head.append(element("th", name)));
    const ids = [...twins[kind].keys()].sort();
    const rows = ids.slice(0, ROWS_MAX).map((twin) => {
      const row = element("tr");
      for (const [, cell] of wanted) {
        const made = cell(twins[kind].get(twin), twin.split("/")[1]);
        const place = element("td");
        place.append(made);
        row.append(place);
      }
      return row;
    });
    if (ids.length === 0) rows.push(element("tr", live < 3 ? "loading…" : "none"));
    if (ids.length > ROWS_MAX) rows.push(element("tr", `and ${ids.length - ROWS_MAX} more`));
    table.replaceChildren(head, ...rows);
  }
  const status = document.getElementById("connection");
  if (live === 3) status.textContent = `live, ${new Date().toLocaleTimeString()}`;
  else if (heardAt) status.textContent = `reconnecting, last seen ${span((Date.now() - heardAt) / 1000)} ago`;
  status.className = live === 3 ? "good" : "stale";
  document.body.classList.toggle("old", heardAt !== null && live < 3);
};

const connect = (token) => {
  live = 0;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const protocols = token ? ["gemba.v1", `bearer.${token}`] : ["gemba.v1"];
  const socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, protocols);
  let opened = false;
  socket.onopen = () => {
    opened = true;
    for (const kind of Object.keys(columns)) {
      const frame = { type: "subscribe", id: kind, filter: filters[kind], fields: fields[kind], max_rate_hz: 2 };
      if (resume[kind]) frame.resume = resume[kind];
      socket.send(JSON.stringify(frame));
    }
  };
  socket.onmessage = (message) => {
    heardAt = Date.now();
    take(JSON.parse(message.data));
  };
  socket.onclose = async () => {
    live = 0;
    if (!opened && (await fetch("/v1/ingest", token ? { headers: { authorization: `Bearer ${token}` } } : {}).then(
      (answer) => answer.status === 401, () => false))) {
      sessionStorage.removeItem("token");
      document.getElementById("connection").textContent = token ? "this key is not known" : "an API key is needed";
      document.getElementById("login").hidden = false;
      return;
    }
    setTimeout(() => connect(token), 1000);
  };
};

document.getElementById("login").onsubmit = (event) => {
  event.preventDefault();
  const token = new FormData(event.target).get("token");
  sessionStorage.setItem("token", token);
  event.target.hidden = true;
  connect(token);
};
setInterval(show, 500);
connect(sessionStorage.getItem("token"));
