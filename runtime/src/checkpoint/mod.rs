//! The checkpoint: history on its way into the warehouse, exactly once.
//!
//! Promises: for each tenant, shard and table of events there is one channel of Snowpipe Streaming; a row's seq is its
//! offset, and sending goes on only from the offset that the warehouse says is committed. What twins compute goes by SQL,
//! in transactions that move an offset of their own. Reads the journal behind the shards, off the hot path; a warehouse
//! that does not answer costs disk only, and the journal is trimmed only past what is committed; what a full journal gave up all
//! the same is read from the history's files. Memory is bounded by the requests under way. What a twin is it asks of
//! whoever holds the twins.

mod batch;
mod breaker;
mod client;
mod dead;
mod key;
mod lane;
mod metric_names;
mod place;
mod reconcile;
mod resend;
mod rows;
mod settings;
mod source;
mod sql;
mod view;
mod warehouse;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gemba_cluster::{Journal, ShardId};
use gemba_twins::id::TenantId;
use tokio::sync::Semaphore;

pub(crate) use self::{
    batch::received_after,
    sql::{LEVELS, TwinNow, TwinReader, Wanted},
};
use self::{breaker::Breaker, client::Client, metric_names as names, place::Place, sql::SqlLane};
pub use self::{
    reconcile::{Compared, ReconcileError, Reconciliation},
    resend::{RefusedAgain, ResendError, Resent, resend},
    rows::Table,
    settings::{Secret, SnowflakeSettings},
    view::{ChannelState, ChannelView},
    warehouse::{Warehouse, WarehouseError},
};
use crate::clock;

/// What all channels share.
pub(crate) struct Shared {
    settings: Arc<SnowflakeSettings>,
    client: Client,
    /// Whether statements are answered: another service than the streaming one.
    statements: Breaker,
    journal: Journal,
    /// What is kept of the channels, and dead letters.
    root: PathBuf,
    /// The history's files, which hold what the journal has given up.
    history: Option<PathBuf>,
}

/// Between two looks whether a place is this node's to write.
const STANDBY_EVERY: Duration = Duration::from_millis(200);

/// Who writes a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// This node, the shard's owner in this epoch: up to this seq.
    Ours { epoch: u64, until: u64 },
    /// Another node.
    Another,
}

/// What goes into the warehouse from one place, by one of its two ways.
pub(crate) enum Lane {
    /// A channel of Snowpipe Streaming.
    Channel(Box<lane::Lane>),
    /// Transactions of SQL.
    Sql(Box<SqlLane>),
}

impl Lane {
    fn view(&self) -> Arc<Mutex<ChannelView>> {
        match self {
            Self::Channel(lane) => lane.view(),
            Self::Sql(lane) => lane.view(),
        }
    }

    /// Lets go of what it has open: another node writes the place, or did meanwhile.
    fn stand_by(&mut self) {
        match self {
            Self::Channel(lane) => lane.stand_by(),
            Self::Sql(lane) => lane.stand_by(),
        }
    }

    fn turn(&mut self, shared: &Shared, until: u64, twins: &TwinReader) -> Duration {
        match self {
            Self::Channel(lane) => lane.turn(shared, until),
            Self::Sql(lane) => lane.turn(shared, until, twins),
        }
    }
}

type Views = BTreeMap<Place, Arc<Mutex<ChannelView>>>;

