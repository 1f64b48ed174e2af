//! Webhooks: a CloudEvent by HTTP POST, signed as Standard Webhooks has it.
//!
//! Promises: no redirect is followed, so an answer cannot lead elsewhere; a request has ten seconds. 2xx takes it; 408,
//! 425, 429 and 5xx are tried again; every other status refuses it for good. The signature is over
//! `id.timestamp.body`, so that a receiver can tell who sent it and when.

use std::{path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use ureq::Agent;

use super::{deliver::Failed, message::cloud_event, notice::Notice};
use crate::{clock, outbound};

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Webhook {
    url: String,
    secret: Option<Vec<u8>>,
    agent: Agent,
}

impl Webhook {
    pub(super) fn new(url: &str, secret: Option<Vec<u8>>, ca: Option<&Path>) -> Result<Self, String> {
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err("url does not begin with https:// or http://".into());
        }
        let agent = outbound::agent(ca, None, TIMEOUT)?;
        Ok(Self {
            url: url.to_owned(),
            secret,
            agent,
        })
    }

    pub(super) async fn carry(&self, notice: &Notice) -> Result<(), Failed> {
        let (id, body) = (notice.id(), cloud_event(notice));
        let timestamp = clock::now().ms() / 1_000;
        let signature = self
            .secret
            .as_deref()
            .map(|secret| sign(secret, &id, timestamp, &body));
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let sent = tokio::task::spawn_blocking(move || {
            let mut request = agent
                .post(&url)
                .header("content-type", "application/cloudevents+json; charset=utf-8")
                .header("webhook-id", &id)
                .header("webhook-timestamp", timestamp.to_string());
            if let Some(signature) = signature {
                request = request.header("webhook-signature", signature);
            }
            request.send(&body[..]).map(|answer| answer.status().as_u16())
        });
        match sent.await {
            Ok(Ok(status)) if (200..300).contains(&status) => Ok(()),
            Ok(Ok(status @ (408 | 425 | 429 | 500..))) => Err(Failed::Again(format!("it answered {status}"))),
            Ok(Ok(status)) => Err(Failed::Refused(format!("it answered {status}"))),
            Ok(Err(problem)) => Err(Failed::Again(problem.to_string())),
            Err(panicked) => Err(Failed::Again(panicked.to_string())),
        }
    }
}

/// `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.
fn sign(secret: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification (standardwebhooks.com, "Signature scheme").
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .unwrap_or_default();
        let signature = sign(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
