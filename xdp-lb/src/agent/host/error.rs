//! Why a director could not start or go on.

use std::io;

use crate::agent::placement::{NoInterface, Useless};
use crate::agent::{run, sync};
use crate::control;
use crate::dataplane;
use crate::net;
use crate::sys::instance;
use crate::sys::{bpffs, clock};
use crate::telemetry::http;

/// Why a director could not start or go on, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No handlers for signals.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// The name is taken, or its folder cannot be used.
    #[error(transparent)]
    Instance(#[from] instance::Error),
    /// There is no BPF file system.
    #[error(transparent)]
    Bpffs(#[from] bpffs::Error),
    /// The kernel's tick rate is not known.
    #[error(transparent)]
    Clock(#[from] clock::Error),
    /// The network cannot be watched.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// An interface does not exist.
    #[error(transparent)]
    Interface(#[from] NoInterface),
    /// An interface is of no use.
    #[error(transparent)]
    Useless(#[from] Useless),
    /// The control socket cannot be served.
    #[error(transparent)]
    Control(#[from] control::server::Error),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] http::Error),
    /// No thread for VRRP.
    #[error("cannot start the VRRP thread: {0}")]
    Thread(#[source] io::Error),
    /// The file that successors read cannot be written.
    #[error("cannot write 'alive' in the folder of this instance: {0}")]
    Alive(#[source] io::Error),
    /// State sync has no key.
    #[error(transparent)]
    SyncKey(#[from] sync::key::Error),
    /// No thread for state sync.
    #[error("cannot start state sync: {0}")]
    Sync(#[source] io::Error),
    /// The packet path refused.
    #[error(transparent)]
    PacketPath(#[from] dataplane::Error),
    /// The agent could not start or go on.
    #[error(transparent)]
    Agent(#[from] run::Error),
}
