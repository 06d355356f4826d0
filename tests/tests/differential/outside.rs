//! What neither tables nor frames say, as it shows in what the program did, or as the kernel was told.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use aya::maps::{Array, MapData};
use xdp_lb::dataplane::memory::{Outside, Routed};
use xdp_lb::dataplane::mmap::MappedArray;
use xdp_lb_common::backend::BackendName;
use xdp_lb_common::conn::State;
use xdp_lb_common::conn::table::PlaceMemory;
use xdp_lb_common::tick::Tick;
use xdp_lb_common::vlan;
use xdp_lb_tests::program::Outcome;

use crate::frames::host_mac;
use crate::routes;
use crate::world::{VIPS, host_ip};

/// Octets that XDP leaves in front of a frame: `XDP_PACKET_HEADROOM` less the kernel's own frame.
const ROOM: usize = 216;

/// What only the program knows, as it shows in what it did.
pub(crate) struct SeenOutside<'a> {
    pub conns: &'a MappedArray<PlaceMemory>,
    pub names: &'a Array<MapData, BackendName>,
    /// Hash of the packet's connection, and the present.
    pub flow: (Option<u64>, Tick),
    pub outcome: &'a Outcome,
    /// Octets of the headroom that are taken.
    pub taken: usize,
}

impl Outside for SeenOutside<'_> {
    fn pick(&mut self, servers: &[SocketAddr]) -> Option<SocketAddr> {
        let chosen = self.chosen();
        let mut of_chosen = servers
            .iter()
            .filter(|server| chosen.contains(&server.ip()));
        of_chosen.next().or_else(|| servers.first()).copied()
    }

    /// Of the outer header, behind whatever tags there are.
    fn identification(&mut self) -> u16 {
        let frame = &self.outcome.frame;
        let mut at = 12;
        while let Some([high, low]) = frame.get(at..at + 2)
            && vlan::is_tag(u16::from_be_bytes([*high, *low]))
        {
            at += vlan::TAG_LEN;
        }
        match frame.get(at + 6..at + 8) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    fn route(&self, _ifindex: u32, _from: IpAddr, to: IpAddr) -> Option<Routed> {
        routes::of(to)
    }

    fn room(&self) -> usize {
        ROOM - self.taken
    }
}

impl SeenOutside<'_> {
    /// What the program's chance came to: the server of the connection in its table, else the one that
    /// the frame went to.
    fn chosen(&self) -> BTreeSet<IpAddr> {
        let mut chosen = BTreeSet::new();
        let (hash, now) = self.flow;
        for way in self.conns.all_words().chunks_exact(2) {
            let state = State(way[1].load(Ordering::Acquire));
            if Some(way[0].load(Ordering::Acquire)) == hash && state.is_free(now) == 0 {
                let name = self.names.get(&state.backend(), 0).unwrap();
                chosen.extend(name.address.to_ip(name.family));
            }
        }
        let frame = &self.outcome.frame;
        let n = (0..=u8::MAX).find(|n| frame.starts_with(&host_mac(*n)));
        if let (true, Some(n)) = (chosen.is_empty(), n) {
            chosen.extend(VIPS.map(|vip| host_ip(vip, n)));
        }
        chosen
    }
}
