//! The kernel's routes to some clients: the same for all cases, as they are the kernel's.

use std::net::IpAddr;

use xdp_lb::dataplane::memory::Routed;
use xdp_lb_common::addr::Mac;

use crate::frames::{FAR, NEAR, NETWORKS, PORTS, UNKNOWN, mtu};

/// The last octet of a client with a route of its own, and that.
const ROUTES: [(u8, To); 8] = [
    (2, To::Nowhere("blackhole")),
    (3, To::Gateway(FAR)),
    (4, To::Gateway(NEAR)),
    (5, To::Unresolved(FAR)),
    (6, To::Gateway(NETWORKS[0].0)),
    (7, To::Gateway(UNKNOWN)),
    (8, To::Nowhere("unreachable")),
    (9, To::Nowhere("prohibit")),
];

/// Where a route leads.
#[derive(Clone, Copy)]
enum To {
    /// To nobody, by a type of routes.
    Nowhere(&'static str),
    /// To the gateway on an interface.
    Gateway(u32),
    /// The same, but the gateway's MAC is not known.
    Unresolved(u32),
}

/// The MAC of the gateway on an interface.
fn gateway_mac(port: u32) -> [u8; 6] {
    let [.., high, low] = port.to_be_bytes();
    [2, 0, 0, high, 3, low]
}

/// The routes as commands of `ip`, for interfaces that are there.
pub(crate) fn lines() -> Vec<String> {
    let indexes = PORTS.into_iter().chain(NETWORKS.map(|(index, ..)| index));
    let mut lines: Vec<_> = indexes
        .flat_map(|index| {
            [
                format!("link set p{index} up"),
                format!("link set q{index} up"),
            ]
        })
        .collect();
    for (n, to) in ROUTES {
        // One net in each family; clients of the other have no route.
        for (client, gateway, onlink) in [
            (format!("10.0.0.{n}/32"), "192.0.2", " onlink"),
            (format!("2001:db8:c::{n:x}/128"), "fe80:", ""),
        ] {
            let separator = if onlink.is_empty() { ':' } else { '.' };
            let gateway = format!("{gateway}{separator}{n}");
            match to {
                To::Nowhere(kind) => lines.push(format!("route add {kind} {client}")),
                To::Gateway(port) | To::Unresolved(port) => {
                    lines.push(format!(
                        "route add {client} via {gateway} dev p{port}{onlink}"
                    ));
                }
            }
            if let To::Gateway(port) = to {
                let mac = Mac::from_octets(gateway_mac(port));
                let mac = mac.octets().map(|octet| format!("{octet:02x}")).join(":");
                lines.push(format!("neighbour add {gateway} lladdr {mac} dev p{port}"));
            }
        }
    }
    lines
}

/// What the kernel says of a client.
pub(crate) fn of(client: IpAddr) -> Option<Routed> {
    let n = match client {
        IpAddr::V4(ip) => match ip.octets() {
            [10, 0, 0, n] => n,
            _ => return None,
        },
        IpAddr::V6(ip) => match ip.segments() {
            [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, n] => u8::try_from(n).ok()?,
            _ => return None,
        },
    };
    let (_, to) = ROUTES.into_iter().find(|(of, _)| *of == n)?;
    let over = |port, hop| {
        let parent = NETWORKS.iter().find(|(index, ..)| *index == port);
        let mtu = mtu(parent.map_or(port, |(_, parent, _)| *parent));
        Some(Routed::Over { mtu, hop })
    };
    match to {
        To::Nowhere(_) => Some(Routed::Nowhere),
        To::Gateway(port) => over(port, Some((port, Mac::from_octets(gateway_mac(port))))),
        To::Unresolved(port) => over(port, None),
    }
}
