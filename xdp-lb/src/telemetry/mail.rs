//! Mail about what happened (`notification_email`, `smtp_alert`), as keepalived sends it: by plain SMTP
//! to the server of the configuration.
//!
//! Nobody who has something to say waits: mails go through a bounded queue to one task, which tries
//! again for a bounded time when the server does not take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lettre::address::AddressError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Mails that wait; more are dropped.
const QUEUE: usize = 64;
/// How long an attempt may take in all, in `smtp_connect_timeout`s: one is for the connection.
const LIMITS: u32 = 2;

/// Where mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's host name or address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// Who it is from.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// The name this host greets the server by.
    pub helo: String,
    /// `smtp_connect_timeout`.
    pub timeout: Duration,
}

/// How often a mail is tried when the server cannot be reached or asks for patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// From the first to the second; each pause after that is twice as long.
    pub pause: Duration,
}

impl Default for Retry {
    /// Six within some five minutes.
    fn default() -> Self {
        Self {
            attempts: 6,
            pause: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// The pause after attempt `n`, counted from 1; `None` after the last one.
    fn after(self, n: u32) -> Option<Duration> {
        let doubled = n.checked_sub(1).and_then(|n| 2_u32.checked_pow(n));
        let pause = self.pause.checked_mul(doubled?)?;
        (n < self.attempts).then_some(pause)
    }
}

/// Why no mail can be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("'{address}' is no mail address: {source}")]
    Address {
        /// What was written.
        address: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// The text cannot be part of a mail.
    #[error("cannot write a mail '{subject}': {source}")]
    Message {
        /// Its subject.
        subject: String,
        /// The reason.
        source: lettre::error::Error,
    },
}

/// Subject of the mail about an instance: scripts read it, so it is keepalived's to the letter.
pub fn instance_subject(router_id: &str, name: &str, state: &str) -> String {
    format!("[{router_id}] VRRP Instance {name} - Entering {state} state")
}

/// Subject of the mail about a sync group.
pub fn group_subject(router_id: &str, name: &str, state: &str) -> String {
    format!("[{router_id}] VRRP Group {name} - Entering {state} state")
}

/// Subject of the mail about a real server.
pub fn server_subject(router_id: &str, server: &str, service: &str, state: &str) -> String {
    format!("[{router_id}] Realserver {server} of virtual server {service} - {state}")
}

/// Subject of the mail about the quorum of a virtual server.
pub fn service_subject(router_id: &str, service: &str, state: &str) -> String {
    format!("[{router_id}] Virtualserver {service} - {state}")
}

/// Sends mail.
#[derive(Debug)]
pub struct Mailer {
    template: MessageBuilder,
    queue: mpsc::Sender<Mail>,
    dropped: Arc<AtomicU64>,
    worker: JoinHandle<()>,
}

#[derive(Debug)]
struct Mail {
    subject: String,
    message: Message,
}

impl Mailer {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// An address that is none.
    pub fn start(settings: &Settings, retry: Retry) -> Result<Self, Error> {
        let template = template(settings)?;
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.server)
            .port(settings.port)
            .hello_name(ClientId::Domain(settings.helo.clone()))
            .timeout(Some(settings.timeout))
            .build();
        let (queue, mails) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            transport,
            server: format!("{}:{}", settings.server, settings.port),
            limit: settings.timeout * LIMITS,
            retry,
            dropped: Arc::clone(&dropped),
        };
        Ok(Self {
            template,
            queue,
            dropped,
            worker: tokio::spawn(worker.run(mails)),
        })
    }

