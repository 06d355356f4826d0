//! The ordered steps from one [`Desired`] to the next.

use std::net::SocketAddr;

use super::desired::{OwnedAddress, Port, Server, Service};
use crate::config::model::ServiceKey;

/// One step. Between any two of them the tables are sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add an interface, or change its MAC.
    SetPort(u32, Port),
    /// Add a real server, or change how it is reached; it takes part in scheduling only after
    /// [`Change::SetService`].
    SetServer(ServiceKey, Server),
    /// Add a service closed, or publish new settings and a new schedule over servers set before.
    SetService(ServiceKey, Service),
    /// Open or close the gate of a service.
    SetActive(ServiceKey, bool),
    /// Put a VIP on its interface.
    AddAddress(OwnedAddress),
    /// Take a VIP away.
    RemoveAddress(OwnedAddress),
    /// Purge the flows of a server that failed.
    PurgeServer(ServiceKey, SocketAddr),
    /// Forget a server, purging its flows.
    RemoveServer(ServiceKey, SocketAddr),
    /// Forget a service that has no servers left.
    RemoveService(ServiceKey),
    /// Forget an interface.
    RemovePort(u32),
}
