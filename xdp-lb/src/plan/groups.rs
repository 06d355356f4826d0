//! The multicast groups that this director sends to, whose neighbour entries are to be permanent: a
//! kernel with a full neighbour table would drop what goes there, and both directors were masters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::belongings::virtual_name;
use super::table::Network;
use crate::config::model::{Config, StateSync, Transport};

/// Where the kernel reports the groups that it listens to, so that switches send them here: IGMP and
/// MLD, version 2 of the latter and 3 of the former.
const REPORTS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const REPORTS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// A neighbour entry of a group on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupNeighbour {
    /// Interface index.
    pub ifindex: u32,
    /// The group.
    pub group: IpAddr,
}

impl GroupNeighbour {
    /// The MAC of the group (RFC 1112 section 6.4, RFC 2464 section 7), in the order of the wire.
    pub const fn mac(&self) -> [u8; 6] {
        match self.group {
            IpAddr::V4(group) => {
                let [_, second, third, last] = group.octets();
                [0x01, 0x00, 0x5e, second & 0x7f, third, last]
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                [0x33, 0x33, a, b, c, d]
            }
        }
    }
}

/// Those that are wanted, on interfaces that are up: the kernel drops them when one goes down.
pub fn neighbours(config: &Config, network: &Network) -> Vec<GroupNeighbour> {
    let mut all = Vec::new();
    let mut add = |interface: &str, group: IpAddr| {
        let link = network.links.get(interface);
        // One without a MAC resolves nothing.
        let Some(link) = link.filter(|link| link.up && !link.mac.is_zero()) else {
            return;
        };
        let reports: IpAddr = match group {
            IpAddr::V4(_) => REPORTS_V4.into(),
            IpAddr::V6(_) => REPORTS_V6.into(),
        };
        for group in [group, reports] {
            let entry = GroupNeighbour {
                ifindex: link.ifindex,
                group,
            };
            if !all.contains(&entry) {
                all.push(entry);
            }
        }
    };
    for instance in &config.vrrp_instances {
        if let Transport::Multicast { group } = &instance.transport {
            // Adverts leave by one of them and arrive on one.
            add(&instance.interface, *group);
            if let Some(name) = virtual_name(instance) {
                add(name, *group);
            }
        }
    }
    if let Some((interface, group)) = sync_group(config) {
        add(interface, group);
    }
    all
}

/// Interface and group of state sync, if it has no peers by name.
fn sync_group(config: &Config) -> Option<(&str, IpAddr)> {
    let sync = config.xdp_lb.sync.as_ref()?;
    let daemon = config.global.sync.as_ref();
    let of_daemon = daemon.map(|daemon| &*daemon.interface);
    let interface = sync.interface.as_deref().or(of_daemon)?;
    let group = daemon.map_or(StateSync::GROUP, |daemon| daemon.group);
    sync.peers.is_empty().then_some((interface, group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Family, Peer, SyncKey, VirtualInterface};
    use crate::plan::table::Link;
    use crate::plan::testing::{link, network, websocket};

    fn shown(config: &Config, network: &Network) -> Vec<String> {
        let all = neighbours(config, network).into_iter();
        all.map(|entry| format!("{} on {}", entry.group, entry.ifindex))
            .collect()
    }

    #[test]
    fn a_group_has_the_mac_that_its_address_gives() {
        let mac = |group: &str| {
            let group = group.parse().unwrap();
            GroupNeighbour { ifindex: 2, group }.mac()
        };
        assert_eq!(mac("224.0.0.18"), [1, 0, 0x5e, 0, 0, 0x12]);
        assert_eq!(mac("239.255.1.2"), [1, 0, 0x5e, 0x7f, 1, 2]);
        assert_eq!(mac("ff02::12"), [0x33, 0x33, 0, 0, 0, 0x12]);
        assert_eq!(mac("ff05::1:ff00:a0b"), [0x33, 0x33, 0xff, 0, 0xa, 0xb]);
    }

    #[test]
    fn instances_that_send_to_a_group_want_it_on_each_of_their_interfaces_that_is_up() {
        let mut config = websocket();
        let on_eth0 = ["224.0.0.18 on 2", "224.0.0.22 on 2"];
        assert_eq!(shown(&config, &network()), on_eth0);
        config.vrrp_instances[0].virtual_interface = Some(VirtualInterface::Vmac {
            name: "vrrp.51".to_owned(),
            mac: None,
            adverts_below: false,
        });
        let mut network = network();
        assert_eq!(shown(&config, &network), on_eth0, "it is not there yet");
        network.links.insert("vrrp.51".to_owned(), link(9));
        let both = [&on_eth0[..], &["224.0.0.18 on 9", "224.0.0.22 on 9"]].concat();
        assert_eq!(shown(&config, &network), both);
        let down = Link {
            up: false,
            ..link(2)
        };
        network.links.insert("eth0".to_owned(), down);
        assert_eq!(shown(&config, &network), both[2..]);
        config.vrrp_instances[0].transport = Transport::Unicast {
            peers: vec![Peer {
                address: "192.168.1.101".parse().unwrap(),
                min_ttl: 0,
                max_ttl: 255,
            }],
            ttl: 255,
            check_source: false,
            old_checksum: None,
        };
        assert_eq!(shown(&config, &network), [""; 0]);
    }

    #[test]
    fn ipv6_has_groups_of_its_own_and_state_sync_wants_its_own() {
        let mut config = websocket();
        config.vrrp_instances[0].family = Family::V6;
        config.vrrp_instances[0].transport = Transport::Multicast {
            group: "ff02::12".parse().unwrap(),
        };
        let of_ipv6 = ["ff02::12 on 2", "ff02::16 on 2"];
        assert_eq!(shown(&config, &network()), of_ipv6);
        let mut sync = StateSync {
            peers: Vec::new(),
            key: SyncKey::File("/key".into()),
            interface: Some("eth1".to_owned()),
            port: None,
            max_length: None,
            wait: StateSync::WAIT,
        };
        config.xdp_lb.sync = Some(sync.clone());
        let with_sync = [&of_ipv6[..], &["224.0.0.81 on 3", "224.0.0.22 on 3"]].concat();
        assert_eq!(shown(&config, &network()), with_sync);
        sync.peers = vec!["192.168.1.101:8848".parse().unwrap()];
        config.xdp_lb.sync = Some(sync);
        assert_eq!(shown(&config, &network()), of_ipv6);
    }
}
