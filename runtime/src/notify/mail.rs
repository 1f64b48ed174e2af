//! Notifications as mails by SMTP.
//!
//! Promises: one mail for each notice, its `Message-ID` made from the notice's id, so that a repetition is known; taken
//! when the server took it. A password never goes over a connection without TLS, unless the server is this machine. What
//! the server refuses for good (5xx) is left, but for what a person mends at the server: who may log in and send.
//! Line breaks in texts of the plant cannot add a header.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use gemba_twins::event::Value;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        self,
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use url::{Host, Url};

use super::{deliver::Failed, notice::Notice};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest subject, in characters: more is not shown by any mail program.
const SUBJECT_MAX: usize = 150;
/// Replies that say something about the account, not about this mail: RFC 4954 section 6, RFC 3207 section 4.
const ACCOUNT: [u16; 4] = [530, 534, 535, 538];

pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    name: String,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    pub(super) fn new(
        name: &str,
        url: &str,
        password: Option<&str>,
        from: &str,
        to: &[String],
        ca: Option<&Path>,
    ) -> Result<Self, String> {
        if to.is_empty() {
            return Err("to is empty (whom should the mail reach?)".into());
        }
        let mailbox = |key: &str, text: &str| -> Result<Mailbox, String> {
            text.parse()
                .map_err(|error| format!("{key} {text:?} is no mail address ({error})"))
        };
        Ok(Self {
            transport: transport(url, password, ca)?,
            name: name.to_owned(),
            from: mailbox("from", from)?,
            to: to
                .iter()
                .map(|text| mailbox("to", text))
                .collect::<Result<_, _>>()?,
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message, lettre::error::Error> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(notice.change.at.ms().max(0) as u64);
        let mut mail = Message::builder()
            .from(self.from.clone())
            .subject(subject(notice))
            .date(at)
            .message_id(Some(format!(
                "<{}.{}@{}>",
                notice.id(),
                self.name,
                self.from.email.domain()
            )))
            .user_agent(concat!("gemba/", env!("CARGO_PKG_VERSION")).to_owned())
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        mail.body(body(notice))
    }

    pub(super) async fn carry(&self, notice: &Notice) -> Result<(), Failed> {
        let mail = self
            .message(notice)
            .map_err(|error| Failed::Refused(error.to_string()))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) if is_final(&error) => Err(Failed::Refused(full(&error))),
            Err(error) => Err(Failed::Again(full(&error))),
        }
    }
}

fn transport(
    url: &str,
    password: Option<&str>,
    ca: Option<&Path>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let parsed = Url::parse(url).map_err(|error| format!("url: {error}"))?;
    // The host as a name or an address; that of a scheme which `Url` does not know is always a name to it.
    let host = match parsed.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err("url names no host (such as smtps://mail.plant:465)".into()),
    };
    if parsed.query().is_some() || !matches!(parsed.path(), "" | "/") {
        return Err("url has more than a host and a port".into());
    }
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let parameters = || -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(host.clone());
        if let Some(file) = ca {
            let unreadable = |error: &dyn std::fmt::Display| format!("ca {}: {error}", file.display());
            let pem = fs::read(file).map_err(|error| unreadable(&error))?;
            let certificate = Certificate::from_pem(&pem).map_err(|error| unreadable(&error))?;
            builder = builder
                .certificate_store(CertificateStore::None)
                .add_root_certificate(certificate);
        }
        builder.build_rustls().map_err(|error| full(&error))
    };
    let (tls, port) = match parsed.scheme() {
        "smtps" => (Tls::Wrapper(parameters()?), smtp::SUBMISSIONS_PORT),
        "smtp" if is_here && ca.is_none() => (Tls::None, smtp::SMTP_PORT),
        "smtp" => (Tls::Required(parameters()?), smtp::SUBMISSION_PORT),
        other => {
            return Err(format!(
                "url begins with {other}://, not with smtps:// or smtp://"
            ));
        }
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
        .port(parsed.port().unwrap_or(port))
        .tls(tls)
        .timeout(Some(TIMEOUT));
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    match (
        parsed.username(),
        password.map(str::to_owned).or(parsed.password().map(decoded)),
    ) {
        ("", None) => {}
        ("", Some(_)) => return Err("there is a password, but no user in the url".into()),
        (_, None) => return Err("the url names a user, but there is no password (secret_file?)".into()),
        (user, Some(password)) => builder = builder.credentials(Credentials::new(decoded(user), password)),
    }
    Ok(builder.build())
}

/// Whether a mail was refused for what it is.
fn is_final(error: &smtp::Error) -> bool {
    let code = error.status().map(u16::from);
    error.is_permanent() && !code.is_some_and(|code| ACCOUNT.contains(&code))
}

/// An error with what led to it.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// `[high] raised: Too hot (machine/cnc-07)`, on one line.
fn subject(notice: &Notice) -> String {
    let change = &notice.change;
    format!(
        "[{}] {}: {} ({}/{})",
        change.priority.as_str(),
        change.what.as_str(),
        change.text,
        notice.twin.kind(),
        notice.twin.id()
    )
    .chars()
    .map(|c| if c.is_control() { ' ' } else { c })
    .take(SUBJECT_MAX)
    .collect()
}

fn body(notice: &Notice) -> String {
    let change = &notice.change;
    let value = change.value.as_ref().map(|value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.to_string(),
        Value::Bool(yes) => yes.to_string(),
    });
    let lines = [
        ("What", Some(change.what.as_str().to_owned())),
        ("Alarm", Some(notice.alarm())),
        ("Twin", Some(notice.twin.to_string())),
        ("Priority", Some(change.priority.as_str().to_owned())),
        ("State", Some(change.state.as_str().replace('_', " "))),
        ("Value", value),
        ("At", Some(change.at.to_string())),
        ("By", change.by.as_deref().map(str::to_owned)),
        ("Comment", change.comment.as_deref().map(str::to_owned)),
        ("Id", Some(notice.id())),
    ];
    let mut text = format!("{}\n\n", change.text);
    for (name, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("{:<9} {value}\n", format!("{name}:")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, password: Option<&str>, to: &str) -> String {
        let made = Mail::new("a", url, password, "gemba@plant.example", &[to.to_owned()], None);
        made.err().unwrap_or_default()
    }

    #[test]
    fn a_destination_that_cannot_work_is_refused_with_the_mend() {
        for (url, password, to, word) in [
            ("http://mail.plant", None, "a@b.example", "smtps://"),
            ("smtps://", None, "a@b.example", "host"),
            ("smtps://gemba@mail.plant", None, "a@b.example", "password"),
            ("smtps://mail.plant", Some("x"), "a@b.example", "no user"),
            (
                "smtps://mail.plant?tls=none",
                None,
                "a@b.example",
                "more than a host",
            ),
            ("smtps://mail.plant", None, "nobody", "no mail address"),
        ] {
            let detail = refused(url, password, to);
            assert!(detail.contains(word), "{url}: {detail:?} does not say {word}");
        }
        let nobody = Mail::new("a", "smtps://mail.plant", None, "gemba@plant.example", &[], None);
        assert!(nobody.is_err());
    }
}
