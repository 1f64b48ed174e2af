//! A twin's state as bytes: a version, then protobuf. Drawn in FORMAT.md; `TwinWire` is where to begin reading.
//!
//! Promises: lossless, bit for bit, so that a twin read back folds on as if it had never left memory.

use prost::Message;

use crate::{
    air::{Air, AirWire},
    alarm::AlarmsWire,
    attributes::{Attributes, object, text as attributes_text},
    bucket::{Bucket, BucketWire, StateTime, States, Word},
    config::{Execution, MetricKind},
    event::Position,
    forecast::ForecastsWire,
    id::TwinId,
    job::{
        Remaining,
        wire::{JobWire, RemainingWire},
    },
    line::{Line, LineWire},
    location::{Flow, FlowWire, Location},
    machine::wire::{MachineWire, machine_from_wire, machine_to_wire},
    metric::{Metric, Metrics},
    pending::{Pending, PendingWire},
    quality::QualityWire,
    time::Timestamp,
    twin::{Nature, Twin},
    wire::{
        ConfigWire, DecodeError, MetricWire, config_from_wire, config_to_wire, metric_from_wire,
        metric_to_wire, undecodable,
    },
};

const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Message)]
struct TwinWire {
    #[prost(uint64, tag = "1")]
    rev: u64,
    #[prost(uint32, tag = "2")]
    shard: u32,
    #[prost(uint64, tag = "3")]
    seq: u64,
    #[prost(sint64, optional, tag = "4")]
    updated_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "5")]
    data_at_ms: Option<i64>,
    #[prost(bool, tag = "6")]
    stale: bool,
    #[prost(double, optional, tag = "7")]
    quality_score: Option<f64>,
    #[prost(message, optional, tag = "8")]
    config: Option<ConfigWire>,
    #[prost(message, optional, tag = "9")]
    attributes: Option<AttributesWire>,
    #[prost(sint64, optional, tag = "10")]
    minute_ms: Option<i64>,
    #[prost(message, repeated, tag = "11")]
    metrics: Vec<MetricStateWire>,
    #[prost(message, optional, tag = "12")]
    machine: Option<MachineWire>,
    #[prost(message, optional, tag = "13")]
    location: Option<LocationWire>,
    #[prost(message, optional, tag = "14")]
    job: Option<JobWire>,
    #[prost(sint64, tag = "15")]
    steady_since_ms: i64,
    #[prost(uint64, tag = "16")]
    values_refused: u64,
    #[prost(message, optional, tag = "101")]
    pending: Option<PendingWire>,
    /// Absent where it is `data_at_ms`, or where nothing is folded yet.
    #[prost(sint64, optional, tag = "102")]
    sealed_at_ms: Option<i64>,
    #[prost(bool, tag = "103")]
    nothing_sealed: bool,
    #[prost(message, optional, tag = "120")]
    alarms: Option<AlarmsWire>,
    #[prost(message, optional, tag = "160")]
    quality: Option<QualityWire>,
    #[prost(message, optional, tag = "161")]
    forecasts: Option<ForecastsWire>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributesWire {
    #[prost(string, tag = "1")]
    set: String,
    #[prost(string, optional, tag = "2")]
    sensed_location: Option<String>,
    #[prost(string, tag = "3")]
    model: String,
}

