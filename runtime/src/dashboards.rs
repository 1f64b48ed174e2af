//! Dashboards that people of a tenant arranged and saved: small texts on the control shard, like plant models.
//!
//! Promises: what `put` answered is durable; a version counts from 1 with each save, so that two who edit notice each
//! other; an owner has a bounded number of them. Does not know what a dashboard shows.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use gemba_twins::{id::TenantId, time::Timestamp};
use prost::Message as _;

use crate::{decode::Rejection, node::CommandError};

/// The longest content of a dashboard, so that its record stays within what every record may have.
pub const CONTENT_MAX: usize = 48 << 10;
/// Most dashboards of one owner: enough for every wall of a works, too few to fill a disk.
const OF_OWNER_MAX: usize = 100;

/// A saved dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its id within the tenant.
    pub id: Box<str>,
    /// Who made it: the name of a key.
    pub owner: Box<str>,
    /// Counts from 1 with each save.
    pub version: u64,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// JSON; empty for one that was removed.
    pub content: Box<str>,
}

impl Dashboard {
    /// Whether it was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.content.is_empty()
    }
}

/// A wish to save or remove a dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutDashboard {
    pub(crate) tenant: TenantId,
    pub(crate) id: Box<str>,
    pub(crate) by: Box<str>,
    /// Empty to remove it.
    pub(crate) content: Box<str>,
    /// The version that it must be at.
    pub(crate) if_version: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DashboardWire {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    owner: String,
    #[prost(uint64, tag = "4")]
    version: u64,
    #[prost(sint64, tag = "5")]
    at_ms: i64,
    #[prost(string, tag = "6")]
    content: String,
}

/// A dashboard's record without the byte of its kind.
pub(crate) fn encode(dashboard: &Dashboard) -> Vec<u8> {
    DashboardWire {
        tenant: dashboard.tenant.as_str().to_owned(),
        id: dashboard.id.to_string(),
        owner: dashboard.owner.to_string(),
        version: dashboard.version,
        at_ms: dashboard.saved_at.ms(),
        content: dashboard.content.to_string(),
    }
    .encode_to_vec()
}

/// Reads what [`encode`] wrote, or says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Dashboard, String> {
    let wire = DashboardWire::decode(bytes).map_err(|error| error.to_string())?;
    Ok(Dashboard {
        tenant: TenantId::parse(&wire.tenant).map_err(|error| error.to_string())?,
        id: wire.id.into(),
        owner: wire.owner.into(),
        version: wire.version,
        saved_at: Timestamp::from_ms(wire.at_ms),
        content: wire.content.into(),
    })
}

/// A row of the state store: its key, and its bytes unless it goes.
pub(crate) type Row = (Vec<u8>, Option<Vec<u8>>);
type ById = BTreeMap<(TenantId, Box<str>), Arc<Dashboard>>;

/// All dashboards, and those of them that no snapshot holds yet.
#[derive(Default)]
pub(crate) struct DashboardDirectory {
    all: RwLock<ById>,
    fresh: RwLock<ById>,
}

