//! What a virtual service has from the VRRP instances that carry its VIP: the lease of its gate, and
//! the directors that may balance its packets, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use xdp_lb_common::addr::Mac;

use super::belongings::virtual_mac as mac_of;
use super::desired::Reach;
use super::table::{Inputs, carries, is_owned};
use crate::config::model::{Config, Transport, Version, VrrpInstance};
use crate::vrrp::{Interval, Priority, Version as WireVersion, timing};

/// Addresses of the other directors of each VRRP instance, by its name, as far as they were heard.
pub type Peers = BTreeMap<String, BTreeSet<IpAddr>>;

/// The addresses of directors whose MACs must be known: those heard, and those of `unicast_peer`.
pub fn peer_addresses(config: &Config, heard: &Peers) -> BTreeSet<IpAddr> {
    let instances = config.vrrp_instances.iter();
    instances
        .flat_map(|instance| peers_of(instance, heard))
        .collect()
}

/// How long the gate of a VIP stays open without a heartbeat of the agent: until a peer may have taken
/// over. Of several instances the quickest counts. `None` where nobody could take over, or with
/// `fail_static`.
pub(super) fn lease(vip: IpAddr, config: &Config) -> Option<Duration> {
    if config.xdp_lb.fail_static {
        return None;
    }
    let instances = config.vrrp_instances.iter();
    let carriers = instances.filter(|instance| carries(instance, vip));
    carriers.map(master_down).min()
}

fn master_down(instance: &VrrpInstance) -> Duration {
    let version = match instance.version {
        Version::V2 { .. } => WireVersion::V2,
        Version::V3 { .. } => WireVersion::V3,
    };
    let advert_interval = instance.version.advert_interval();
    let hundredths = u16::try_from(advert_interval.as_millis() / 10).ok();
    // Both versions' intervals fit by their types; so does any priority but 0.
    match hundredths.and_then(Interval::from_centis) {
        Some(interval) => timing::master_down(
            version,
            Priority::from_wire(instance.priority),
            interval,
            instance.down_timer_adverts,
        ),
        None => advert_interval * u32::from(instance.down_timer_adverts),
    }
}

/// The virtual MAC that clients send to for a VIP: of the instance that is owned here, else of any that
/// carries it.
pub(super) fn virtual_mac(vip: IpAddr, inputs: &Inputs<'_>) -> Option<Mac> {
    let instances = inputs.config.vrrp_instances.iter();
    let mut carriers: Vec<_> = instances
        .filter(|instance| carries(instance, vip))
        .collect();
    carriers.sort_by_key(|instance| !is_owned(instance, inputs.ownership));
    carriers.into_iter().find_map(mac_of)
}

/// The directors that share a VIP with this one and are on a link with it: a frame from the MAC of one
/// was balanced already.
pub(super) fn peers(vip: IpAddr, inputs: &Inputs<'_>) -> BTreeMap<IpAddr, Mac> {
    let instances = inputs.config.vrrp_instances.iter();
    instances
        .filter(|instance| carries(instance, vip))
        .flat_map(|instance| peers_of(instance, inputs.peers))
        .filter_map(|peer| match inputs.network.reach.get(&peer)? {
            Reach::Direct {
                mac, on_link: true, ..
            } => Some((peer, *mac)),
            // Clients come through a router, too.
            Reach::Direct { .. } | Reach::Local => None,
        })
        .collect()
}

