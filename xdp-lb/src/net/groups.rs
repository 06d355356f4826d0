//! Neighbour entries of multicast groups, so that what is sent to them leaves although the kernel's
//! neighbour table is full.
//!
//! The kernel makes an entry for each group it sends to, and one more than `gc_thresh3` allows is not
//! made: the packet is dropped, and its sender told that it was sent. Permanent entries do not count
//! among those that are limited. Entries that were made here bear keepalived's protocol number, as
//! routes do; a permanent one that does not is somebody else's, and stays as it is.

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use nix::libc::{ENODEV, ENOENT, ENXIO};

use super::Error;
use super::addresses::{Added, name};
use super::netlink::{Netlink, family};
use crate::plan::belongings::KEEPALIVED;
use crate::plan::groups::GroupNeighbour;

/// Sets and removes such entries in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Groups {
    kernel: Netlink,
}

/// Whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There is none, or one that the kernel made and may drop.
    Passing,
    /// A permanent one of an agent.
    Ours,
    /// A permanent one of somebody else.
    Foreign,
}

impl Groups {
    /// Opens a connection to the kernel. Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        Netlink::open().map(|kernel| Self { kernel })
    }

    /// Makes an entry permanent, unless a permanent one is there.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub async fn put(&self, entry: &GroupNeighbour) -> Result<Added, Error> {
        if self.standing(entry).await? != Standing::Passing {
            return Ok(Added::Existed);
        }
        let mut message = bare(entry);
        message.header.state = NeighbourState::Permanent;
        let mac = NeighbourAttribute::LinkLayerAddress(entry.mac().to_vec());
        let protocol = NeighbourAttribute::Protocol(KEEPALIVED.into());
        message.attributes.extend([mac, protocol]);
        let request = RouteNetlinkMessage::NewNeighbour(message);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let what = || operation("keep", entry);
        self.kernel.request(request, flags, what).await?;
        Ok(Added::New)
    }

    /// Removes an entry that an agent made; the kernel makes one when it needs it. One that is gone,
    /// with its interface or without, is no error.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub async fn take(&self, entry: &GroupNeighbour) -> Result<(), Error> {
        if self.standing(entry).await? != Standing::Ours {
            return Ok(());
        }
        let request = RouteNetlinkMessage::DelNeighbour(bare(entry));
        let what = || operation("remove", entry);
        match self.kernel.request(request, NLM_F_ACK, what).await {
            Err(error) if is_gone(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    async fn standing(&self, entry: &GroupNeighbour) -> Result<Standing, Error> {
        let request = RouteNetlinkMessage::GetNeighbour(bare(entry));
        let what = || operation("look up", entry);
        match self.kernel.request(request, 0, what).await {
            Ok(answer) => Ok(answer
                .iter()
                .find_map(|message| match message {
                    RouteNetlinkMessage::NewNeighbour(found) => Some(standing(found)),
                    _ => None,
                })
                .unwrap_or(Standing::Passing)),
            Err(error) if is_gone(&error) => Ok(Standing::Passing),
            Err(error) => Err(error),
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error.errno(), Some(ENOENT | ENODEV | ENXIO))
}

fn standing(found: &NeighbourMessage) -> Standing {
    let ours = NeighbourAttribute::Protocol(KEEPALIVED.into());
    match found.header.state {
        NeighbourState::Permanent if found.attributes.contains(&ours) => Standing::Ours,
        NeighbourState::Permanent => Standing::Foreign,
        _ => Standing::Passing,
    }
}

fn bare(entry: &GroupNeighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(entry.group);
    message.header.ifindex = entry.ifindex;
    message.header.state = NeighbourState::None;
    let destination = NeighbourAttribute::Destination(entry.group.into());
    message.attributes.push(destination);
    message
}

fn operation(verb: &str, entry: &GroupNeighbour) -> String {
    let interface = name(entry.ifindex);
    format!(
        "{verb} the neighbour entry of {} on {interface}",
        entry.group
    )
}
