//! The sockets of all routers: opened as interfaces and settings want them, and again after a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tracing::{error, info, warn};

use super::settings::Tuning;
use crate::machine::Now;
use crate::net::vrrp_socket::{Error, Listen, Packet, Receiver, Sender};
use crate::plan::table::Network;
use crate::vrrp::group::RouterId;
use crate::vrrp::packet::{Datagram, Refused, ip};
use crate::vrrp::settings::{Settings, Transport};

/// Until a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Packets taken from one socket before the timers are looked after.
const BUDGET: usize = 512;

/// What a receiver listens to. An interface that comes back is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ear {
    /// Of the router.
    interface: String,
    /// What it listens on.
    device: String,
    ifindex: u32,
    address: IpAddr,
    is_group: bool,
    buffer: Option<usize>,
}

/// Where a sender sends from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mouth {
    interface: String,
    ifindex: u32,
    source: IpAddr,
    ttl: u8,
}

/// Sockets that are wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    ears: BTreeSet<Ear>,
    mouths: BTreeMap<RouterId, Mouth>,
}

impl Wanted {
    /// Those of one more router, if its interfaces and its source address are there.
    pub(super) fn add(
        &mut self,
        id: RouterId,
        settings: &Settings,
        tuning: &Tuning,
        network: &Network,
    ) {
        let source = settings.source;
        if source.is_unspecified() {
            return;
        }
        let (address, is_group) = match &settings.transport {
            Transport::Multicast { group } => (*group, true),
            Transport::Unicast { .. } => (source, false),
        };
        if let Some(link) = network.links.get(&tuning.listens_on) {
            self.ears.insert(Ear {
                interface: settings.interface.clone(),
                device: tuning.listens_on.clone(),
                ifindex: link.ifindex,
                address,
                is_group,
                buffer: tuning.buffer,
            });
        }
        if let Some(link) = network.links.get(&tuning.sends_on) {
            let mouth = Mouth {
                interface: tuning.sends_on.clone(),
                ifindex: link.ifindex,
                source,
                ttl: tuning.ttl,
            };
            self.mouths.insert(id, mouth);
        }
    }
}

/// What came in by an interface.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The interface of the routers that it is for.
    pub(super) interface: String,
    /// The one that was listened on.
    pub(super) device: String,
    /// Over IPv6.
    pub(super) is_ipv6: bool,
    /// The packet, or what is wrong with it.
    pub(super) packet: Result<Datagram, Refused>,
}

/// The sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    wanted: Wanted,
    receivers: BTreeMap<Ear, Receiver>,
    senders: BTreeMap<RouterId, (Mouth, Sender)>,
    /// Routers whose last advert could not be sent.
    mute: BTreeSet<RouterId>,
    /// What could not be opened, in words.
    troubles: BTreeSet<String>,
    retry: Option<Now>,
}

impl Sockets {
    /// Opens what is wanted and is not there, closes what is not wanted.
    pub(super) fn align(&mut self, now: Now, wanted: Wanted) {
        self.receivers.retain(|ear, _| wanted.ears.contains(ear));
        self.senders
            .retain(|id, (mouth, _)| wanted.mouths.get(id) == Some(mouth));
        self.mute.retain(|id| wanted.mouths.contains_key(id));
        self.wanted = wanted;
        self.open(now);
    }

    /// Tries again what could not be opened, if it is time.
    pub(super) fn expire(&mut self, now: Now) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.open(now);
        }
    }

    /// When to call [`Self::expire`].
    pub(super) const fn deadline(&self) -> Option<Now> {
        self.retry
    }

    fn open(&mut self, now: Now) {
        let mut troubles = BTreeSet::new();
        for ear in &self.wanted.ears {
            if self.receivers.contains_key(ear) {
                continue;
            }
            match listen(ear) {
                Ok(receiver) => {
                    self.receivers.insert(ear.clone(), receiver);
                }
                Err(reason) => {
                    troubles.insert(reason.to_string());
                }
            }
        }
        for (id, mouth) in &self.wanted.mouths {
            if self.senders.contains_key(id) {
                continue;
            }
            match Sender::open(&mouth.interface, mouth.source, mouth.ttl) {
                Ok(sender) => {
                    self.senders.insert(*id, (mouth.clone(), sender));
                }
                Err(reason) => {
                    troubles.insert(reason.to_string());
                }
            }
        }
        self.retry = (!troubles.is_empty()).then(|| now.after(RETRY));
        for new in troubles.difference(&self.troubles) {
            error!("{new}; trying again");
        }
        self.troubles = troubles;
    }

    /// Takes in what has arrived; whether there may be more.
    pub(super) fn receive(&mut self, now: Now, arrivals: &mut Vec<Arrival>) -> bool {
        let mut more = false;
        let mut broken = Vec::new();
        for (ear, receiver) in &mut self.receivers {
            let drained = receiver.drain(BUDGET, |packet| arrivals.push(arrival(ear, packet)));
            match drained {
                Ok(drained) => more |= drained.more,
                Err(reason) => broken.push((ear.clone(), reason)),
            }
        }
        for (ear, reason) in broken {
            warn!("{reason}; opening another socket");
            self.receivers.remove(&ear);
            self.retry = Some(now.after(RETRY));
        }
        more
    }

    /// Sends an advert. That one cannot be sent is said once, until one can.
    pub(super) fn send(&mut self, id: RouterId, name: &str, advert: &[u8], destination: IpAddr) {
        let Some((_, sender)) = self.senders.get_mut(&id) else {
            return;
        };
        match sender.send(advert, destination) {
            Ok(()) => {
                if self.mute.remove(&id) {
                    info!("{name}: adverts are sent again");
                }
            }
            Err(reason) => {
                if self.mute.insert(id) {
                    warn!("{name}: {reason}; others may take over");
                }
            }
        }
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.receivers.values().map(Receiver::as_fd)
    }
}

fn listen(ear: &Ear) -> Result<Receiver, Error> {
    let listen = if ear.is_group {
        Listen::Group(ear.address)
    } else {
        Listen::Own(ear.address)
    };
    Receiver::open(&ear.device, listen, ear.buffer)
}

fn arrival(ear: &Ear, packet: Packet<'_>) -> Arrival {
    let packet = match packet {
        Packet::V4(bytes) => ip::parse(bytes),
        Packet::V6 {
            payload,
            hop_limit,
            source,
            destination,
        } => Ok(Datagram {
            source: source.into(),
            destination: destination.into(),
            hops: hop_limit,
            message: payload.to_vec(),
        }),
    };
    Arrival {
        interface: ear.interface.clone(),
        device: ear.device.clone(),
        is_ipv6: ear.address.is_ipv6(),
        packet,
    }
}
