// A node of 1,000 machines that change five times a second each, played within the page in place of its WebSocket: what
// it tells is merged to the rate that the page asked for, as the node does. Its work counts as the page's.
export const played = () => {
  const MACHINES = 1000;
  const STATES = ["producing", "producing", "producing", "setup", "idle", "stopped", "down"];
  class Played extends EventTarget {
    static OPEN = 1;
    constructor() {
      super();
      this.readyState = 0;
      setTimeout(() => { this.readyState = 1; this.onopen?.(); }, 5);
    }
    tell(frame) { this.onmessage?.({ data: JSON.stringify(frame) }); }
    send(text) {
      const said = JSON.parse(text);
      if (said.type !== "subscribe") return;
      const { id, max_rate_hz: rate } = said;
      if (id !== "machine") { this.tell({ type: "subscribed", id, twins: 0 }); this.tell({ type: "live", id, resume: "r" }); return; }
      this.tell({ type: "subscribed", id, twins: MACHINES });
      const of = (number) => `machine/m-${String(number).padStart(4, "0")}`;
      for (let number = 0; number < MACHINES; number += 1) {
        this.tell({ type: "snapshot", id, twin: of(number), rev: 1, value: { attributes: { name: `M ${number}`, location: `cell-${number % 40}` }, state: { quality: "good", execution: "producing", execution_since: new Date().toISOString() }, kpis: { oee: 0.7, good_parts: 1, energy_kwh: 5 } } });
      }
      this.tell({ type: "live", id, resume: "r" });
      let rev = 1;
      setInterval(() => {
        rev += 1;
        const at = new Date().toISOString();
        for (let number = 0; number < MACHINES; number += 1) {
          const patch = { kpis: { oee: 0.5 + ((number * 7 + rev) % 400) / 1000, good_parts: rev * 5, energy_kwh: rev }, updated_at: at };
          if ((number + rev) % 20 === 0) patch.state = { execution: STATES[(number + rev) % STATES.length], execution_since: at };
          this.tell({ type: "change", id, twin: of(number), rev, at, patch });
        }
        window.changes = (window.changes ?? 0) + MACHINES;
      }, 1000 / Math.min(5, rate ?? 5));
    }
    close() {}
  }
  window.WebSocket = Played;
};