impl DashboardDirectory {
    pub(crate) fn get(&self, tenant: &TenantId, id: &str) -> Option<Arc<Dashboard>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&(tenant.clone(), id.into())).cloned()
    }

    pub(crate) fn of_tenant(&self, tenant: &TenantId) -> Vec<Arc<Dashboard>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.range((tenant.clone(), "".into())..)
            .take_while(|((of, _), _)| of == tenant)
            .map(|(_, dashboard)| dashboard.clone())
            .collect()
    }

    /// What a wish leads to, if it may be fulfilled.
    pub(crate) fn decide(&self, put: &PutDashboard, at: Timestamp) -> Result<Dashboard, CommandError> {
        let there = self.get(&put.tenant, &put.id);
        let current = there.as_ref().map_or(0, |dashboard| dashboard.version);
        if put.content.is_empty() && there.is_none() {
            return Err(CommandError::NotFound);
        }
        if put.if_version.is_some_and(|wanted| wanted != current) {
            return Err(CommandError::RevMismatch { current });
        }
        let refuse = |code, detail: String| Err(CommandError::Invalid(Rejection::new(code, detail)));
        if let Some(owned) = there.as_ref().filter(|dashboard| dashboard.owner != put.by) {
            let detail = format!(
                "the dashboard {} is {}'s (save a copy under another id)",
                put.id, owned.owner
            );
            return refuse("dashboard.not_owner", detail);
        }
        if there.is_none() {
            let own = self.of_tenant(&put.tenant);
            if own.iter().filter(|dashboard| dashboard.owner == put.by).count() >= OF_OWNER_MAX {
                let detail = format!("{} has {OF_OWNER_MAX} dashboards (remove one)", put.by);
                return refuse("dashboard.too_many", detail);
            }
        }
        Ok(Dashboard {
            tenant: put.tenant.clone(),
            id: put.id.clone(),
            owner: put.by.clone(),
            version: current + 1,
            saved_at: at,
            content: put.content.clone(),
        })
    }

    /// Called by the control shard alone, when a record is durable.
    pub(crate) fn set(&self, dashboard: &Dashboard) {
        let key = (dashboard.tenant.clone(), dashboard.id.clone());
        let dashboard = Arc::new(dashboard.clone());
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if dashboard.is_removed() {
            all.remove(&key);
        } else {
            all.insert(key.clone(), dashboard.clone());
        }
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        fresh.insert(key, dashboard);
    }

    /// Takes in what a snapshot held.
    pub(crate) fn restore(&self, bytes: &[u8]) -> Result<(), String> {
        let dashboard = decode(bytes)?;
        let key = (dashboard.tenant.clone(), dashboard.id.clone());
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, Arc::new(dashboard));
        Ok(())
    }

    /// What the next snapshot has to hold: keys of the store with their bytes, none for what was removed.
    pub(crate) fn unsaved(&self) -> Vec<Row> {
        let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
        fresh
            .iter()
            .map(|((tenant, id), dashboard)| {
                let key = [tenant.as_str().as_bytes(), b"\0", id.as_bytes()].concat();
                let there = !dashboard.is_removed();
                (key, there.then(|| encode(dashboard)))
            })
            .collect()
    }

    /// A snapshot that held these is written.
    pub(crate) fn saved(&self, written: &[Row]) {
        let newest = self.unsaved();
        let same: Vec<bool> = newest.iter().map(|row| written.contains(row)).collect();
        let mut same = same.into_iter();
        // Only the control shard writes here, so the order is still that of `newest`.
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        fresh.retain(|_, _| !same.next().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(id: &str, by: &str, content: &str) -> PutDashboard {
        PutDashboard {
            tenant: TenantId::parse("acme").expect("a tenant"),
            id: id.into(),
            by: by.into(),
            content: content.into(),
            if_version: None,
        }
    }

    fn put(directory: &DashboardDirectory, put: &PutDashboard) -> Result<u64, CommandError> {
        let decided = directory.decide(put, Timestamp::from_ms(5))?;
        directory.set(&decided);
        Ok(decided.version)
    }

    #[test]
    fn each_save_counts_until_it_is_removed() {
        let directory = DashboardDirectory::default();
        assert_eq!(put(&directory, &wish("wall", "ada", "{}")), Ok(1));
        assert_eq!(put(&directory, &wish("wall", "ada", "[1]")), Ok(2));
        assert_eq!(put(&directory, &wish("wall", "ada", "")), Ok(3));
        assert_eq!(directory.get(&wish("", "", "").tenant, "wall"), None);
        assert_eq!(directory.unsaved(), [(b"acme\0wall".to_vec(), None)]);
        assert_eq!(
            put(&directory, &wish("wall", "ada", "")),
            Err(CommandError::NotFound)
        );
        assert_eq!(put(&directory, &wish("wall", "bob", "{}")), Ok(1));
    }

    #[test]
    fn only_its_owner_changes_a_dashboard_and_only_the_version_they_saw() {
        let directory = DashboardDirectory::default();
        put(&directory, &wish("wall", "ada", "{}")).expect("saved");
        let stranger = put(&directory, &wish("wall", "bob", "{}"));
        assert!(
            matches!(&stranger, Err(CommandError::Invalid(rejection)) if rejection.code == "dashboard.not_owner"),
            "{stranger:?}"
        );
        let old = PutDashboard {
            if_version: Some(0),
            ..wish("wall", "ada", "{}")
        };
        assert_eq!(
            put(&directory, &old),
            Err(CommandError::RevMismatch { current: 1 })
        );
    }

    #[test]
    fn an_owner_has_a_bounded_number_of_them() {
        let directory = DashboardDirectory::default();
        for number in 0..OF_OWNER_MAX {
            put(&directory, &wish(&format!("d{number}"), "ada", "{}")).expect("saved");
        }
        assert!(put(&directory, &wish("more", "ada", "{}")).is_err());
        assert!(put(&directory, &wish("more", "bob", "{}")).is_ok());
        assert!(put(&directory, &wish("d1", "ada", "[]")).is_ok());
    }

    #[test]
    fn a_snapshot_holds_what_is_new_and_brings_it_back() {
        let directory = DashboardDirectory::default();
        put(&directory, &wish("wall", "ada", "{\"a\":1}")).expect("saved");
        let written = directory.unsaved();
        assert_eq!(written[0].0, b"acme\0wall");
        put(&directory, &wish("wall", "ada", "{\"a\":2}")).expect("saved");
        directory.saved(&written);
        assert_eq!(
            directory.unsaved().len(),
            1,
            "what came meanwhile waits for the next one"
        );
        directory.saved(&directory.unsaved());
        assert!(directory.unsaved().is_empty());
        let again = DashboardDirectory::default();
        again
            .restore(written[0].1.as_ref().expect("bytes"))
            .expect("read");
        let tenant = TenantId::parse("acme").expect("a tenant");
        assert_eq!(&*again.get(&tenant, "wall").expect("there").content, "{\"a\":1}");
    }
}
