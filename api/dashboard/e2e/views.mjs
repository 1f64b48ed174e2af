// Every view with a place to look at: name, address, and what shows that it is there.
export const VIEWS = async (demo) => {
  const jobs = await demo.call("/v1/twins?kind=job&sort=-state.started_at&limit=20&fields=state.flow_path");
  const longest = jobs.items.sort((a, b) => (b.state?.flow_path?.length ?? 0) - (a.state?.flow_path?.length ?? 0))[0];
  return [
    ["plant", "/", ".tile"],
    ["machines", "/machines", "tbody tr"],
    ["machine", "/machines/cnc-01", ".series canvas"],
    ["air", "/air", ".air-card"],
    ["jobs", "/jobs", ".flow .node"],
    ["job", `/jobs/${longest?.twin.slice(4) ?? "none"}`, ".drawing .bar"],
    ["health", "/health", ".plain-table"],
  ];
};
