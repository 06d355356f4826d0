//! What is changed in packets to a real server, and where tunnels begin.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Inputs, carries};
use crate::config::model::{Config, Forwarding, Frontend, GroupMember, VirtualServer};
use crate::plan::desired::{Method, Reach};

/// That of a server of the file; of one that left it, the service's.
pub(super) fn forwarding(service: &VirtualServer, address: SocketAddr) -> Forwarding {
    let mut real_servers = service.real_servers.iter();
    let real_server = real_servers.find(|server| server.address == address);
    let sorry = service
        .sorry_server
        .filter(|sorry| sorry.address == address);
    let own = real_server.map(|server| server.forwarding);
    own.or_else(|| sorry.map(|sorry| sorry.forwarding))
        .unwrap_or(service.forwarding)
}

/// What is changed in packets to a server; `None` for a tunnel that could begin nowhere.
pub(super) fn of(
    forwarding: Forwarding,
    server: IpAddr,
    reach: Option<Reach>,
    inputs: &Inputs<'_>,
) -> Option<Method> {
    match (forwarding, reach) {
        (Forwarding::DirectRouting, _) | (Forwarding::Tunnel(_), None | Some(Reach::Local)) => {
            Some(Method::Direct)
        }
        (Forwarding::Nat, _) => Some(Method::Nat),
        (Forwarding::Tunnel(tunnel), Some(Reach::Direct { ifindex, .. })) => {
            let source = source(server, ifindex, inputs)?;
            Some(Method::Tunnel(tunnel, source))
        }
    }
}

/// The director's address that packets of its own to a server have: of the interface that leads
/// there, in the server's network if there is one. Never a VIP: real servers have those, too, and would
/// take the packets for their own.
fn source(server: IpAddr, ifindex: u32, inputs: &Inputs<'_>) -> Option<IpAddr> {
    let fits = |address: &&IpNet| {
        let ip = address.addr();
        let is_global = match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        };
        ip.is_ipv4() == server.is_ipv4() && is_global && !is_virtual(ip, inputs.config)
    };
    let addresses = &inputs.network.addresses;
    let here = || addresses.get(&ifindex).into_iter().flatten().filter(fits);
    let near = here().find(|address| address.contains(&server));
    // An interface without an address lends one, as in the kernel.
    let anywhere = || addresses.values().flatten().find(fits);
    let found = near.or_else(|| here().next()).or_else(anywhere)?;
    Some(found.addr())
}

/// Whether an address is a VIP: of a VRRP instance, or of a virtual server.
fn is_virtual(ip: IpAddr, config: &Config) -> bool {
    let mut instances = config.vrrp_instances.iter();
    let mut services = config.virtual_servers.iter();
    instances.any(|instance| carries(instance, ip))
        || services.any(|service| is_of(ip, &service.frontend, config))
}

fn is_of(ip: IpAddr, frontend: &Frontend, config: &Config) -> bool {
    let has_mark = |mark: u32| {
        let mut endpoints = config.xdp_lb.marks.get(&mark).into_iter().flatten();
        endpoints.any(|endpoint| endpoint.vip == ip)
    };
    match frontend {
        Frontend::Endpoint(endpoint) => endpoint.vip == ip,
        Frontend::Mark(mark) => has_mark(mark.mark),
        Frontend::Group { group, .. } => group.members.iter().any(|member| match member {
            GroupMember::Addresses { first, last, .. } => (*first..=*last).contains(&ip),
            GroupMember::Mark { mark, .. } => has_mark(*mark),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Tunnel;
    use crate::plan::carriers::Peers;
    use crate::plan::desired::Desired;
    use crate::plan::pool::{Overrides, Pools};
    use crate::plan::table::{Health, Network, Now, Ownership, ServerHealth, desired};
    use crate::plan::testing::{VIP, direct, network, service_key, websocket};

    const TUNNEL: Forwarding = Forwarding::Tunnel(Tunnel::Ipip);

    fn planned(config: &Config, network: &Network) -> Desired {
        let up = |number: u8| {
            let server = SocketAddr::from(([192, 168, 1, number], 80));
            let health = ServerHealth {
                up: true,
                ..ServerHealth::default()
            };
            ((service_key(0), server), health)
        };
        let health: Health = [up(102), up(103)].into();
        let mut pools = Pools::default();
        pools.update(Now::ZERO, config, &health, &Overrides::new());
        desired(&Inputs {
            config,
            ownership: &Ownership::new(),
            pools: pools.memberships(),
            network,
            attached: &[].into(),
            peers: &Peers::new(),
        })
    }

    /// The methods of both servers, and whether each is reached.
    fn methods(config: &Config, network: &Network) -> Vec<(Method, bool)> {
        let desired = planned(config, network);
        let servers = desired.services[&service_key(0)].servers.iter().rev();
        servers
            .map(|server| (server.method, server.reach.is_some()))
            .collect()
    }

    #[test]
    fn each_server_is_reached_as_its_line_says() {
        let mut config = websocket();
        config.virtual_servers[0].real_servers[0].forwarding = TUNNEL;
        config.virtual_servers[0].real_servers[1].forwarding = Forwarding::Nat;
        let own = "192.168.1.100".parse().unwrap();
        let expected = [
            (Method::Tunnel(Tunnel::Ipip, own), true),
            (Method::Nat, true),
        ];
        assert_eq!(methods(&config, &network()), expected);
    }

    #[test]
    fn a_tunnel_begins_at_the_nearest_address_that_is_no_vip() {
        let mut config = websocket();
        config.virtual_servers[0].real_servers[0].forwarding = TUNNEL;
        let source = |addresses: &[(u32, &[&str])]| {
            let mut network = network();
            let parsed = |(ifindex, all): &(u32, &[&str])| {
                (
                    *ifindex,
                    all.iter().map(|one| one.parse().unwrap()).collect(),
                )
            };
            network.addresses = addresses.iter().map(parsed).collect();
            match methods(&config, &network)[0] {
                (Method::Tunnel(_, source), true) => Some(source.to_string()),
                (Method::Direct, false) => None,
                other => panic!("{other:?}"),
            }
        };
        let vip = format!("{VIP}/24");
        let near: &[&str] = &[&vip, "10.0.0.1/8", "192.168.1.100/24", "fe80::1/64"];
        assert_eq!(source(&[(2, near)]).as_deref(), Some("192.168.1.100"));
        let routed: &[&str] = &[&vip, "10.0.0.1/8", "10.0.0.2/8"];
        assert_eq!(source(&[(2, routed)]).as_deref(), Some("10.0.0.1"));
        let lent: &[(u32, &[&str])] = &[(1, &["127.0.0.1/8"]), (2, &[&vip]), (3, &["10.0.0.3/8"])];
        assert_eq!(source(lent).as_deref(), Some("10.0.0.3"));
        assert_eq!(source(&[(2, &[&vip, "2001:db8::1/64"])]), None);
    }

    #[test]
    fn the_director_itself_needs_no_tunnel() {
        let mut config = websocket();
        config.virtual_servers[0].real_servers[0].forwarding = TUNNEL;
        let mut network = network();
        let reach = network.reach.values_mut().next().unwrap();
        assert_eq!(*reach, direct(2));
        *reach = Reach::Local;
        assert_eq!(methods(&config, &network)[0], (Method::Direct, true));
    }
}
