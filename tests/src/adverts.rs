//! Who says to be master: the VRRP adverts that a host on the LAN hears.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::listener::{Listener, tap};
use crate::netns::Netns;
use crate::{stream, wait};

/// IP protocol number and group of VRRP.
const VRRP: i32 = 112;
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Bytes that wait for the listener at a switch.
const TAP_BUFFER: usize = 4 << 20;

/// An advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// When it was heard.
    pub at: Instant,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// For which virtual router.
    pub vrid: u8,
    /// With what priority; 0 means that the sender gives up being master.
    pub priority: u8,
}

/// All adverts heard so far. Dropping it ends the listening.
#[derive(Debug)]
pub struct Adverts {
    listener: Listener<Advert>,
}

impl Adverts {
    /// Listens in `netns`, on the interface with `address`.
    pub fn start(netns: &Netns, address: Ipv4Addr) -> Result<Self> {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(VRRP)))?;
            socket.join_multicast_v4(&GROUP, &address)?;
            std::io::Result::Ok(socket)
        };
        let socket = netns.run(open)?.context("cannot listen for adverts")?;
        Self::listen(socket)
    }

    /// Listens to everything that crosses any port of a switch, also of ports that do not forward. An
    /// advert is heard once for each port it crosses.
    pub fn tap(switch: &Netns) -> Result<Self> {
        Self::listen(tap(switch, TAP_BUFFER)?)
    }

    fn listen(socket: Socket) -> Result<Self> {
        let listener = Listener::start(socket, stream::be_prompt, decode)?;
        Ok(Self { listener })
    }

    /// Every advert since an instant.
    pub fn since(&self, start: Instant) -> Vec<Advert> {
        let heard = self.listener.heard();
        let begin = heard.partition_point(|advert| advert.at < start);
        heard.get(begin..).unwrap_or_default().to_vec()
    }

    /// The last advert of a host before an instant, be it the one that gives up being master.
    pub fn last_of(&self, source: Ipv4Addr, before: Instant) -> Option<Advert> {
        let heard = self.listener.heard();
        let is = |advert: &&Advert| advert.source == source && advert.at < before;
        heard.iter().rev().find(is).copied()
    }

    /// Waits until `source` says to be master, after an instant, and returns when it did first.
    pub fn wait_master(
        &self,
        source: Ipv4Addr,
        after: Instant,
        limit: Duration,
    ) -> Result<Instant> {
        let what = format!("{source} is master");
        let is = |advert: &Advert| advert.source == source && advert.priority > 0;
        wait::until(&what, limit, || {
            Ok(self.since(after).iter().any(is).then_some(()))
        })?;
        let first = self.since(after).into_iter().find(is);
        Ok(first.context(what)?.at)
    }

    /// Waits until `source` has been the only master for some time.
    pub fn wait_only(&self, source: Ipv4Addr, during: Duration, limit: Duration) -> Result<()> {
        let what = format!("{source} is the only master");
        let start = Instant::now();
        wait::until(&what, limit, || {
            let Some(begin) = Instant::now().checked_sub(during) else {
                return Ok(None);
            };
            let recent = self.since(begin.max(start));
            let only = recent
                .iter()
                .all(|advert| advert.source == source || advert.priority == 0);
            Ok((begin >= start && !recent.is_empty() && only).then_some(()))
        })?;
        Ok(())
    }
}

/// Reads source and priority off an IPv4 packet with an advert of version 2 or 3.
fn decode(packet: &[u8]) -> Option<Advert> {
    let &[first, .., protocol] = packet.get(..10)? else {
        return None;
    };
    if first >> 4 != 4 || i32::from(protocol) != VRRP {
        return None;
    }
    let header = usize::from(first & 0x0f) * 4;
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let &[kind, vrid, priority, ..] = packet.get(header..)? else {
        return None;
    };
    // Version in the upper half, type 1 in the lower.
    matches!(kind, 0x21 | 0x31).then(|| Advert {
        at: Instant::now(),
        source: source.into(),
        vrid,
        priority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_and_priority_are_read_off_keepalived_s_packet() {
        // keepalived 2.2.7: version 2, VRID 51, priority 100.
        let packet = [
            0x45, 0xc0, 0, 0x2c, 0, 1, 0, 0, 0xff, 0x70, 0x22, 0x41, 172, 16, 12, 61, 224, 0, 0,
            18, 0x21, 51, 100, 2, 1, 1, 0xa5, 0x4a,
        ];
        let advert = decode(&packet).unwrap();
        assert_eq!(advert.source, Ipv4Addr::new(172, 16, 12, 61));
        assert_eq!((advert.vrid, advert.priority), (51, 100));
        assert_eq!(decode(&packet[..20]), None);
        let mut other = packet;
        other[20] = 0x45;
        assert_eq!(decode(&other), None, "no advert");
        other = packet;
        other[9] = 17;
        assert_eq!(decode(&other), None, "UDP");
    }
}
