//! `[[notify]]`: who is told what becomes of alarms.
//!
//! Promises: a destination that cannot work is refused before anything starts; a secret comes from a file, a variable
//! or the file itself, and is never shown.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use gemba_runtime::notify::{Destination, Means};
use gemba_twins::{
    alarm::{AlarmWhat, Priority},
    id::check_id,
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, tenant, value_error};

/// Longest name of a destination.
const NAME_MAX: usize = 64;
const QUEUE_MAX: usize = 10_000;

/// A destination as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notify {
    name: String,
    kind: String,
    url: String,
    #[serde(default)]
    tenants: Vec<String>,
    #[serde(default)]
    priorities: Vec<String>,
    on: Option<Vec<String>>,
    queue_max: Option<usize>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    ca: Option<PathBuf>,
    client_id: Option<String>,
    topic: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
}

/// The destinations, checked.
pub(super) fn destinations(written: &[Notify]) -> Result<Vec<Destination>, ConfigError> {
    let mut all: Vec<Destination> = Vec::new();
    for notify in written {
        if all.iter().any(|known| known.name == notify.name) {
            let detail = format!("{:?} occurs a second time", notify.name);
            return Err(value_error("notify.name", detail));
        }
        all.push(notify.destination()?);
    }
    Ok(all)
}

impl Notify {
    fn destination(&self) -> Result<Destination, ConfigError> {
        check_id("notify.name", &self.name, NAME_MAX).map_err(|error| value_error("notify.name", error))?;
        let priority = |word: &String| {
            Priority::parse(word).ok_or_else(|| {
                value_error(
                    "notify.priorities",
                    format!("{word:?} is none of low, medium, high, urgent"),
                )
            })
        };
        let what = |word: &str| {
            (0..)
                .map_while(|number| AlarmWhat::from_number(number + 1))
                .find(|what| what.as_str() == word)
                .ok_or_else(|| {
                    let known: Vec<&str> = (0..)
                        .map_while(|number| AlarmWhat::from_number(number + 1))
                        .map(AlarmWhat::as_str)
                        .collect();
                    value_error("notify.on", format!("{word:?} is none of {}", known.join(", ")))
                })
        };
        let on = match &self.on {
            None => vec![AlarmWhat::Raised, AlarmWhat::Returned, AlarmWhat::Acknowledged],
            Some(words) => words.iter().map(|word| what(word)).collect::<Result<_, _>>()?,
        };
        let queue_max = self.queue_max.unwrap_or(QUEUE_MAX);
        if queue_max == 0 {
            return Err(value_error("notify.queue_max", "it has to be at least 1"));
        }
        Ok(Destination {
            name: self.name.clone(),
            means: self.means()?,
            tenants: self
                .tenants
                .iter()
                .map(|text| tenant("notify.tenants", text))
                .collect::<Result<_, _>>()?,
            priorities: self.priorities.iter().map(priority).collect::<Result<_, _>>()?,
            on,
            queue_max,
        })
    }

    fn means(&self) -> Result<Means, ConfigError> {
        Ok(match self.kind.as_str() {
            "webhook" => Means::Webhook {
                url: self.url.clone(),
                secret: self.secret()?,
                ca: self.ca.clone(),
            },
            "mqtt" => Means::Mqtt {
                url: self.url.clone(),
                client_id: self
                    .client_id
                    .clone()
                    .unwrap_or_else(|| format!("gemba-notify-{}", self.name)),
                topic: self
                    .topic
                    .clone()
                    .unwrap_or_else(|| "gemba/v1/{tenant}/alarms/{kind}/{twin}/{rule}".into()),
                ca: self.ca.clone(),
            },
            "smtp" => Means::Mail {
                url: self.url.clone(),
                password: self.secret_text()?,
                from: self.from.clone().ok_or_else(|| {
                    value_error("notify.from", "a mail needs one, such as gemba@plant.example")
                })?,
                to: self.to.clone(),
                ca: self.ca.clone(),
            },
            other => {
                return Err(value_error(
                    "notify.kind",
                    format!("{other:?} is none of webhook, mqtt, smtp"),
                ));
            }
        })
    }

    /// What signs a webhook.
    fn secret(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(text) = self.secret_text()? else {
            return Ok(None);
        };
        match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map(Some)
                .map_err(|_| value_error("notify.secret", "what follows whsec_ is not base64")),
            None => Ok(Some(text.into_bytes())),
        }
    }

    /// From the file, from where the file says, or not at all.
    fn secret_text(&self) -> Result<Option<String>, ConfigError> {
        let given = [
            self.secret.is_some(),
            self.secret_file.is_some(),
            self.secret_env.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            let detail = "only one of secret, secret_file and secret_env can be given";
            return Err(value_error("notify.secret", detail));
        }
        let text = match (&self.secret, &self.secret_file, &self.secret_env) {
            (Some(text), ..) => text.clone(),
            (_, Some(file), _) => std::fs::read_to_string(file)
                .map_err(|error| value_error("notify.secret_file", format!("{}: {error}", file.display())))?,
            (.., Some(name)) => std::env::var(name)
                .map_err(|_| value_error("notify.secret_env", format!("the variable {name} is not set")))?,
            _ => return Ok(None),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(value_error("notify.secret", "it is empty"));
        }
        Ok(Some(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};

    fn of(toml: &str) -> Result<Vec<Destination>, String> {
        let mut layers = Layers::defaults();
        layers
            .file("gemba.toml", toml)
            .map_err(|error| error.to_string())?;
        let shown = format!("{:?}", layers.shown());
        assert!(!shown.contains("s3cret"), "{shown}");
        Config::of(&layers)
            .map(|config| config.node.notify)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn destinations_are_read_and_their_secrets_are_not_shown() {
        let all = of(r#"
[[notify]]
name = "hook"
kind = "webhook"
url = "https://u:s3cret@hooks.example/x"
secret = "whsec_czNjcmV0"
priorities = ["urgent"]
tenants = ["acme"]
[[notify]]
name = "broker"
kind = "mqtt"
url = "mqtt://u:s3cret@broker.example"
on = ["raised"]
"#)
        .expect("valid");
        assert_eq!(all.len(), 2);
        let Means::Webhook { secret, .. } = &all[0].means else {
            panic!("a webhook")
        };
        assert_eq!(secret.as_deref(), Some(&b"s3cret"[..]));
        assert_eq!(all[1].on, [AlarmWhat::Raised]);
        assert!(!format!("{all:?}").contains("s3cret"));
    }

    #[test]
    fn a_destination_that_cannot_work_names_its_key() {
        let with = |rest: &str| format!("[[notify]]\nname = \"a\"\nurl = \"http://x\"\n{rest}");
        for (toml, key) in [
            (with("kind = \"pigeon\"\n"), "notify.kind"),
            (
                with("kind = \"webhook\"\npriorities = [\"hot\"]\n"),
                "notify.priorities",
            ),
            (with("kind = \"webhook\"\non = [\"riased\"]\n"), "notify.on"),
            (
                with("kind = \"webhook\"\nsecret_env = \"GEMBA_TEST_NOT_SET\"\n"),
                "notify.secret_env",
            ),
            (with("kind = \"webhook\"\nqueue_max = 0\n"), "notify.queue_max"),
            (with("kind = \"webhook\"\nfrm = \"x\"\n"), "frm"),
            (format!("{0}{0}", with("kind = \"webhook\"\n")), "notify.name"),
        ] {
            let refused = of(&toml).expect_err(key);
            assert!(refused.contains(key), "{refused}");
        }
    }
}