#[derive(Clone, PartialEq, Message)]
struct MetricStateWire {
    #[prost(message, optional, tag = "1")]
    newest: Option<MetricWire>,
    #[prost(sint64, tag = "2")]
    at_ms: i64,
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(message, optional, tag = "4")]
    open: Option<BucketWire>,
    #[prost(message, optional, tag = "5")]
    five_minutes: Option<BucketWire>,
    #[prost(message, optional, tag = "6")]
    hour: Option<BucketWire>,
    #[prost(message, repeated, tag = "7")]
    states: Vec<StateTimeWire>,
    /// The newest value that is folded, where it is not the newest.
    #[prost(message, optional, tag = "101")]
    sealed: Option<MetricWire>,
    #[prost(sint64, tag = "102")]
    sealed_at_ms: i64,
    #[prost(bool, tag = "103")]
    nothing_sealed: bool,
    #[prost(bool, tag = "160")]
    lapsed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StateTimeWire {
    /// An execution state; 0 for another word, which `word` names.
    #[prost(uint32, tag = "1")]
    execution: u32,
    #[prost(string, tag = "2")]
    word: String,
    /// Minute, five minutes, hour.
    #[prost(sint32, repeated, tag = "3")]
    ms: Vec<i32>,
    #[prost(uint32, repeated, tag = "4")]
    entered: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedTimeWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint64, tag = "2")]
    at_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LocationWire {
    #[prost(message, repeated, tag = "1")]
    jobs: Vec<NamedTimeWire>,
    #[prost(uint64, tag = "2")]
    unlisted: u64,
    #[prost(uint64, tag = "3")]
    visits: u64,
    #[prost(sint64, tag = "4")]
    dwell_ms_sum: i64,
    #[prost(sint64, tag = "5")]
    dwell_ms_max: i64,
    #[prost(sint64, optional, tag = "6")]
    last_left_ms: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    operators: Vec<NamedTimeWire>,
    #[prost(sint64, tag = "8")]
    dwell_ms_last: i64,
    #[prost(uint64, tag = "9")]
    left_today: u64,
    #[prost(message, optional, tag = "101")]
    line: Option<LineWire>,
    #[prost(message, optional, tag = "140")]
    air: Option<AirWire>,
    #[prost(message, optional, tag = "141")]
    flow: Option<FlowWire>,
    #[prost(message, optional, tag = "142")]
    remaining: Option<RemainingWire>,
}

fn ms(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::ms)
}

fn time(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_ms)
}

fn named(name: &str, at: Timestamp) -> NamedTimeWire {
    NamedTimeWire {
        name: name.to_owned(),
        at_ms: at.ms(),
    }
}

fn text(boxed: &Option<Box<str>>) -> Option<String> {
    boxed.as_deref().map(str::to_owned)
}

