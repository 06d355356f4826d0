//! The services of the tables that virtual servers stand for: a group has one for each of its addresses
//! and marks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Config, Endpoint, Family, Frontend, GroupMember, Mark, Protocol, ServiceGroup, ServiceKey,
    VirtualServer,
};

impl Config {
    /// The virtual servers by their keys, in the order of the file.
    pub fn services(&self) -> impl Iterator<Item = (ServiceKey, &VirtualServer)> {
        let services = self.virtual_servers.iter();
        services.map(|service| (service.key(), service))
    }

    /// The services of the tables, in the order of the file. Of those that two groups have, or a group
    /// and a virtual server, the first counts.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let mut services = self.virtual_servers.iter();
        let is_group = |service: &VirtualServer| matches!(service.frontend, Frontend::Group { .. });
        let may_overlap = services.any(is_group);
        let mut seen = BTreeSet::new();
        let members = self.virtual_servers.iter().flat_map(|service| {
            let member = move |key| Member { key, service };
            service.members().map(member)
        });
        members.filter(move |member| !may_overlap || seen.insert(member.key))
    }

    /// Where packets get their marks for a service by mark; none for any other.
    pub fn entrances<'a>(&'a self, key: &ServiceKey) -> impl Iterator<Item = Endpoint> + use<'a> {
        let mark = match key {
            ServiceKey::Mark(mark) => Some(*mark),
            ServiceKey::Endpoint(_) | ServiceKey::Group { .. } => None,
        };
        let all = mark.and_then(|mark| Some((mark, self.xdp_lb.marks.get(&mark.mark)?)));
        all.into_iter().flat_map(|(mark, endpoints)| {
            let endpoints = endpoints.iter().copied();
            endpoints.filter(move |endpoint| Family::of(endpoint.vip) == mark.family)
        })
    }

    /// The virtual IPs of a service of the tables, each once.
    pub fn vips(&self, key: &ServiceKey) -> BTreeSet<IpAddr> {
        let own = match key {
            ServiceKey::Endpoint(endpoint) => Some(endpoint.vip),
            ServiceKey::Mark(_) | ServiceKey::Group { .. } => None,
        };
        let entrances = self.entrances(key).map(|endpoint| endpoint.vip);
        own.into_iter().chain(entrances).collect()
    }
}

/// A service of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its key, which is not that of a group.
    pub key: ServiceKey,
    /// The virtual server that it belongs to.
    pub service: &'a VirtualServer,
}

impl Member<'_> {
    /// What a server of the pool is called in this service. Without address translation all have the port
    /// that packets come to, as keepalived adds them.
    pub fn server(&self, address: SocketAddr) -> SocketAddr {
        if self.key == self.service.key() {
            return address;
        }
        let mut servers = self.service.real_servers.iter();
        let own = servers.find(|server| server.address == address);
        let sorry = self.service.sorry_server.as_ref();
        let sorry = sorry.filter(|sorry| sorry.address.ip() == address.ip());
        let forwarding = own
            .map(|server| server.forwarding)
            .or_else(|| sorry.map(|sorry| sorry.forwarding))
            .unwrap_or(self.service.forwarding);
        if forwarding.changes_ports() && address.port() != 0 {
            address
        } else {
            SocketAddr::new(address.ip(), self.key.port())
        }
    }

    /// Addresses of the servers that the file has for its pool.
    pub fn configured(&self) -> impl Iterator<Item = SocketAddr> {
        let servers = self.service.real_servers.iter();
        let sorry = self.service.sorry_server.as_ref();
        let servers = servers.map(|server| server.address);
        servers.chain(sorry.map(|sorry| sorry.address))
    }
}

impl VirtualServer {
    /// The keys of the services of the tables that it stands for, in the order of the file.
    fn members(&self) -> impl Iterator<Item = ServiceKey> {
        let (own, group) = match &self.frontend {
            Frontend::Endpoint(_) | Frontend::Mark(_) => (Some(self.key()), None),
            Frontend::Group { group, protocol } => (None, Some((group, *protocol))),
        };
        let grouped = group.into_iter().flat_map(move |(group, protocol)| {
            let members = group.members.iter();
            members.flat_map(move |member| self.keys_of(member, group, protocol))
        });
        own.into_iter().chain(grouped)
    }

    fn keys_of(
        &self,
        member: &GroupMember,
        group: &ServiceGroup,
        protocol: Protocol,
    ) -> impl Iterator<Item = ServiceKey> + use<> {
        let (port, mark) = match member {
            GroupMember::Addresses { port, .. } => (*port, None),
            GroupMember::Mark { mark, family } => {
                let family = family.unwrap_or_else(|| self.family_of(group));
                let mark = Mark {
                    mark: *mark,
                    family,
                };
                (0, Some(ServiceKey::Mark(mark)))
            }
        };
        let endpoint = move |vip| {
            ServiceKey::Endpoint(Endpoint {
                vip,
                port,
                protocol,
            })
        };
        member.addresses().map(endpoint).chain(mark)
    }

    /// The family of a mark in `group`, its group, that says none: that of the addresses of the group,
    /// else of the real servers.
    pub fn family_of(&self, group: &ServiceGroup) -> Family {
        let of_servers = || {
            let first = self.real_servers.first();
            first.map_or(Family::V4, |server| Family::of(server.address.ip()))
        };
        group.family().unwrap_or_else(of_servers)
    }
}

impl GroupMember {
    /// How many services it is.
    pub const fn count(&self) -> u128 {
        match self {
            Self::Addresses {
                first: IpAddr::V4(first),
                last: IpAddr::V4(last),
                ..
            } => last.to_bits().saturating_sub(first.to_bits()) as u128 + 1,
            Self::Addresses {
                first: IpAddr::V6(first),
                last: IpAddr::V6(last),
                ..
            } => last
                .to_bits()
                .saturating_sub(first.to_bits())
                .saturating_add(1),
            Self::Addresses { .. } | Self::Mark { .. } => 1,
        }
    }

    /// Its addresses; none of a mark. There may be very many of a configuration that is refused.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (v4, v6) = match *self {
            Self::Addresses {
                first: IpAddr::V4(first),
                last: IpAddr::V4(last),
                ..
            } => (Some(first.to_bits()..=last.to_bits()), None),
            Self::Addresses {
                first: IpAddr::V6(first),
                last: IpAddr::V6(last),
                ..
            } => (None, Some(first.to_bits()..=last.to_bits())),
            Self::Addresses { .. } | Self::Mark { .. } => (None, None),
        };
        let v4 = v4
            .into_iter()
            .flatten()
            .map(|bits| Ipv4Addr::from_bits(bits).into());
        let v6 = v6
            .into_iter()
            .flatten()
            .map(|bits| Ipv6Addr::from_bits(bits).into());
        v4.chain(v6)
    }
}