fn peers_of(instance: &VrrpInstance, heard: &Peers) -> BTreeSet<IpAddr> {
    let heard = heard.get(&instance.name).into_iter().flatten().copied();
    let named = match &instance.transport {
        Transport::Unicast { peers, .. } => peers.as_slice(),
        Transport::Multicast { .. } | Transport::NoPeer => &[],
    };
    heard.chain(named.iter().map(|peer| peer.address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Centiseconds, Peer, Seconds, VirtualInterface};
    use crate::plan::desired::Desired;
    use crate::plan::pool::Memberships;
    use crate::plan::table::desired;
    use crate::plan::testing::{VIP, direct, instance, network, service_key, websocket};

    fn vip() -> IpAddr {
        VIP.parse().unwrap()
    }

    #[test]
    fn the_lease_is_the_master_down_interval_of_the_instance() {
        let mut config = websocket();
        let lease_ns = |config: &Config| lease(vip(), config).map(|lease| lease.as_nanos());
        assert_eq!(lease_ns(&config), Some(3_609_375_000));
        config.vrrp_instances[0].priority = 150;
        config.vrrp_instances[0].version = Version::V2 {
            advert_interval: Seconds::nearest(Duration::from_secs(255)),
            authentication: None,
        };
        assert_eq!(lease_ns(&config), Some(765_414_062_500));
        config.vrrp_instances[0].version = Version::V3 {
            advert_interval: Centiseconds::nearest(Duration::from_millis(100)),
            checksum_as_v2: false,
        };
        assert_eq!(lease_ns(&config), Some(341_406_250));
        config.vrrp_instances[0].down_timer_adverts = 5;
        assert_eq!(lease_ns(&config), Some(541_406_250));
    }

    #[test]
    fn of_several_carriers_the_quickest_counts() {
        let mut config = websocket();
        let mut slow = instance("VI_2", "eth1", VIP);
        slow.down_timer_adverts = 9;
        config.vrrp_instances.insert(0, slow);
        assert_eq!(lease(vip(), &config).unwrap().as_nanos(), 3_609_375_000);
    }

    #[test]
    fn a_vip_that_is_not_advertised_is_carried_all_the_same() {
        let mut config = websocket();
        let carrier = &mut config.vrrp_instances[0];
        carrier.excluded_addresses = std::mem::take(&mut carrier.virtual_addresses);
        assert!(lease(vip(), &config).is_some());
    }

    #[test]
    fn who_is_in_no_instance_or_fails_static_has_no_lease() {
        let mut config = websocket();
        assert_eq!(lease("192.168.1.201".parse().unwrap(), &config), None);
        config.xdp_lb.fail_static = true;
        assert_eq!(lease(vip(), &config), None);
    }

    /// One heard by `VI_1`, one named by it, one of another instance.
    fn with_peers() -> (Config, Peers) {
        let mut config = websocket();
        let named = Peer {
            address: "192.168.1.12".parse().unwrap(),
            min_ttl: 0,
            max_ttl: 255,
        };
        config.vrrp_instances[0].transport = Transport::Unicast {
            peers: vec![named],
            ttl: 255,
            check_source: false,
            old_checksum: None,
        };
        let other = instance("VI_2", "eth1", "192.168.1.201");
        config.vrrp_instances.push(other);
        let one = |ip: &str| BTreeSet::from([ip.parse().unwrap()]);
        let heard = [
            ("VI_1".to_owned(), one("192.168.1.11")),
            ("VI_2".to_owned(), one("192.168.1.13")),
        ];
        (config, heard.into())
    }

    fn peers_in(config: &Config, heard: &Peers, reach: &[(&str, Reach)]) -> Vec<String> {
        let mut network = network();
        let reach = reach
            .iter()
            .map(|(ip, reach)| (ip.parse().unwrap(), *reach));
        network.reach.extend(reach);
        let desired: Desired = desired(&Inputs {
            config,
            ownership: &BTreeMap::new(),
            pools: &Memberships::new(),
            network: &network,
            attached: &BTreeSet::new(),
            peers: heard,
        });
        let peers = desired.services[&service_key(0)].peers.iter();
        peers.map(|(ip, mac)| format!("{ip} {:x}", mac.0)).collect()
    }

    #[test]
    fn the_peers_of_the_carrying_instance_are_told_by_their_macs() {
        let (config, heard) = with_peers();
        let all = ["192.168.1.11", "192.168.1.12", "192.168.1.13"].map(|ip| (ip, direct(2)));
        let peers = peers_in(&config, &heard, &all);
        assert_eq!(peers, ["192.168.1.11 66", "192.168.1.12 66"]);
        assert_eq!(peers_in(&config, &heard, &all[..1]), ["192.168.1.11 66"]);
        assert_eq!(peers_in(&websocket(), &Peers::new(), &all), [""; 0]);
    }

    #[test]
    fn the_mac_of_a_router_is_no_peers() {
        let (config, heard) = with_peers();
        let Reach::Direct {
            ifindex,
            source_mac,
            mac,
            ..
        } = direct(2)
        else {
            unreachable!()
        };
        let routed = Reach::Direct {
            ifindex,
            source_mac,
            mac,
            on_link: false,
        };
        let ways = [("192.168.1.11", routed), ("192.168.1.12", Reach::Local)];
        assert_eq!(peers_in(&config, &heard, &ways), [""; 0]);
    }

    #[test]
    fn the_virtual_mac_is_that_of_the_carrier_that_is_owned() {
        let mut config = websocket();
        config
            .vrrp_instances
            .push(instance("VI_2", "eth1", "192.168.1.201"));
        let macs = |config: &Config, owned: &str| {
            let desired = desired(&Inputs {
                config,
                ownership: &[(owned.to_owned(), true)].into(),
                pools: &Memberships::new(),
                network: &network(),
                attached: &BTreeSet::new(),
                peers: &Peers::new(),
            });
            let mac = desired.services[&service_key(0)].virtual_mac;
            mac.map(|mac| mac.octets()[5])
        };
        assert_eq!(macs(&config, "VI_1"), None);
        for (instance, number) in config.vrrp_instances.iter_mut().zip([51, 52]) {
            instance.virtual_router_id = number;
            instance.virtual_interface = Some(VirtualInterface::Vmac {
                name: format!("vrrp.{number}"),
                mac: None,
                adverts_below: false,
            });
        }
        assert_eq!(
            macs(&config, "VI_2"),
            Some(51),
            "the other does not carry it"
        );
        config.vrrp_instances[1].virtual_addresses =
            config.vrrp_instances[0].virtual_addresses.clone();
        assert_eq!(macs(&config, "VI_2"), Some(52));
        assert_eq!(macs(&config, "VI_1"), Some(51));
    }

    #[test]
    fn every_peer_is_to_be_resolved() {
        let (config, heard) = with_peers();
        let addresses = peer_addresses(&config, &heard);
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let expected = ["192.168.1.11", "192.168.1.12", "192.168.1.13"];
        assert_eq!(addresses, expected);
    }
}