impl Twin {
    /// Appends the twin's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let wire = TwinWire {
            rev: self.rev,
            shard: u32::from(self.position.shard),
            seq: self.position.seq,
            updated_at_ms: ms(self.updated_at),
            data_at_ms: ms(self.data_at),
            stale: self.stale,
            quality_score: self.quality_score,
            config: self.config.as_deref().map(config_to_wire),
            attributes: self.attributes.as_ref().map(|attributes| AttributesWire {
                set: attributes_text(&attributes.set),
                sensed_location: text(&attributes.sensed_location),
                model: attributes_text(&attributes.model),
            }),
            minute_ms: ms(self.metrics.minute),
            metrics: self.metrics.items.iter().map(metric_to_state).collect(),
            machine: if let Nature::Machine(machine) = &self.nature {
                Some(machine_to_wire(machine))
            } else {
                None
            },
            location: if let Nature::Location(location) = &self.nature {
                Some(location_to_wire(location))
            } else {
                None
            },
            job: if let Nature::Job(job) = &self.nature {
                Some(JobWire::of(job))
            } else {
                None
            },
            steady_since_ms: self.steady_since.ms(),
            values_refused: self.metrics.refused,
            pending: self.pending.wire(),
            sealed_at_ms: ms(self.sealed_at.filter(|_| self.sealed_at != self.data_at)),
            nothing_sealed: self.sealed_at.is_none() && self.data_at.is_some(),
            alarms: self.alarms.as_deref().map(AlarmsWire::of),
            quality: self.quality_of_data.as_deref().map(QualityWire::of),
            forecasts: self.forecasts.as_deref().map(ForecastsWire::of),
        };
        out.push(VERSION);
        out.reserve(wire.encoded_len());
        wire.encode_raw(out);
    }

    /// Reads a twin; its address is not among its bytes.
    pub fn decode(id: TwinId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some((&VERSION, body)) = bytes.split_first() else {
            return Err(undecodable("unknown version of a twin"));
        };
        let wire = TwinWire::decode(body).map_err(undecodable)?;
        let mut twin = Self::new(id);
        twin.nature = match (&twin.nature, wire.machine, wire.location, wire.job) {
            (Nature::Machine(_), Some(machine), ..) => Nature::Machine(Box::new(machine_from_wire(machine)?)),
            (Nature::Location(_), _, Some(location), _) => {
                Nature::Location(Box::new(location_from_wire(location)))
            }
            (Nature::Job(_), _, _, Some(job)) => Nature::Job(Box::new(job.job())),
            _ => return Err(undecodable("a twin of another kind")),
        };
        twin.rev = wire.rev;
        twin.position = Position {
            shard: u16::try_from(wire.shard).map_err(undecodable)?,
            seq: wire.seq,
        };
        twin.updated_at = time(wire.updated_at_ms);
        twin.data_at = time(wire.data_at_ms);
        twin.sealed_at = match time(wire.sealed_at_ms) {
            None if !wire.nothing_sealed => twin.data_at,
            sealed_at => sealed_at,
        };
        twin.pending = wire
            .pending
            .map(Pending::from_wire)
            .transpose()?
            .unwrap_or_default();
        twin.stale = wire.stale;
        twin.alarms = wire.alarms.map(AlarmsWire::alarms).transpose()?.flatten();
        twin.quality_score = wire.quality_score;
        twin.config = wire.config.map(config_from_wire).transpose()?.map(Box::new);
        twin.attributes = wire.attributes.map(|attributes| {
            Box::new(Attributes {
                set: object(&attributes.set),
                model: object(&attributes.model),
                sensed_location: attributes.sensed_location.map(String::into_boxed_str),
            })
        });
        if twin.sealed_at.is_some() {
            twin.steady_since = Timestamp::from_ms(wire.steady_since_ms);
        }
        let items: Vec<_> = wire
            .metrics
            .into_iter()
            .map(metric_from_state)
            .collect::<Result<_, _>>()?;
        let minute = wire.minute_ms.map(|ms| Timestamp::from_ms(ms).floor_to(60_000));
        twin.metrics = Metrics {
            minute,
            items,
            refused: wire.values_refused,
        };
        twin.quality_of_data = wire.quality.map(QualityWire::quality).transpose()?.map(Box::new);
        twin.forecasts = wire
            .forecasts
            .map(ForecastsWire::forecasts)
            .transpose()?
            .map(Box::new);
        Ok(twin)
    }
}

fn metric_to_state(metric: &Metric) -> MetricStateWire {
    let wider = |index: usize| {
        metric
            .wider
            .as_ref()
            .map(|buckets| BucketWire::of(&buckets[index]))
    };
    let states = metric.states.iter().flat_map(|states| states.0.iter());
    let older = metric
        .sealed
        .as_ref()
        .filter(|(value, at)| *value != metric.value || *at != metric.at);
    MetricStateWire {
        newest: Some(metric_to_wire(&metric.name, &metric.value)),
        at_ms: metric.at.ms(),
        kind: metric.kind as u32,
        open: (metric.open != Bucket::default()).then(|| BucketWire::of(&metric.open)),
        five_minutes: wider(0),
        hour: wider(1),
        states: states.map(state_to_wire).collect(),
        // It has the name of the newest.
        sealed: older.map(|(value, _)| metric_to_wire("", value)),
        sealed_at_ms: older.map_or(0, |(_, at)| at.ms()),
        nothing_sealed: metric.sealed.is_none(),
        lapsed: metric.lapsed,
    }
}

