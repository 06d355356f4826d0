//! Addresses that are not this host's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Config, Forwarding, Member};

impl Config {
    /// The VIPs of all `vrrp_instance`s, whoever is master.
    pub fn moving_vips(&self) -> BTreeSet<IpAddr> {
        let instances = self.vrrp_instances.iter();
        let all =
            instances.flat_map(|of| of.virtual_addresses.iter().chain(&of.excluded_addresses));
        all.map(|vip| vip.address.addr()).collect()
    }

    /// Those, and the VIPs that real servers have themselves, since packets come to them with these: an
    /// answer to such an address never leaves the server.
    pub fn shared_vips(&self) -> BTreeSet<IpAddr> {
        let members = self.members().filter(have_the_vip);
        let vips = members.flat_map(|member| self.vips(&member.key));
        self.moving_vips().into_iter().chain(vips).collect()
    }
}

fn have_the_vip(member: &Member<'_>) -> bool {
    let mut servers = member.service.real_servers.iter();
    servers.any(|server| match server.forwarding {
        Forwarding::DirectRouting | Forwarding::Tunnel(_) => true,
        Forwarding::Nat => false,
    })
}
