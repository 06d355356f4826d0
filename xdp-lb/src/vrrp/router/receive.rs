//! Is a datagram an advert that this router should listen to? And what is odd about it?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use subtle::ConstantTimeEq as _;

use super::super::packet::message::{Decoded, decode};
use super::super::packet::refusal::Kind;
use super::super::packet::{Advert, Datagram, HOPS, Refusal, Refused, hmac::Authenticator};
use super::super::settings::{Auth, Settings, Transport};
use super::super::{Priority, Version, Wall};
use super::event::Event;
use super::stats::{LastRefused, Stats};
use crate::machine::Now;

/// How often people read the same thing at most.
const QUIET: Duration = Duration::from_mins(1);
/// Senders whose oddities are remembered; more than that on one link are not an oversight.
const SENDERS: usize = 16;

/// What a line in the journal is about, for the purpose of not repeating it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Refused(Kind),
    OtherMaster,
}

/// The receiving side of a router.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    authenticator: Option<Authenticator>,
    /// When something was said last, and how often it was not since.
    said: BTreeMap<Topic, (Now, u64)>,
    /// Senders of other addresses, and of other intervals.
    odd_addresses: BTreeSet<IpAddr>,
    odd_intervals: BTreeSet<IpAddr>,
}

impl Receiver {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            authenticator: settings.hmac.clone().map(Authenticator::new),
            said: BTreeMap::new(),
            odd_addresses: BTreeSet::new(),
            odd_intervals: BTreeSet::new(),
        }
    }

    /// What was said of the old settings may be said again of the new ones.
    pub(super) fn reconfigure(&mut self, settings: &Settings) {
        let old = self.authenticator.take();
        *self = Self::new(settings);
        if let (Some(mut old), Some(hmac)) = (old, settings.hmac.clone()) {
            old.reconfigure(hmac);
            self.authenticator = Some(old);
        }
    }

    pub(super) fn authenticator(&mut self) -> Option<&mut Authenticator> {
        self.authenticator.as_mut()
    }

    /// The advert, if this router should listen to it.
    pub(super) fn check(
        &mut self,
        settings: &Settings,
        datagram: &Datagram,
        wall: Wall,
    ) -> Result<Advert, Refusal> {
        check_way(settings, datagram)?;
        let Decoded {
            advert,
            auth_type,
            trailer,
        } = decode(datagram)?;
        check_identity(settings, &advert)?;
        check_auth(settings, auth_type, advert.auth)?;
        match &mut self.authenticator {
            Some(authenticator) => {
                let (message, source) = (&datagram.message, datagram.source);
                authenticator.verify(message, trailer, source, advert.interval, wall)?;
            }
            None if trailer.is_some() => return Err(Refusal::HmacUnexpected),
            None => {}
        }
        Ok(advert)
    }

    /// Counts a refusal; says so once in a while.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        refused: Refused,
        stats: &mut Stats,
    ) -> Option<Event> {
        let kind = refused.reason.kind();
        *stats.refused.entry(kind).or_default() += 1;
        let last = LastRefused {
            refused: refused.clone(),
            at: now,
        };
        stats.last_refused.insert(kind, last);
        let more = self.may_say(now, Topic::Refused(kind))?;
        Some(Event::Refused { refused, more })
    }

    /// Another master, and a worse one.
    pub(super) fn other_master(
        &mut self,
        now: Now,
        from: IpAddr,
        (theirs, own): (Priority, Priority),
    ) -> Option<Event> {
        let more = self.may_say(now, Topic::OtherMaster)?;
        Some(Event::OtherMaster {
            from,
            theirs,
            own,
            more,
        })
    }

    /// How many were not said since the last; `None`: this one is not said either.
    fn may_say(&mut self, now: Now, topic: Topic) -> Option<u64> {
        match self.said.get_mut(&topic) {
            Some((last, more)) if last.until(now) < QUIET => {
                *more += 1;
                None
            }
            Some((last, more)) => {
                *last = now;
                Some(std::mem::take(more))
            }
            None => {
                self.said.insert(topic, (now, 0));
                Some(0)
            }
        }
    }

    /// What is odd about an advert that is accepted: counted each time, said once per sender until it
    /// is as it should be (RFC 9568 section 7.1 has it logged, not dropped).
    pub(super) fn remark(
        &mut self,
        settings: &Settings,
        advert: &Advert,
        from: IpAddr,
        stats: &mut Stats,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        if advert.interval == settings.interval {
            self.odd_intervals.remove(&from);
        } else {
            stats.interval_differs += 1;
            if remember(&mut self.odd_intervals, from) {
                let (theirs, own) = (advert.interval, settings.interval);
                events.push(Event::IntervalDiffers { from, theirs, own });
            }
        }
        let is_repeat = stats.last_master.is_some_and(|last| last.from == from);
        if settings.skip_check_adv_addr && is_repeat {
            return events;
        }
        let (unknown, missing) = difference(&advert.addresses, &settings.addresses);
        if unknown.is_empty() && missing.is_empty() {
            self.odd_addresses.remove(&from);
        } else {
            stats.address_list_differs += 1;
            if remember(&mut self.odd_addresses, from) {
                events.push(Event::AddressesDiffer {
                    from,
                    unknown,
                    missing,
                });
            }
        }
        events
    }
}

