//! One health check each: carried out once, told as an [`Outcome`](crate::health::Outcome).
//!
//! In: what to probe. Out: whether it passed, and if not why. A probe never counts failures, never
//! decides when to try again and never touches a table.

pub mod connect;
pub mod http;
pub mod reply;
pub mod tcp;
pub mod tls;

use std::sync::Arc;

use rustls::ClientConfig;

use crate::config::model::{Config, Probe};
use crate::health::{Failure, Outcome};

/// What probes need beside their own settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// How `SSL_GET` shakes hands, or why it cannot.
    pub(crate) tls: Result<Arc<ClientConfig>, String>,
}

impl Context {
    /// For the probes of a configuration. Reads the files that its `SSL` block names.
    pub fn new(config: &Config) -> Self {
        let tls = tls::client(&config.ssl);
        Self {
            tls: tls.map(Arc::new).map_err(|error| error.to_string()),
        }
    }
}

/// Carries out a probe. It ends within the probe's own time limits.
pub async fn run(probe: &Probe, context: &Context) -> Outcome {
    match probe {
        Probe::Tcp(connection) => tcp::run(connection).await,
        Probe::Http(http) => http::run(http, context).await,
        Probe::Smtp(_)
        | Probe::Dns(_)
        | Probe::Udp(_)
        | Probe::Ping(_)
        | Probe::Misc(_)
        | Probe::File(_) => {
            Outcome::Inconclusive(format!("{} does not exist in this version", probe.name()))
        }
    }
}

/// The server did not do what it should.
fn failed(why: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure::Other(why.into()))
}
