//! One health check each: carried out once, told as an [`Outcome`](crate::health::Outcome).
//!
//! In: what to probe. Out: whether it passed, and if not why. A probe never counts failures, never
//! decides when to try again and never touches a table.

pub mod reply;
pub mod tcp;

use crate::config::model::Probe;
use crate::health::Outcome;

/// Carries out a probe. It ends within the probe's own time limit.
pub async fn run(probe: &Probe) -> Outcome {
    match probe {
        Probe::Tcp(connection) => tcp::run(connection).await,
        Probe::Http(_)
        | Probe::Smtp(_)
        | Probe::Dns(_)
        | Probe::Udp(_)
        | Probe::Ping(_)
        | Probe::Misc(_)
        | Probe::File(_) => {
            Outcome::Inconclusive(format!("{} does not exist in this version", probe.name()))
        }
    }
}