fn metric_from_state(wire: MetricStateWire) -> Result<Metric, DecodeError> {
    let (name, value) = metric_from_wire(
        wire.newest
            .ok_or_else(|| undecodable("a metric without a name"))?,
    )?;
    let kind = MetricKind::from_number(wire.kind).ok_or_else(|| undecodable("unknown kind of metric"))?;
    let states: Vec<_> = wire
        .states
        .into_iter()
        .map(state_from_wire)
        .collect::<Result<_, _>>()?;
    let at = Timestamp::from_ms(wire.at_ms);
    let sealed = match wire.sealed {
        Some(older) => Some((metric_from_wire(older)?.1, Timestamp::from_ms(wire.sealed_at_ms))),
        None => (!wire.nothing_sealed).then(|| (value.clone(), at)),
    };
    Ok(Metric {
        name,
        value,
        at,
        sealed,
        kind,
        lapsed: wire.lapsed,
        open: wire.open.map(|bucket| bucket.bucket()).unwrap_or_default(),
        wider: wire
            .five_minutes
            .zip(wire.hour)
            .map(|(five, hour)| Box::new([five.bucket(), hour.bucket()])),
        states: (!states.is_empty()).then(|| Box::new(States(states))),
    })
}

fn state_to_wire(state: &StateTime) -> StateTimeWire {
    let (execution, word) = match &state.word {
        Word::Execution(execution) => (*execution as u32, String::new()),
        Word::Text(word) => (0, word.to_string()),
    };
    StateTimeWire {
        execution,
        word,
        ms: state.ms.to_vec(),
        entered: state.entered.to_vec(),
    }
}

fn state_from_wire(wire: StateTimeWire) -> Result<StateTime, DecodeError> {
    let word = match wire.execution {
        0 => Word::Text(wire.word.into()),
        // A state that only a later release knows.
        number => Word::Execution(Execution::from_number(number).unwrap_or(Execution::Unknown)),
    };
    let wrong = || undecodable("a wrong number of steps");
    Ok(StateTime {
        word,
        ms: wire.ms.try_into().map_err(|_| wrong())?,
        entered: wire.entered.try_into().map_err(|_| wrong())?,
    })
}

fn location_to_wire(location: &Location) -> LocationWire {
    let named_times = |times: &std::collections::BTreeMap<Box<str>, Timestamp>| {
        times.iter().map(|(name, at)| named(name, *at)).collect()
    };
    LocationWire {
        jobs: named_times(&location.jobs),
        unlisted: location.unlisted,
        visits: location.visits,
        dwell_ms_sum: location.dwell_ms_sum,
        dwell_ms_max: location.dwell_ms_max,
        last_left_ms: ms(location.last_left),
        operators: named_times(&location.operators),
        dwell_ms_last: location.dwell_ms_last,
        left_today: location.left_today,
        line: location.line.wire(),
        air: location.air.to_wire(),
        flow: location.flow.as_deref().map(Flow::to_wire),
        remaining: (location.remaining != Remaining::default())
            .then(|| RemainingWire::of(&location.remaining)),
    }
}

fn location_from_wire(wire: LocationWire) -> Location {
    let times = |times: Vec<NamedTimeWire>| {
        times
            .into_iter()
            .map(|entry| (entry.name.into(), Timestamp::from_ms(entry.at_ms)))
            .collect()
    };
    Location {
        jobs: times(wire.jobs),
        unlisted: wire.unlisted,
        visits: wire.visits,
        dwell_ms_sum: wire.dwell_ms_sum,
        dwell_ms_max: wire.dwell_ms_max,
        last_left: time(wire.last_left_ms),
        operators: times(wire.operators),
        dwell_ms_last: wire.dwell_ms_last,
        left_today: wire.left_today,
        line: wire.line.map(Line::from_wire).unwrap_or_default(),
        air: Air::from_wire(wire.air),
        flow: wire.flow.map(|flow| Box::new(Flow::from_wire(flow))),
        remaining: wire.remaining.map(RemainingWire::remaining).unwrap_or_default(),
    }
}
