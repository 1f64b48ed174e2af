//! Names: who owns a twin, what kind it is, which one it is.
//!
//! Promises: an id that exists is valid, its text is shared (a clone costs a counter), and its order is tenant,
//! kind, id, so that a sorted map of ids lists one tenant's twins together. Knows nothing of where a twin lives.

use std::{cmp::Ordering, fmt, sync::Arc};

use thiserror::Error;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("{what} is empty (give 1 to {max} characters)")]
    Empty {
        /// What the text was to name.
        what: &'static str,
        /// Most characters allowed.
        max: usize,
    },
    /// More characters than allowed.
    #[error("{what} has {length} characters (at most {max} are allowed)")]
    TooLong {
        /// What the text was to name.
        what: &'static str,
        /// Characters given.
        length: usize,
        /// Most characters allowed.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error(
        "{what} holds {character:?} at position {position} (allowed: letters, digits, '-', '_', '.', ':')"
    )]
    Character {
        /// What the text was to name.
        what: &'static str,
        /// The character that is not allowed.
        character: char,
        /// Its byte position.
        position: usize,
    },
    /// Not one of the three kinds.
    #[error("unknown kind {0:?} (one of machine, location, job)")]
    Kind(String),
}

/// Longest id of a twin, sensor, reader or operator, in bytes.
pub const ID_MAX: usize = 128;
/// Longest tenant id, in bytes: short, because it is the first part of every key.
pub const TENANT_MAX: usize = 50;

/// Checks a text against the alphabet of ids: 1 to `max` of ASCII letters, digits, `-`, `_`, `.`, `:`.
pub fn check_id(what: &'static str, text: &str, max: usize) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty { what, max });
    }
    if text.len() > max {
        return Err(InvalidId::TooLong {
            what,
            length: text.len(),
            max,
        });
    }
    let stranger = text
        .char_indices()
        .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')));
    match stranger {
        Some((position, character)) => Err(InvalidId::Character {
            what,
            character,
            position,
        }),
        None => Ok(()),
    }
}

/// A tenant of the installation: 1 to 50 of letters, digits, `-`, `_`, `.`, `:`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TenantId(Arc<str>);

impl Ord for TenantId {
    fn cmp(&self, other: &Self) -> Ordering {
        // Tables of twins compare it at each step, and mostly with itself.
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for TenantId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TenantId {
    /// Parses a tenant id.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        check_id("tenant", text, TENANT_MAX)?;
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a twin stands for. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A machine, or a meter of its own.
    Machine = 1,
    /// A place: site, area, line, cell.
    Location = 2,
    /// A job, order or carrier that moves through places.
    Job = 3,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Machine, Self::Location, Self::Job];

    /// Parses `machine`, `location` or `job`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match text {
            "machine" => Ok(Self::Machine),
            "location" => Ok(Self::Location),
            "job" => Ok(Self::Job),
            other => Err(InvalidId::Kind(other.chars().take(40).collect())),
        }
    }

    /// The kind of an on-disk number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// The kind as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Location => "location",
            Self::Job => "job",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address of a twin. Shown as `kind/id`; the tenant is known from the credential and never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TwinId {
    tenant: TenantId,
    kind: Kind,
    id: Arc<str>,
}

impl TwinId {
    /// An address of its parts; `id` is 1 to 128 of letters, digits, `-`, `_`, `.`, `:`.
    pub fn new(tenant: TenantId, kind: Kind, id: &str) -> Result<Self, InvalidId> {
        check_id("twin id", id, ID_MAX)?;
        Ok(Self {
            tenant,
            kind,
            id: id.into(),
        })
    }

    /// Parses `machine/cnc-07` within a tenant.
    pub fn parse(tenant: TenantId, text: &str) -> Result<Self, InvalidId> {
        let (kind, id) = text
            .split_once('/')
            .ok_or_else(|| InvalidId::Kind(text.chars().take(40).collect()))?;
        Self::new(tenant, Kind::parse(kind)?, id)
    }

    /// Who owns the twin.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What the twin stands for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id within tenant and kind.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for TwinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

impl fmt::Debug for TwinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.kind, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_the_alphabet_name_the_character() {
        let tenant = TenantId::parse("acme").expect("a plain tenant");
        let refused = TwinId::new(tenant, Kind::Machine, "cnc 07").expect_err("a space is refused");
        assert_eq!(
            refused.to_string(),
            "twin id holds ' ' at position 3 (allowed: letters, digits, '-', '_', '.', ':')"
        );
        assert!(TenantId::parse(&"a".repeat(51)).is_err());
        assert!(TenantId::parse("").is_err());
    }

    #[test]
    fn one_tenants_twins_sort_together() {
        let id = |tenant: &str, text: &str| {
            TwinId::parse(TenantId::parse(tenant).expect("tenant"), text).expect("id")
        };
        let mut ids = [
            id("b", "machine/a"),
            id("a", "job/z"),
            id("a", "machine/z"),
            id("a", "machine/b"),
        ];
        ids.sort();
        let shown: Vec<_> = ids.iter().map(|id| format!("{id:?}")).collect();
        assert_eq!(shown, ["a/machine/b", "a/machine/z", "a/job/z", "b/machine/a"]);
    }
}
