//! What real servers send whose addresses are translated.

use std::net::SocketAddr;

use crate::dice::Dice;
use crate::frames::{FAR, NEAR, NETWORKS, ROUTER, Tag, host_mac, port_mac};
use crate::made::Made;
use crate::servers::{Kind, Real, Way};
use crate::world::{Virtual, World};

/// Makes the packet of a client one that a server of its service may answer with, and returns the interface
/// that it comes in by; `None` if there is no such server.
pub(crate) fn turn(dice: &mut Dice, world: &World, made: &mut Made) -> Option<u32> {
    let of_service = |service: &&Virtual| {
        let is_of_port = [0, made.vip.port()].contains(&service.port) || service.marked;
        service.vip == made.vip.ip() && is_of_port && (service.udp == made.udp || service.marked)
    };
    let servers: Vec<_> = world
        .services
        .iter()
        .filter(of_service)
        .flat_map(|service| service.servers.iter().map(move |server| (service, server)))
        .filter(|(_, server)| matches!(server.kind, Kind::Nat { .. }))
        .collect();
    let at = usize::try_from(dice.roll(servers.len().max(1) as u64)).unwrap();
    let (service, server) = servers.get(at)?;
    let from = match server.address(service) {
        address if address.port() == 0 => SocketAddr::new(address.ip(), made.vip.port()),
        address => address,
    };
    (made.client, made.vip) = (from, made.client);
    // Mostly as servers do; of others the flags stay a client's.
    if dice.roll(4) > 0 {
        made.flags = [0x12, 0x10, 0x18, 0x11][usize::try_from(dice.roll(4)).unwrap()];
    }
    let (port, network, tags) = behind(server);
    made.source = if server.way == Way::Router {
        ROUTER
    } else {
        host_mac(server.n)
    };
    made.destination = port_mac(network);
    made.tags = tags.to_vec();
    Some(port)
}

/// The interface that a server is behind, the one that is its network, and the tags of that.
fn behind(server: &Real) -> (u32, u32, &'static [Tag]) {
    match server.far_port() {
        None => (NEAR, NEAR, &[]),
        Some(FAR) => (FAR, FAR, &[]),
        Some(port) => {
            let network = NETWORKS.iter().find(|(index, ..)| *index == port);
            let (index, parent, tags) = network.unwrap();
            (*parent, *index, *tags)
        }
    }
}