/// The checkpoint of a node.
pub(crate) struct Checkpoint {
    shared: Arc<Shared>,
    views: Mutex<Views>,
    /// Up to which seq each shard is known to hold no tenant without a channel.
    surveyed: Mutex<BTreeMap<u16, (usize, u64)>>,
    /// Up to which seq the owners of other nodes' shards said that no channel needs them.
    told: Mutex<BTreeMap<u16, u64>>,
    requests: Arc<Semaphore>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Checkpoint {
    /// The checkpoint of a journal; an error where its settings cannot work.
    pub(crate) fn new(
        settings: Arc<SnowflakeSettings>,
        journal: Journal,
        root: PathBuf,
        history: Option<PathBuf>,
    ) -> Result<Self, String> {
        names::describe();
        tracing::info!("{}", settings.estimate());
        let requests = Arc::new(Semaphore::new(settings.requests_max.max(1)));
        Ok(Self {
            shared: Arc::new(Shared {
                client: Client::new(settings.clone())?,
                statements: Breaker::new(settings.retry_after),
                settings,
                journal,
                root,
                history,
            }),
            views: Mutex::default(),
            surveyed: Mutex::default(),
            told: Mutex::default(),
            requests,
            stop: tokio::sync::watch::Sender::new(false),
        })
    }

    /// Whether a shard's twins are other than when it was looked at; `twins` is their number.
    pub(crate) fn wants_survey(&self, shard: u16, twins: usize, folded: u64) -> bool {
        let mut surveyed = self.surveyed.lock().unwrap_or_else(PoisonError::into_inner);
        match surveyed.get_mut(&shard) {
            // No new twin, no new tenant.
            Some((known, up_to)) if *known == twins => {
                *up_to = folded;
                false
            }
            _ => true,
        }
    }

    /// Makes the channels that a shard's tenants lack. `twins` and `folded` are from before the tenants were listed.
    pub(crate) fn survey(
        &self,
        shard: u16,
        tenants: impl IntoIterator<Item = TenantId>,
        twins: usize,
        folded: u64,
    ) -> Vec<Lane> {
        let (mut fresh, mut whole) = (Vec::new(), true);
        let mut views = self.views();
        let settings = &self.shared.settings;
        let by_sql = |table: Table| table == Table::Twins || settings.history_by_sql;
        let wanted = |table: &Table| *table != Table::Twins || !settings.sql_every.is_zero();
        let tables = |tenant: TenantId| {
            let all = Table::OF_EVENTS.into_iter().chain([Table::Twins]);
            all.filter(wanted).map(move |table| (tenant.clone(), table))
        };
        for (tenant, table) in tenants.into_iter().flat_map(tables) {
            let place = Place { tenant, shard, table };
            if views.contains_key(&place) {
                continue;
            }
            let channel = place.channel(&settings.channel_prefix);
            let by_sql = by_sql(place.table);
            let named = (!by_sql).then(|| channel.clone());
            let view = Arc::new(Mutex::new(ChannelView::new(&place, named)));
            let lane = if by_sql {
                SqlLane::load(&self.shared, place.clone(), &view).map(|lane| Lane::Sql(Box::new(lane)))
            } else {
                lane::Lane::load(&self.shared, place.clone(), &view).map(|lane| Lane::Channel(Box::new(lane)))
            };
            match lane {
                Ok(lane) => {
                    fresh.push(lane);
                    views.insert(place, view);
                }
                Err(error) => {
                    whole = false;
                    tracing::error!(channel, %error, "a channel does not begin; trying again");
                }
            }
        }
        if whole {
            let mut surveyed = self.surveyed.lock().unwrap_or_else(PoisonError::into_inner);
            surveyed.insert(shard, (twins, folded));
        }
        fresh
    }

    /// Works one place until the node stops; `writer` answers whose it is, `None` at the end, and `twins` what twins are.
    pub(crate) async fn work(
        self: Arc<Self>,
        mut lane: Lane,
        writer: impl Fn() -> Option<Writer>,
        twins: Arc<TwinReader>,
    ) {
        let mut stop = self.stop.subscribe();
        let view = lane.view();
        // The epoch in which it is this node's; a new one is begun anew, for another node may have written meanwhile.
        let mut ours = None;
        let mut stands_by = false;
        loop {
            let Ok(permit) = self.requests.clone().acquire_owned().await else {
                return;
            };
            let Some(writer) = writer() else { return };
            if *stop.borrow() {
                return;
            }
            let (epoch, until) = match writer {
                Writer::Ours { epoch, until } => (Some(epoch), until),
                Writer::Another => (None, 0),
            };
            let is_anew = ours.is_some() && epoch != ours;
            if is_anew || (epoch.is_none() && !stands_by) {
                lane.stand_by();
            }
            (ours, stands_by) = (epoch, epoch.is_none());
            if epoch.is_none() {
                drop(permit);
                tokio::select! {
                    () = tokio::time::sleep(STANDBY_EVERY) => continue,
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            let (shared, twins) = (self.shared.clone(), twins.clone());
            let turn = tokio::task::spawn_blocking(move || {
                let wait = lane.turn(&shared, until, &*twins);
                drop(permit);
                (lane, wait)
            });
            let Ok((back, wait)) = turn.await else {
                // The panic has been printed. Nothing is lost: the journal keeps what is not committed.
                let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
                view.state = ChannelState::Refused;
                view.last_error =
                    Some("the channel's task panicked (restart the node, and report it)".into());
                return;
            };
            lane = back;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Ends all channels after what they are at.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Notes up to which seq a shard's owner said that its journal is needed by no channel.
    pub(crate) fn hear_floor(&self, shard: u16, floor: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.entry(shard).or_default();
        *known = floor.max(*known);
    }

    /// Up to which seq another node said that a shard's journal is needed by no channel.
    pub(crate) fn told_floor(&self, shard: u16) -> u64 {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(&shard).copied().unwrap_or_default()
    }

    /// Up to which seq the journal of a shard that this node owns is needed by no channel.
    pub(crate) fn floor(&self, shard: u16) -> u64 {
        let surveyed = self.surveyed.lock().unwrap_or_else(PoisonError::into_inner);
        let surveyed = surveyed.get(&shard).map_or(0, |(_, up_to)| *up_to);
        let views = self.views();
        let of_shard = views.iter().filter(|(place, _)| place.shard == shard);
        of_shard
            .map(|(_, view)| view.lock().unwrap_or_else(PoisonError::into_inner).clear_to)
            .fold(surveyed, u64::min)
    }

    /// How a tenant's channels stand; all of them for `None`.
    pub(crate) fn channels(&self, tenant: Option<&TenantId>) -> Vec<ChannelView> {
        let views: Vec<(Place, ChannelView)> = self
            .views()
            .iter()
            .filter(|(place, _)| tenant.is_none_or(|tenant| *tenant == place.tenant))
            .map(|(place, view)| {
                let mut view = view.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if view.state == ChannelState::Standby {
                    view.clear_to = view.clear_to.max(self.told_floor(place.shard));
                }
                (place.clone(), view)
            })
            .collect();
        let now = clock::now();
        let at = |(place, view): (Place, ChannelView)| {
            let newest = self.shared.journal.last_seq(ShardId::new(view.shard)).get();
            let oldest = (newest > view.clear_to)
                .then(|| source::received_after(&self.shared, &place, view.clear_to))
                .flatten();
            view.at(newest, oldest, now)
        };
        views.into_iter().map(at).collect()
    }

    /// Tells the recorder how the channels stand.
    pub(crate) fn measure(&self) {
        let mut sums: BTreeMap<(TenantId, &'static str), (u64, u64, f64)> = BTreeMap::new();
        let mut fenced = 0_u32;
        let mut ours = self.channels(None);
        ours.retain(|view| view.state != ChannelState::Standby);
        for view in ours {
            fenced += u32::from(view.state == ChannelState::Fenced);
            if let Some(tenant) = view.tenant {
                let sum = sums.entry((tenant, view.stream)).or_default();
                sum.0 += view.lag_events;
                sum.1 += view.lag_bytes;
                sum.2 = sum.2.max(view.lag_s.unwrap_or_default());
            }
        }
        for ((tenant, stream), (events, bytes, seconds)) in sums {
            let labels = [("tenant", tenant.to_string()), ("table", stream.to_owned())];
            metrics::gauge!(names::LAG_EVENTS, &labels).set(events as f64);
            metrics::gauge!(names::LAG_BYTES, &labels).set(bytes as f64);
            metrics::gauge!(names::LAG_SECONDS, &labels).set(seconds);
        }
        metrics::gauge!(names::FENCED).set(f64::from(fenced));
        metrics::gauge!(names::BREAKER_OPEN).set(f64::from(u8::from(
            self.shared.client.is_closed() || self.shared.statements.is_open(),
        )));
    }

    /// How often it is looked for new tenants.
    pub(crate) const SURVEY_EVERY: Duration = Duration::from_secs(1);

    fn views(&self) -> std::sync::MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
