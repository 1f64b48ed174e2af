// Every view with a place to look at: name, address, and what shows that it is there.
export const VIEWS = async (demo) => {
  const jobs = await demo.call("/v1/twins?kind=job&sort=-state.started_at&limit=20&fields=state.flow_path");
  await demo.call("/v1/dashboards/views", {
    method: "PUT",
    body: JSON.stringify({
      title: "Hall 1",
      panels: [
        { id: "a", kind: "needs", width: 3 },
        { id: "b", kind: "kpi", twin: "machine/cnc-01", kpi: "oee", width: 1 },
        { id: "c", kind: "kpi", twin: "machine/cnc-05", kpi: "good_parts", width: 1 },
        { id: "d", kind: "air", twin: "location/cell-1", width: 1 },
        { id: "e", kind: "series", twin: "machine/cnc-01", metric: "power_kw", width: 2 },
        { id: "f", kind: "losses", twin: "machine/press-02", width: 1 },
        { id: "g", kind: "flow", width: 3 },
      ],
    }),
  });
  const longest = jobs.items.sort((a, b) => (b.state?.flow_path?.length ?? 0) - (a.state?.flow_path?.length ?? 0))[0];
  return [
    ["plant", "/", ".tile"],
    ["machines", "/machines", "tbody tr"],
    ["machine", "/machines/cnc-01", ".series canvas"],
    ["air", "/air", ".air-card"],
    ["jobs", "/jobs", ".flow .node"],
    ["job", `/jobs/${longest?.twin.slice(4) ?? "none"}`, ".drawing .bar"],
    ["health", "/health", ".plain-table"],
    ["alarms", "/alarms", ".empty, .alarms tbody tr"],
    ["model", "/model", ".editor textarea"],
    ["boards", "/boards", ".devices li, .empty"],
    ["board", "/boards/views", ".board .series canvas"],
    ["wall", "/wall/views", ".huge"],
  ];
};
