//! The plant models in force, by tenant, as connectors and callers see them.
//!
//! Promises: a look-up takes no lock; a model is in force only after its record on the control shard is durable.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use gemba_twins::{id::TenantId, time::Timestamp};

use crate::{
    dashboards::DashboardDirectory,
    plant::{Bindings, PlantModel},
};

/// A tenant's plant model as it was applied.
#[derive(Debug, Clone)]
pub struct AppliedPlant {
    /// Counts from 1 with each model applied.
    pub version: u64,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// Who applied it.
    pub by: Box<str>,
    /// The model.
    pub model: PlantModel,
}

type PlantsByTenant = BTreeMap<TenantId, (Arc<AppliedPlant>, Arc<Bindings>)>;

/// All plant models in force, and what else the control shard holds by tenant.
pub(crate) struct PlantDirectory {
    pub(crate) dashboards: DashboardDirectory,
    open: Arc<Bindings>,
    plants: ArcSwap<PlantsByTenant>,
}

impl PlantDirectory {
    pub(crate) fn new() -> Self {
        Self {
            dashboards: DashboardDirectory::default(),
            open: Arc::new(Bindings::open()),
            plants: ArcSwap::default(),
        }
    }

    pub(crate) fn bindings(&self, tenant: &TenantId) -> Arc<Bindings> {
        self.plants
            .load()
            .get(tenant)
            .map_or_else(|| self.open.clone(), |(_, bindings)| bindings.clone())
    }

    pub(crate) fn plant(&self, tenant: &TenantId) -> Option<Arc<AppliedPlant>> {
        self.plants.load().get(tenant).map(|(plant, _)| plant.clone())
    }

    /// Called by the control shard alone, so that no two writers race.
    pub(crate) fn set(&self, tenant: TenantId, plant: AppliedPlant) {
        let bindings = Arc::new(Bindings::of(&plant.model));
        let mut plants = BTreeMap::clone(&self.plants.load());
        plants.insert(tenant, (Arc::new(plant), bindings));
        self.plants.store(Arc::new(plants));
    }

    pub(crate) fn all(&self) -> Vec<(TenantId, Arc<AppliedPlant>)> {
        self.plants
            .load()
            .iter()
            .map(|(tenant, (plant, _))| (tenant.clone(), plant.clone()))
            .collect()
    }
}