/// Is it new, and worth remembering?
fn remember(senders: &mut BTreeSet<IpAddr>, from: IpAddr) -> bool {
    senders.len() < SENDERS && senders.insert(from)
}

/// What only one of two lists has.
fn difference(theirs: &[IpAddr], ours: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
    // Nearly always they are equal, in the same order.
    if theirs == ours {
        return (Vec::new(), Vec::new());
    }
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (theirs.iter().collect(), ours.iter().collect());
    let only = |these: &BTreeSet<&IpAddr>, those: &BTreeSet<&IpAddr>| {
        these.difference(those).map(|address| **address).collect()
    };
    (only(&a, &b), only(&b, &a))
}

/// What the IP header says.
fn check_way(settings: &Settings, datagram: &Datagram) -> Result<(), Refusal> {
    let Datagram {
        source,
        destination,
        hops,
        ..
    } = *datagram;
    if source == settings.source {
        return Err(Refusal::OwnPacket);
    }
    let (min, max) = match &settings.transport {
        Transport::Multicast { group } if *group == destination => (HOPS, HOPS),
        Transport::Unicast {
            peers,
            check_source,
        } if !destination.is_multicast() => {
            match peers.iter().find(|peer| peer.address == source) {
                Some(peer) => (peer.min_ttl, peer.max_ttl),
                None if *check_source => return Err(Refusal::NotPeer),
                None => (0, HOPS),
            }
        }
        Transport::Multicast { .. } if !destination.is_multicast() => return Err(Refusal::Unicast),
        Transport::Multicast { .. } | Transport::Unicast { .. } => {
            return Err(Refusal::Multicast { group: destination });
        }
    };
    if (min..=max).contains(&hops) {
        Ok(())
    } else {
        let got = hops;
        Err(Refusal::Ttl { got, min, max })
    }
}

/// Is it about this virtual router?
fn check_identity(settings: &Settings, advert: &Advert) -> Result<(), Refusal> {
    if advert.version != settings.version {
        let (got, want) = (advert.version.number(), Some(settings.version));
        return Err(Refusal::Version { got, want });
    }
    if advert.vrid != settings.vrid {
        let got = advert.vrid.get();
        return Err(Refusal::Vrid { got });
    }
    // A router without addresses of its own (no_virtual_ipaddress) takes others like it.
    if advert.addresses.is_empty() && !settings.addresses.is_empty() {
        return Err(Refusal::VipList);
    }
    Ok(())
}

/// RFC 2338 section 7.1: equal type, equal password.
fn check_auth(settings: &Settings, auth_type: u8, theirs: Auth) -> Result<(), Refusal> {
    let own = match settings.version {
        Version::V2 => settings.auth,
        Version::V3 => Auth::None,
    };
    if auth_type != own.number() {
        let (got, want) = (auth_type, own.number());
        return Err(Refusal::AuthType { got, want });
    }
    match own {
        Auth::Pass(password) if !bool::from(password.ct_eq(&theirs.data())) => {
            Err(Refusal::AuthData)
        }
        Auth::Pass(_) | Auth::None => Ok(()),
    }
}
