//! What a twin is: the pure fold of events into state, KPIs and rollups.
//!
//! Invariant: nothing here does I/O, awaits, asks a clock or draws a random number; the same events in the same
//! order give the same state, bit for bit, on every node and in every later replay.

pub mod alarm;
pub mod analysis;
pub mod calendar;
pub mod computed;
pub mod config;
pub mod event;
pub mod expr;
pub mod forecast;
pub mod id;
pub mod quality;
pub mod refolded;
pub mod rollup;
pub mod time;
pub mod twin;
pub mod wire;

mod air;
mod attributes;
mod bucket;
mod defaults;
mod field;
mod job;
mod kpis;
mod line;
mod location;
mod machine;
mod metric;
mod operation;
mod pending;
mod sealing;
mod size;
mod snapshot;
mod view;

pub use field::Field;
pub use line::MachineReport;
pub use location::LocationFlow;
pub use machine::view::RunView;
pub use view::TwinView;
