//! The plant model: which twins a plant has, what they are called, and which sensor feeds which of them.
//!
//! ```yaml
//! version: 1                          # of this format; the model itself is versioned by applying it
//! site: {id: helsinki, name: Helsinki works, timezone: Europe/Helsinki}
//! lateness: 10s                        # messages may come so much later than newer ones and count as if in order
//! micro_stop: 5m                       # a stop that is shorter is a micro-stop
//! shifts:                             # by the clock on the wall at the site; without any, KPIs are over the UTC day
//!   - {name: early, days: [mon, tue, wed, thu, fri], start: 06:00, end: 14:00, breaks: [09:00-09:15]}
//! unknown_sensors: register           # or keep_aside: readings of sensors and scans at places not named here wait
//! locations:
//!   - {id: line-1, type: line}        # type: site, area, line or cell; without a parent it stands in the site
//!   - {id: cell-2, type: cell, parent: line-1, stale_after: 5m, air_profiles: [uba_co2, who_2021], demand: 320/8h}
//!   - {id: shipping, type: area, exit: true}        # a job scanned here is done
//! machines:
//!   - id: cnc-07
//!     name: Mazak 07
//!     location: cell-2
//!     ideal_cycle: 45s                # planned run time per part (ISO 22400 PRI)
//!     stale_after: 30s
//!     execution: {ACTIVE: producing}  # words of the machine's control, and what they mean
//!     metrics: [{name: energy_kwh, kind: counter, unit: kWh, rollover_at: 4294967296}]
//!     computed: [{name: kwh_per_part, value: "energy_kwh / max(part_count, 1.0)", unit: kWh}]
//!     attributes: {vendor: Mazak}
//! sensors:                            # a machine's own id needs no entry: it feeds that machine
//!   - id: am319-01
//!     feeds: location/cell-2
//!     type: AIR_QUALITY
//!     metrics: {co2: co2_ppm, temperature: {to: temperature_c}, tvoc: {to: voc_index, unit: index}}
//!     ignore: [rssi_dbm]              # metrics not named pass unchanged
//! alarms:
//!   - id: spindle_hot
//!     applies_to: {kind: machine, where: 'attributes.line == "line-1"'}   # or ids: [cnc-07]; or just machine
//!     condition: metrics.spindle_temp_c > 80 && state.execution == "producing"   # CEL
//!     priority: high                  # low, medium, high or urgent
//!     text: Spindle too hot
//!     deadband: 2                     # it is over below 78
//!     on_delay: 10s                   # off_delay and refractory likewise
//!     latching: false                 # true: stays until somebody resets it
//!     suppressed_by: alarms.silent    # CEL; alarms.X is another alarm of the same twin
//!   - {id: silent, applies_to: machine, stale: 2m, priority: low}   # or stale: {metric: co2_ppm, after: 10m}
//!     contract:                       # what it is agreed to send; machines and locations take one for all their sensors
//!       period: 60s
//!       required: [co2_ppm]
//!       on_violation: accept          # and mark; or reject
//!       metrics: {co2_ppm: {type: number, unit: ppm, min: 300, max: 5000, max_rate_per_s: 100}}
//! computed:                           # of all twins of a class
//!   - {name: kw_per_rate, value: "power_kw / max(throughput_rate, 1.0)", for: 'kind == "machine" && attributes.line == "line-1"'}
//! forecast:                           # machines and locations take a list of their own: forecast: [power_kw]
//!   - {metric: utilization, deviation: 0.2, for: kind == "machine"}
//! ```
//! `readers` and `epcs` are drawn in `readers.rs`.
//! Every list may be left out. `air_profiles` are uba_co2, uba_tvoc, reset_air_ci, well_v2 and who_2021; `demand` is
//! jobs in the time available for them, from which the takt follows.
//! `locations` take `metrics`, `attributes` and `shifts` as machines do. A metric's `kind` is
//! `gauge`, `counter` or `state`; left out, it follows from the name. Durations are a number and `us`, `ms`, `s`, `m`,
//! `h` or `d`. The site is a location twin of its own. A twin learns where it stands as attributes: `location` and
//! `parent`, and `cell`, `line`, `area` and `site` of those around it.
//!
//! Promises: a [`PlantModel`] that exists is valid, all its references included; a text that is not lists every
//! problem with its path. What was accepted once must be accepted for ever: the journal holds models as text, so a
//! rule may be relaxed later but not tightened. Binding is pure. Knows nothing of where a model is kept.

mod alarms;
mod analysis;
mod bindings;
mod changed;
mod check;
mod computed;
mod configs;
mod contract;
mod fields;
mod forecast;
mod model;
mod place;
mod plan;
mod read;
mod readers;
mod shifts;
mod span;
mod tags;
mod written;

pub use alarms::{Alarm, AppliesTo, Stale};
pub use bindings::Bindings;
pub use computed::Computed;
pub use configs::twin_configs;
pub use contract::{DataContract, MetricTerms, OnViolation};
pub use forecast::Forecast;
pub use model::{
    Feeds, Location, LocationType, Machine, Metric, MetricMapping, PlantModel, Sensor, Site, UnknownSensors,
};
pub use place::{Demand, InvalidDemand};
pub use plan::{Plan, PlanItem, plan};
pub(crate) use readers::Smoothing;
pub use readers::{EpcRule, Reader};
pub use shifts::Shift;
pub use span::Span;
pub(crate) use tags::BoundRead;
pub use written::{PLANT_TEXT_MAX, PlantError, Problem};
