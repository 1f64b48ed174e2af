//! Notifications as mail, by SMTP.
//!
//! Promises: a mail is taken when the server says so; what the server refuses for good (5xx) is not sent again. TLS by
//! rustls, with whom the system trusts; `smtp://` is without TLS unless the URL says `?tls=required`.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};

use super::{deliver::Failed, message::mail, notice::Notice};

const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    pub(super) fn new(url: &str, from: &str, to: &[String]) -> Result<Self, String> {
        let address = |text: &str| {
            text.parse::<Mailbox>()
                .map_err(|error| format!("{text:?} is no address: {error}"))
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url);
        let builder = builder.map_err(|_| {
            // The error may hold the URL, and the URL a password.
            "url is none of smtps://user:password@host:465 and smtp://host:25".to_owned()
        })?;
        if to.is_empty() {
            return Err("to names nobody".into());
        }
        Ok(Self {
            transport: builder.timeout(Some(TIMEOUT)).build(),
            from: address(from)?,
            to: to.iter().map(|to| address(to)).collect::<Result<_, _>>()?,
        })
    }

    pub(super) async fn carry(&self, notice: &Notice) -> Result<(), Failed> {
        let (subject, text) = mail(notice);
        let host = self.from.email.domain();
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            // A repetition is the same message to whoever sorts mail.
            .message_id(Some(format!("<{}@{host}>", notice.id())));
        for to in &self.to {
            message = message.to(to.clone());
        }
        let message = message
            .body(text)
            .map_err(|error| Failed::Refused(error.to_string()))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(Failed::Refused(error.to_string())),
            Err(error) => Err(Failed::Again(error.to_string())),
        }
    }
}
