//! The table of all calls that need a credential: method, path, who may, what it does.
//!
//! Promises: the dispatch and the OpenAPI document read this one table, so that they cannot differ.

use gemba_runtime::keyring::Role;
use warp::http::Method;

use super::alarms;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    ListTwins,
    GetTwin,
    SetAttributes,
    History,
    Shifts,
    MachineJobs,
    Events,
    Fork,
    Forecast,
    Quality,
    Refold,
    GetPlant,
    PutPlant,
    PlanPlant,
    Readings,
    Scans,
    Ingest,
    ListRejected,
    RetryRejected,
    Alarms(alarms::What),
    WriteHistory,
    Flow,
    RfidImpinj,
    RfidZebra,
    RfidGeneric,
    EpcisCapture,
    ListDashboards,
    GetDashboard,
    PutDashboard,
    RemoveDashboard,
}

/// A row of the table: method, path (`{}` stands for a part), who may, what it does, in a sentence.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static [&'static str],
    pub(super) least: Role,
    pub(super) operation: Operation,
    pub(super) summary: &'static str,
}

pub(super) const fn route(
    method: Method,
    path: &'static [&'static str],
    least: Role,
    operation: Operation,
    summary: &'static str,
) -> Route {
    Route {
        method,
        path,
        least,
        operation,
        summary,
    }
}

/// All calls that need a credential, but the stream.
pub(super) static ROUTES: &[Route] = &[
    route(
        Method::GET,
        &["v1", "twins", "{kind}", "{id}"],
        Role::Viewer,
        Operation::GetTwin,
        "One twin, or as it was at a time",
    ),
    route(
        Method::POST,
        &["v1", "readings"],
        Role::Device,
        Operation::Readings,
        "Send readings: one object, an array, or NDJSON",
    ),
    route(
        Method::POST,
        &["v1", "scans"],
        Role::Device,
        Operation::Scans,
        "Send scans: one object, an array, or NDJSON",
    ),
    route(
        Method::GET,
        &["v1", "twins"],
        Role::Viewer,
        Operation::ListTwins,
        "List and search twins",
    ),
    route(
        Method::PATCH,
        &["v1", "twins", "{kind}", "{id}", "attributes"],
        Role::Operator,
        Operation::SetAttributes,
        "Set attributes by a JSON merge patch",
    ),
    route(
        Method::GET,
        &["v1", "twins", "{kind}", "{id}", "history"],
        Role::Viewer,
        Operation::History,
        "A twin's history as a flat array",
    ),
    route(
        Method::GET,
        &["v1", "twins", "{kind}", "{id}", "shifts"],
        Role::Viewer,
        Operation::Shifts,
        "The KPIs of a twin's shifts, the one that is on first",
    ),
    route(
        Method::GET,
        &["v1", "twins", "{kind}", "{id}", "jobs"],
        Role::Viewer,
        Operation::MachineJobs,
        "The KPIs of a machine's jobs, the one that is on it first",
    ),
    route(
        Method::GET,
        &["v1", "twins", "{kind}", "{id}", "events"],
        Role::Viewer,
        Operation::Events,
        "A twin's journaled events",
    ),
    route(
        Method::POST,
        &["v1", "twins", "{kind}", "{id}", "fork"],
        Role::Engineer,
        Operation::Fork,
        "What if: a twin after events or a plant model that never happened",
    ),
    route(
        Method::GET,
        &["v1", "twins", "{kind}", "{id}", "forecast"],
        Role::Viewer,
        Operation::Forecast,
        "What a metric will be within the next hours",
    ),
    route(
        Method::GET,
        &["v1", "quality"],
        Role::Viewer,
        Operation::Quality,
        "What sensors send, and how it keeps to its contracts",
    ),
    route(
        Method::POST,
        &["v1", "refold"],
        Role::Engineer,
        Operation::Refold,
        "Fold twins again from the journal with today's plant model: what would differ, and taking it over",
    ),
    route(
        Method::GET,
        &["v1", "plant"],
        Role::Viewer,
        Operation::GetPlant,
        "The plant model in force",
    ),
    route(
        Method::PUT,
        &["v1", "plant"],
        Role::Engineer,
        Operation::PutPlant,
        "Apply a plant model, YAML or JSON",
    ),
    route(
        Method::POST,
        &["v1", "plant", "plan"],
        Role::Viewer,
        Operation::PlanPlant,
        "What a plant model would change",
    ),
    route(
        Method::GET,
        &["v1", "ingest"],
        Role::Viewer,
        Operation::Ingest,
        "How many messages of each source ended how",
    ),
    route(
        Method::GET,
        &["v1", "rejected"],
        Role::Viewer,
        Operation::ListRejected,
        "Rejected messages with their reasons",
    ),
    route(
        Method::POST,
        &["v1", "rejected", "{id}", "retry"],
        Role::Operator,
        Operation::RetryRejected,
        "Read a rejected message again",
    ),
    route(
        Method::POST,
        &["v1", "history", "write"],
        Role::Engineer,
        Operation::WriteHistory,
        "Write what is waiting into the history's files now",
    ),
    route(
        Method::GET,
        &["v1", "flow"],
        Role::Viewer,
        Operation::Flow,
        "How jobs flow through the plant: locations, ways between them, the bottleneck",
    ),
    route(
        Method::POST,
        &["v1", "rfid", "impinj"],
        Role::Device,
        Operation::RfidImpinj,
        "Send events of an Impinj reader: one, an array, or NDJSON",
    ),
    route(
        Method::POST,
        &["v1", "rfid", "zebra"],
        Role::Device,
        Operation::RfidZebra,
        "Send messages of Zebra's IoT Connector: one, an array, or NDJSON",
    ),
    route(
        Method::POST,
        &["v1", "rfid", "generic"],
        Role::Device,
        Operation::RfidGeneric,
        "Send reads of tags or barcodes: {\"reads\":[…]}, one, an array, or codes alone",
    ),
    route(
        Method::POST,
        &["v1", "epcis", "capture"],
        Role::Device,
        Operation::EpcisCapture,
        "Capture GS1 EPCIS 2.0 events: a document, one event, or an array",
    ),
    route(
        Method::GET,
        &["v1", "dashboards"],
        Role::Viewer,
        Operation::ListDashboards,
        "The dashboards that people of the tenant saved",
    ),
    route(
        Method::GET,
        &["v1", "dashboards", "{id}"],
        Role::Viewer,
        Operation::GetDashboard,
        "A saved dashboard",
    ),
    route(
        Method::PUT,
        &["v1", "dashboards", "{id}"],
        Role::Viewer,
        Operation::PutDashboard,
        "Save a dashboard of one's own",
    ),
    route(
        Method::DELETE,
        &["v1", "dashboards", "{id}"],
        Role::Viewer,
        Operation::RemoveDashboard,
        "Remove a dashboard of one's own",
    ),
];

/// The table: what stands here, and what its own file says of alarms.
pub(super) fn all_routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(&alarms::ROUTES)
}
