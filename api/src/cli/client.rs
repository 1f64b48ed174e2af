//! The commands' own HTTP client: one node, one token, errors as the node words them.

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::Value as Json;

/// Which node is asked.
#[derive(Args, Clone)]
pub(super) struct NodeArgs {
    /// The node
    #[arg(
        long,
        env = "GEMBA_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub(super) url: String,
    /// The API key
    #[arg(long, env = "GEMBA_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) token: Option<String>,
}

/// What a node answered.
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) json: Json,
    /// When to come again, where it is busy.
    pub(super) retry_after_s: u64,
}

impl Told {
    /// The refusal as an error, as the node words it.
    pub(super) fn problem(&self) -> anyhow::Error {
        let text = |name: &str| self.json[name].as_str().unwrap_or_default();
        anyhow!("{} ({} {})", text("detail"), self.status, text("code"))
    }
}

/// Percent-encodes a value for a query.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl NodeArgs {
    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    fn bearer(&self) -> String {
        self.token
            .as_ref()
            .map_or_else(String::new, |token| format!("Bearer {token}"))
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Json> {
        let agent = agent();
        let mut request = agent.get(self.address(path));
        if self.token.is_some() {
            request = request.header("authorization", self.bearer());
        }
        self.answer(request.call())
    }

    /// Bytes, and the value of a header that came with them.
    pub(super) fn bytes(&self, path: &str, header: &str) -> anyhow::Result<(Vec<u8>, Option<String>)> {
        let agent = agent();
        let mut request = agent.get(self.address(path));
        if self.token.is_some() {
            request = request.header("authorization", self.bearer());
        }
        let answered = request.call();
        if answered
            .as_ref()
            .is_ok_and(|answer| !answer.status().is_success())
        {
            self.answer(answered)?;
            return Err(anyhow!("the node answered without bytes"));
        }
        let mut answer =
            answered.with_context(|| format!("failed to reach {} (is the node running?)", self.url))?;
        let value = answer.headers().get(header).and_then(|value| value.to_str().ok());
        let value = value.map(str::to_owned);
        let body = answer.body_mut().with_config().limit(256 << 20).read_to_vec();
        Ok((body.context("the answer broke off")?, value))
    }

    /// All items of a list, page by page, with those of the parameters that are given.
    pub(super) fn list(&self, path: &str, parameters: &[(&str, Option<&str>)]) -> anyhow::Result<Vec<Json>> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut asked = format!("{path}?limit=1000");
            for (name, value) in parameters.iter().chain(&[("cursor", cursor.as_deref())]) {
                if let Some(value) = value {
                    asked.push_str(&format!("&{name}={}", encoded(value)));
                }
            }
            let page = self.get(&asked)?;
            all.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }

    pub(super) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<Json> {
        let agent = agent();
        let address = self.address(path);
        let mut request = if method == "PUT" {
            agent.put(address)
        } else {
            agent.post(address)
        };
        request = request.header("content-type", kind);
        if self.token.is_some() {
            request = request.header("authorization", self.bearer());
        }
        self.answer(request.send(body))
    }

    /// Posts a body and tells the answer as it is, also where it is a refusal; an error where there is none.
    pub(super) fn tell(&self, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<Told> {
        let mut request = agent().post(self.address(path)).header("content-type", kind);
        if self.token.is_some() {
            request = request.header("authorization", self.bearer());
        }
        let mut answer = request
            .send(body)
            .with_context(|| format!("failed to reach {} (is the node running?)", self.url))?;
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer
            .body_mut()
            .read_to_string()
            .context("the answer broke off")?;
        Ok(Told {
            status: answer.status().as_u16(),
            json: serde_json::from_str(&text).unwrap_or_default(),
            retry_after_s: retry_after.unwrap_or(1),
        })
    }

    fn answer(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Json> {
        let mut answer =
            answer.with_context(|| format!("failed to reach {} (is the node running?)", self.url))?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_string()
            .context("the answer broke off")?;
        let json: Json = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(json);
        }
        let detail = json["detail"].as_str().unwrap_or(&text);
        Err(anyhow!(
            "{detail} ({})",
            json["code"].as_str().unwrap_or(status.as_str())
        ))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}