    /// Queues a mail, dated now; from any thread, and never waits. When the queue is full the mail is
    /// dropped.
    ///
    /// # Errors
    ///
    /// A text that cannot be part of a mail.
    pub fn send(&self, subject: String, body: String) -> Result<(), Error> {
        let message = self.template.clone().date_now().subject(subject.clone());
        let message = message.body(body);
        let message = message.map_err(|source| Error::Message {
            subject: subject.clone(),
            source,
        })?;
        if let Err(full) = self.queue.try_send(Mail { subject, message }) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            let subject = full.into_inner().subject;
            tracing::warn!("too many mails wait for the server: '{subject}' is not sent");
        }
        Ok(())
    }

    /// Mails that were not sent.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what is queued is sent or given up, `limit` at most.
    pub async fn finish(self, limit: Duration) {
        let Self {
            queue, mut worker, ..
        } = self;
        drop(queue);
        if timeout(limit, &mut worker).await.is_err() {
            tracing::warn!("mail could not be sent within {limit:?} and is given up");
            worker.abort();
        }
    }
}

/// All that mails have in common.
fn template(settings: &Settings) -> Result<MessageBuilder, Error> {
    let mut template = Message::builder().from(mailbox(&settings.from)?);
    for address in &settings.to {
        template = template.to(mailbox(address)?);
    }
    let mailer = format!("xdp-lb {}", env!("CARGO_PKG_VERSION"));
    let name = HeaderName::new_from_ascii_str("X-Mailer");
    Ok(template
        .raw_header(HeaderValue::new(name, mailer))
        .header(ContentType::TEXT_PLAIN))
}

fn mailbox(address: &str) -> Result<Mailbox, Error> {
    address.parse().map_err(|source| Error::Address {
        address: address.to_owned(),
        source,
    })
}

struct Worker {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
    limit: Duration,
    retry: Retry,
    dropped: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self, mut mails: mpsc::Receiver<Mail>) {
        while let Some(mail) = mails.recv().await {
            self.deliver(mail).await;
        }
    }

    async fn deliver(&self, mail: Mail) {
        let mut attempt = 1;
        loop {
            let Err((reason, is_final)) = self.attempt(&mail.message).await else {
                return;
            };
            let pause = self.retry.after(attempt);
            let Some(pause) = pause.filter(|_| !is_final) else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "mail server {}: {reason}; '{}' is not sent",
                    self.server,
                    mail.subject
                );
                return;
            };
            tracing::debug!("mail server {}: {reason}; again in {pause:?}", self.server);
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// Why it was not sent, and whether it never will be.
    async fn attempt(&self, message: &Message) -> Result<(), (String, bool)> {
        let sent = timeout(self.limit, self.transport.send(message.clone())).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err((said(&error), error.is_permanent())),
            Err(_elapsed) => Err((format!("no answer within {:?}", self.limit), false)),
        }
    }
}

/// The error and what it comes from, on one line.
fn said(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_keepalived() {
        assert_eq!(
            instance_subject("LVS_1", "VI", "MASTER"),
            "[LVS_1] VRRP Instance VI - Entering MASTER state"
        );
        assert_eq!(
            group_subject("LVS_1", "G", "BACKUP"),
            "[LVS_1] VRRP Group G - Entering BACKUP state"
        );
    }

    #[test]
    fn pauses_double_and_end() {
        let retry = Retry {
            attempts: 4,
            pause: Duration::from_secs(3),
        };
        let seconds = |n| retry.after(n).map(|pause| pause.as_secs());
        assert_eq!(
            [1, 2, 3, 4, 5].map(seconds),
            [Some(3), Some(6), Some(12), None, None]
        );
        let total: Duration = (1..).map_while(|n| Retry::default().after(n)).sum();
        assert_eq!(total, Duration::from_secs(310));
        let long = Retry {
            attempts: u32::MAX,
            ..retry
        };
        assert_eq!(long.after(100), None);
    }

    #[tokio::test]
    async fn what_is_no_address_is_named() {
        let settings = Settings {
            server: "localhost".to_owned(),
            port: 25,
            from: "keepalived@lb1.example.org".to_owned(),
            to: vec!["root".to_owned()],
            helo: "lb1".to_owned(),
            timeout: Duration::from_secs(1),
        };
        let refused = Mailer::start(&settings, Retry::default()).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("'root' is no mail address: "),
            "{refused}"
        );
    }
}
