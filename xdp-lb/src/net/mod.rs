//! The network around this host, through the kernel: links, addresses, neighbours, routes, and what
//! tells the segment where a VIP is now.
//!
//! What comes in: the addresses of the real servers ([`watch`]), VIPs to add, remove and announce
//! ([`addresses`], [`announce`]), what belongs to them ([`routes`], [`vmac`], [`silence`], [`names`], [`groups`]), what an interface
//! is and whether native XDP reaches it ([`link`]), interfaces that
//! are to leave VLAN tags on frames ([`offload`]), adverts to send
//! ([`vrrp_socket`]), packets that must not come from a VIP ([`source`]). What goes out: [`crate::plan::table::Network`], kept true by one
//! task. Its decisions are in [`view`], which is pure; `netlink` speaks to the kernel. Nothing here
//! knows of services, health or VRRP, and no packet to a real server is ever made here: the kernel's
//! own neighbour table resolves them.

pub mod view;
pub mod watch;

pub mod addresses;
pub mod announce;
pub mod groups;
pub mod link;
pub mod names;
pub mod offload;
pub mod routes;
pub mod silence;
pub mod source;
pub mod vmac;
pub mod vrrp_socket;

mod batch;
pub(crate) mod netlink;
mod sorts;
mod wire;

use std::io;
use std::path::PathBuf;

/// Why the kernel could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel answered with an error.
    #[error("cannot {operation}: {source}")]
    Refused {
        /// What was asked, as the object of "cannot".
        operation: String,
        /// The kernel's errno.
        source: io::Error,
    },
    /// The connection to the kernel broke, or it did not answer in time.
    #[error("cannot {operation}: the kernel did not answer")]
    NoAnswer {
        /// What was asked, as the object of "cannot".
        operation: String,
    },
    /// There is no such interface (any more).
    #[error("there is no interface with index {0}")]
    NoInterface(u32),
    /// The interface cannot carry Ethernet frames.
    #[error("interface {0} is no Ethernet interface: no address can be announced on it")]
    NotEthernet(String),
    /// A packet socket could not be opened or written to.
    #[error("cannot announce a VIP on {interface}: {source}")]
    Send {
        /// The interface's name.
        interface: String,
        /// The reason.
        source: io::Error,
    },
    /// A setting of the kernel could not be read or written.
    #[error("cannot set {path}: {source}")]
    Setting {
        /// Its file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's errno, if it answered with one.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Open(_)
            | Self::NoAnswer { .. }
            | Self::NoInterface(_)
            | Self::NotEthernet(_)
            | Self::Send { .. }
            | Self::Setting { .. } => None,
        }
    }
}
