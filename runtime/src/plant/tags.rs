//! Binding of tags: which job a read or an EPCIS event is of, and where it was seen.
//!
//! A reader is looked up by the name that its topic or call gives, then by the one it gives itself. Without a plant
//! model a reader's name is its location, and an EPC is a job; `unknown_sensors: keep_aside` keeps both aside.
//!
//! Promises: pure; a tag that the model ignores leads to nothing.

use gemba_twins::{
    event::Scan,
    id::{Kind, TenantId, TwinId},
};

use super::{Bindings, UnknownSensors, readers::Smoothing};
use crate::decode::{DecodedRead, Epc, EpcisScan, Rejection, as_id, quoted};

/// A read that is bound to a job and a place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BoundRead {
    pub(crate) job: TwinId,
    pub(crate) location: Box<str>,
    pub(crate) reader: Option<Box<str>>,
    pub(crate) smoothing: Smoothing,
}

impl Bindings {
    fn keeps_aside(&self) -> bool {
        self.unknown == UnknownSensors::KeepAside
    }

    fn job_of(&self, tenant: &TenantId, epc: &Epc) -> Result<Option<TwinId>, Rejection> {
        let job = self.readers.job(epc, self.keeps_aside())?;
        job.map(|job| TwinId::new(tenant.clone(), Kind::Job, &job))
            .transpose()
            .map_err(|error| Rejection::new("scan.job_id_invalid", error.to_string()))
    }

    /// The job and the place of a read; `None` for a tag that is no job. `reader` is what topic or call name it.
    pub(crate) fn bind_read(
        &self,
        tenant: &TenantId,
        reader: Option<&str>,
        read: &DecodedRead,
    ) -> Result<Option<BoundRead>, Rejection> {
        let Some(job) = self.job_of(tenant, &read.epc)? else {
            return Ok(None);
        };
        let names = || [reader, read.reader.as_deref()].into_iter().flatten();
        let name = names().next();
        let known = names().find_map(|name| Some((name, self.readers.place(name, read.antenna.as_deref())?)));
        let (name, location, smoothing) = match (known, name) {
            (Some((name, (Some(location), smoothing))), _) => (name, location.into(), smoothing),
            (Some((name, (None, _))), _) => {
                let detail = format!(
                    "antenna {} of reader {} has no location in the plant model (add it to its antennas)",
                    quoted(read.antenna.as_deref().unwrap_or("(none)")),
                    quoted(name)
                );
                return Err(Rejection::new("rfid.antenna_unknown", detail));
            }
            (None, Some(name)) if !self.keeps_aside() => (name, as_id(name), Smoothing::default()),
            (None, Some(name)) => {
                let detail = format!(
                    "reader {} is not in the plant model (add it to readers, apply, and retry)",
                    quoted(name)
                );
                return Err(Rejection::new("rfid.reader_unknown", detail));
            }
            (None, None) => {
                let detail = "the read names no reader (give reader_id, ?reader=ID or a topic that names it)";
                return Err(Rejection::new("rfid.reader_missing", detail));
            }
        };
        Ok(Some(BoundRead {
            job,
            location,
            reader: Some(as_id(name)),
            smoothing,
        }))
    }

    /// A scan of a job at a place.
    pub(crate) fn scan_at(&self, location: &str) -> Scan {
        Scan {
            location: location.into(),
            completes: self.exits.contains(location),
            ..Scan::default()
        }
    }

    /// The job and the scan of a thing in an EPCIS event; `None` for a thing that is no job.
    pub(crate) fn bind_seen(
        &self,
        tenant: &TenantId,
        seen: &EpcisScan,
    ) -> Result<Option<(TwinId, Scan)>, Rejection> {
        let Some(job) = self.job_of(tenant, &seen.epc)? else {
            return Ok(None);
        };
        let place = seen.places.first().map(|place| as_id(place)).unwrap_or_default();
        let named = self.readers.point(&seen.places);
        let known = seen.places.iter().map(|place| as_id(place));
        let location = match named {
            Some(location) => location.into(),
            // A location of the model may be called as events call it.
            None => known
                .into_iter()
                .find(|place| self.locations.contains(place))
                .unwrap_or(place),
        };
        if self.keeps_aside() && !self.locations.contains(&location) {
            let detail = format!(
                "place {} is not in the plant model (add it to read_points of a reader, apply, and retry)",
                quoted(&location)
            );
            return Err(Rejection::new("scan.location_unknown", detail));
        }
        let scan = Scan {
            metadata: seen.metadata.clone(),
            retracts: seen.retracts,
            ..self.scan_at(&location)
        };
        Ok(Some((job, scan)))
    }
}
