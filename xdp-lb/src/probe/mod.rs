//! One health check each: carried out once, told as an [`Outcome`](crate::health::Outcome).
//!
//! In: what to probe. Out: whether it passed, and if not why. A probe never counts failures, never
//! decides when to try again and never touches a table.

mod socket;
mod source;

pub mod connect;
pub mod tcp;

pub mod tls;

pub mod http;

pub mod smtp;

mod exchange;

pub mod dns;
pub mod ping;

pub mod reply;
pub mod udp;

pub mod misc;

pub mod file;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::config::model::{Config, Probe, TrackFile};
use crate::health::{Failure, Outcome};
use crate::sys::command::resolve::Resolver;
use source::Sources;

/// What probes need beside their own settings.
#[derive(Debug)]
pub struct Context {
    /// How `SSL_GET` shakes hands, or why it cannot.
    pub(crate) tls: Result<Arc<ClientConfig>, String>,
    /// The name of this host in the HELO of a `SMTP_CHECK` that has none of its own.
    pub(crate) helo: String,
    /// Finds the commands of `MISC_CHECK`.
    pub(crate) commands: Resolver,
    /// The files of `FILE_CHECK`, by their names.
    pub(crate) files: BTreeMap<String, TrackFile>,
    /// Where they come from without `bindto`.
    pub(crate) sources: Sources,
}

impl Context {
    /// For the probes of a configuration. Reads the files that its `SSL` block names, the name of the
    /// host and the environment.
    pub fn new(config: &Config) -> Self {
        let tls = tls::client(&config.ssl);
        let host = || {
            let host = nix::unistd::gethostname().unwrap_or_default();
            host.to_string_lossy().into_owned()
        };
        let files = config.track_files.iter();
        Self {
            tls: tls.map(Arc::new).map_err(|error| error.to_string()),
            helo: config.global.mail.helo_name.clone().unwrap_or_else(host),
            commands: Resolver::new(config.global.script_user.clone()),
            files: files
                .map(|file| (file.name.clone(), file.clone()))
                .collect(),
            sources: Sources::other_than(config.shared_vips()),
        }
    }
}

/// Carries out a probe. It ends within the probe's own time limits.
///
/// Thousands may be under way at once, most of them of the small kinds: the others have their room on
/// the heap.
pub async fn run(probe: &Probe, context: &Context) -> Outcome {
    match probe {
        Probe::Tcp(connection) => tcp::run(connection, context).await,
        Probe::Http(http) => Box::pin(http::run(http, context)).await,
        Probe::Smtp(smtp) => Box::pin(smtp::run(smtp, context)).await,
        Probe::Dns(dns) => Box::pin(dns::run(dns, context)).await,
        Probe::Udp(udp) => Box::pin(udp::run(udp, context)).await,
        Probe::Ping(connection) => Box::pin(ping::run(connection, context)).await,
        Probe::Misc(misc) => Box::pin(misc::run(misc, context)).await,
        Probe::File(file) => Box::pin(file::run(file, context)).await,
    }
}

/// The server did not do what it should.
fn failed(why: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure::Other(why.into()))
}

/// A time as messages have it.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// The beginning of what a server said, fit for a log.
fn excerpt(said: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = said.trim_ascii_end();
    let shown = text.get(..LONGEST).unwrap_or(text).escape_ascii();
    format!("{shown}{}", if text.len() > LONGEST { "…" } else { "" })
}

/// Bytes of [`random`].
const RANDOM: usize = 32;

/// Bytes that nobody who does not see them can tell, other ones each time.
fn random() -> [u8; RANDOM] {
    let mut bytes = [0; RANDOM];
    let state = RandomState::new();
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&state.hash_one(at).to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::model::Connection;

    #[test]
    fn a_probe_under_way_is_small() {
        let target = SocketAddr::from(([10, 0, 0, 1], 80));
        let probe = Probe::Tcp(Connection::to(target, Duration::from_secs(1)));
        let context = Context::new(&Config::default());
        let size = size_of_val(&run(&probe, &context));
        assert!(size <= 1024, "{size}");
    }
}
