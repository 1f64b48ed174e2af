//! Who may do what: API keys with tenant and role, kept as hashes.
//!
//! Promises: a token is compared with every key in constant time, so that the time of an answer tells nothing; no
//! token is kept. Without any key the keyring is open: one tenant, everything allowed, for loopback only.

use std::sync::Arc;

use gemba_twins::id::{InvalidId, TenantId, check_id};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// What the holder of a key may do; each role after `Viewer` may also do what the ones before it may, but `Device`,
/// which may only send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sends readings and scans, sees nothing.
    Device,
    /// Reads twins, history, events.
    Viewer,
    /// Also sets attributes, retries rejected messages, sends readings and scans.
    Operator,
    /// Also changes the plant model.
    Engineer,
    /// Everything.
    Admin,
}

impl Role {
    /// Parses a role's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "device" => Some(Self::Device),
            "viewer" => Some(Self::Viewer),
            "operator" => Some(Self::Operator),
            "engineer" => Some(Self::Engineer),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    /// The role's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Engineer => "engineer",
            Self::Admin => "admin",
        }
    }

    /// Whether it may send readings and scans.
    #[must_use]
    pub fn may_send(self) -> bool {
        self != Self::Viewer
    }

    /// Whether it may do what `least` may, sending aside.
    #[must_use]
    pub fn is_at_least(self, least: Self) -> bool {
        self >= least
    }
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose twins they see.
    pub tenant: TenantId,
    /// The key's or the device's name.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
}

/// A key as it is configured.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// Unique within its tenant; the user name of MQTT.
    pub name: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it allows.
    pub role: Role,
    /// `sha256:` and 64 hexadecimal digits.
    pub hash: String,
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Its hash is none.
    #[error("key {0:?}: hash is not sha256: and 64 hexadecimal digits (make a key with `gemba key new`)")]
    Hash(String),
    /// Its name is no id.
    #[error("key {name:?}: {source}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidId,
    },
}

struct Key {
    principal: Principal,
    hash: [u8; 32],
}

/// All keys of a node.
pub struct Keyring {
    open: Option<Principal>,
    keys: Vec<Key>,
}

impl Keyring {
    /// No keys: everybody is this tenant's administrator.
    #[must_use]
    pub fn open(tenant: TenantId) -> Self {
        Self {
            open: Some(Principal {
                tenant,
                name: "anonymous".into(),
                role: Role::Admin,
            }),
            keys: Vec::new(),
        }
    }

    /// A keyring of keys.
    pub fn new(entries: Vec<KeyEntry>) -> Result<Self, KeyError> {
        let key = |entry: KeyEntry| {
            check_id("key name", &entry.name, 128).map_err(|source| KeyError::Name {
                name: entry.name.clone(),
                source,
            })?;
            let hash = parse_hash(&entry.hash).ok_or_else(|| KeyError::Hash(entry.name.clone()))?;
            let principal = Principal {
                tenant: entry.tenant,
                name: entry.name.into(),
                role: entry.role,
            };
            Ok(Key { principal, hash })
        };
        Ok(Self {
            open: None,
            keys: entries.into_iter().map(key).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Tenants that have keys; one where it is open.
    #[must_use]
    pub fn tenants(&self) -> usize {
        let tenants = self.keys.iter().map(|key| &key.principal.tenant);
        tenants.collect::<std::collections::BTreeSet<_>>().len().max(1)
    }

    /// Who everybody is, where it is open.
    #[must_use]
    pub fn anyone(&self) -> Option<Principal> {
        self.open.clone()
    }

    /// Who holds a token.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Principal> {
        self.verify_where(token, |_| true)
    }

    /// Who holds a token and is called `user`: a key's name, or `tenant/name`.
    #[must_use]
    pub fn verify_named(&self, user: &str, token: &str) -> Option<Principal> {
        let (tenant, name) = user
            .split_once('/')
            .map_or((None, user), |(tenant, name)| (Some(tenant), name));
        self.verify_where(token, |principal| {
            *principal.name == *name && tenant.is_none_or(|tenant| principal.tenant.as_str() == tenant)
        })
    }

    fn verify_where(&self, token: &str, wanted: impl Fn(&Principal) -> bool) -> Option<Principal> {
        if let Some(anyone) = &self.open {
            return Some(anyone.clone());
        }
        let hash = sha256(token);
        // Looks at all keys, whichever fits.
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.hash.ct_eq(&hash)) && wanted(&key.principal) {
                found = Some(&key.principal);
            }
        }
        found.cloned()
    }

    /// Who a client certificate (DER) is for: the alternative name `urn:gemba:{tenant}:{device}` in it. Its chain
    /// has been checked by TLS.
    #[must_use]
    pub fn verify_certificate(&self, der: &[u8]) -> Option<Principal> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| {
            let GeneralName::URI(uri) = name else { return None };
            let (tenant, device) = uri.strip_prefix("urn:gemba:")?.split_once(':')?;
            check_id("device", device, 128).ok()?;
            Some(Principal {
                tenant: TenantId::parse(tenant).ok()?,
                name: device.into(),
                role: Role::Device,
            })
        })
    }
}

/// A token's hash as it is configured.
#[must_use]
pub fn hash_token(token: &str) -> String {
    let digits: String = sha256(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text
        .strip_prefix("sha256:")
        .filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        let entry = |name: &str, tenant: &str, role, token: &str| KeyEntry {
            name: name.into(),
            tenant: TenantId::parse(tenant).expect("a tenant"),
            role,
            hash: hash_token(token),
        };
        Keyring::new(vec![
            entry("wall", "acme", Role::Viewer, "token-a"),
            entry("edge", "globex", Role::Device, "token-b"),
        ])
        .expect("a keyring")
    }

    #[test]
    fn a_token_leads_to_its_tenant_and_role() {
        let keyring = keyring();
        let principal = keyring.verify("token-a").expect("known");
        assert_eq!(
            (principal.tenant.as_str(), principal.role),
            ("acme", Role::Viewer)
        );
        assert_eq!(keyring.verify("token-c"), None);
        assert_eq!(keyring.verify(""), None);
        assert!(keyring.verify_named("edge", "token-b").is_some());
        assert!(keyring.verify_named("globex/edge", "token-b").is_some());
        assert_eq!(keyring.verify_named("acme/edge", "token-b"), None);
        assert_eq!(keyring.verify_named("wall", "token-b"), None);
    }

    #[test]
    fn a_hash_that_is_none_is_refused() {
        let tenant = TenantId::parse("acme").expect("a tenant");
        for hash in ["", "sha256:12", "md5:00", &format!("sha256:{}", "g".repeat(64))] {
            let entry = KeyEntry {
                name: "k".into(),
                tenant: tenant.clone(),
                role: Role::Admin,
                hash: hash.to_owned(),
            };
            assert!(Keyring::new(vec![entry]).is_err(), "{hash}");
        }
    }
}
