//! What the configuration and the interfaces say of each virtual router. Pure.
//!
//! Two defaults differ from keepalived's, which both leave clients with the MAC of a director that
//! stepped down: a master sends one last advert to a better one unless the file says otherwise, and it
//! announces its addresses with each advert unless the file says how often.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::model::{
    self, Config, Family, HmacMode, Preemption, Tracked, Version as Written, VirtualInterface,
    VrrpInstance,
};
use crate::plan::belongings::virtual_name;
use crate::plan::table::Network;
use crate::vrrp::group::Group;
use crate::vrrp::packet::hmac;
use crate::vrrp::priority::{Kind, Tracker};
use crate::vrrp::settings::{Auth, Garp, Peer, Settings, Transport};
use crate::vrrp::{Interval, Priority, Version, Vrid};

/// The longest `garp_master_refresh` when the file does not say, but for very many addresses.
const REFRESH: Duration = Duration::from_mins(1);
/// The least time from one of these frames to the next, all instances of an interface together. Switches
/// that inspect ARP shut a port that sends more than 15 a second.
const REFRESH_GAP: Duration = Duration::from_millis(100);
/// TTL of adverts to a group.
const HOPS: u8 = 255;

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// For the machine.
    pub settings: Settings,
    /// For its sockets.
    pub tuning: Tuning,
}

/// What sockets need to know beside the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Interface that adverts leave by.
    pub sends_on: String,
    /// Interface that adverts arrive on. Those from a virtual MAC that is one of this host, too, do
    /// so on its interface alone.
    pub listens_on: String,
    /// TTL or hop limit of adverts.
    pub ttl: u8,
    /// `kernel_rx_buf_size`.
    pub buffer: Option<usize>,
}

/// The routers.
pub fn instances(config: &Config, network: &Network) -> Vec<Instance> {
    let instances = config.vrrp_instances.iter();
    instances
        .filter_map(|instance| self::instance(config, instance, network))
        .collect()
}

/// The sync groups.
pub fn groups(config: &Config) -> Vec<Group> {
    let groups = config.sync_groups.iter().map(|group| Group {
        name: group.name.clone(),
        members: group.members.clone(),
        tracking_weight: group.tracking_weight,
    });
    groups.collect()
}

/// Where the adverts of an instance leave from, if there is such an address.
pub fn source(config: &Config, instance: &VrrpInstance, network: &Network) -> Option<IpAddr> {
    if let Some(wanted) = instance.source {
        let mut here = network.addresses.values().flatten();
        let is_here = !instance.track_source || here.any(|address| address.addr() == wanted);
        return is_here.then_some(wanted);
    }
    let link = network.links.get(&instance.interface)?;
    let fits = |address: &IpAddr| match (instance.family, address) {
        (Family::V4, IpAddr::V4(_)) => true,
        (Family::V6, IpAddr::V6(address)) => address.is_unicast_link_local(),
        (Family::V4, IpAddr::V6(_)) | (Family::V6, IpAddr::V4(_)) => false,
    };
    let addresses = network.addresses.get(&link.ifindex)?.iter();
    let mut addresses = addresses.map(ipnet::IpNet::addr).filter(fits);
    if instance.priority == VrrpInstance::OWNER_PRIORITY {
        // Its own address is the virtual one.
        return addresses.next();
    }
    // The virtual ones come and go.
    let virtual_ones = config.moving_vips();
    addresses.find(|address| !virtual_ones.contains(address))
}

fn instance(config: &Config, instance: &VrrpInstance, network: &Network) -> Option<Instance> {
    let unspecified = match instance.family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    let source = source(config, instance, network).unwrap_or(unspecified);
    let vrid = Vrid::new(instance.virtual_router_id)?;
    let addresses = instance.virtual_addresses.iter();
    let addresses = addresses.map(|vip| vip.address.addr()).collect();
    let (transport, ttl) = transport(&instance.transport);
    let (version, interval, auth) = version(&instance.version)?;
    let (preempt, preempt_delay) = match instance.preemption {
        Preemption::Never => (false, Duration::ZERO),
        Preemption::After(delay) => (true, delay),
    };
    let settings = Settings {
        interface: instance.interface.clone(),
        version,
        priority: Priority::new(instance.priority)?,
        interval,
        auth,
        hmac: instance.hmac.as_ref().map(signing),
        transport,
        preempt,
        preempt_delay,
        startup_delay: config.global.vrrp_startup_delay,
        down_timer_adverts: instance.down_timer_adverts,
        garp: garp(config, instance, interval),
        higher_prio_send_advert: instance.higher_prio_send_advert.unwrap_or(true),
        lower_prio_no_advert: instance.lower_prio_no_advert,
        owner_ignore_adverts: instance.owner_ignore_adverts,
        skip_check_adv_addr: instance.skip_check_adv_addr,
        v3_checksum_as_v2: matches!(
            instance.version,
            Written::V3 {
                checksum_as_v2: true,
                ..
            }
        ),
        dont_track_primary: instance.ignore_own_interface,
        trackers: trackers(config, instance),
        ..Settings::new(&instance.name, vrid, source, addresses)
    };
    let buffer = instance.receive_buffer;
    let buffer = buffer.and_then(|bytes| usize::try_from(bytes).ok());
    let (sends_on, listens_on) = devices(instance);
    let tuning = Tuning {
        sends_on,
        listens_on,
        ttl,
        buffer,
    };
    Some(Instance { settings, tuning })
}

/// Where adverts leave and arrive.
fn devices(instance: &VrrpInstance) -> (String, String) {
    let own = || instance.interface.clone();
    let is_group = matches!(instance.transport, model::Transport::Multicast { .. });
    match &instance.virtual_interface {
        Some(VirtualInterface::Vmac {
            name,
            adverts_below,
            ..
        }) => {
            let sends_on = if *adverts_below { own() } else { name.clone() };
            let listens_on = if is_group { name.clone() } else { own() };
            (sends_on, listens_on)
        }
        Some(VirtualInterface::Ipvlan { .. }) | None => (own(), own()),
    }
}

fn version(written: &Written) -> Option<(Version, Interval, Auth)> {
    match written {
        Written::V2 {
            advert_interval,
            authentication,
        } => {
            let interval = Interval::from_centis(u16::from(advert_interval.0.get()) * 100)?;
            let auth = authentication.as_ref();
            let auth = auth.map_or(Auth::None, |password| Auth::Pass(password.bytes()));
            Some((Version::V2, interval, auth))
        }
        Written::V3 {
            advert_interval, ..
        } => {
            let interval = Interval::from_centis(advert_interval.get())?;
            Some((Version::V3, interval, Auth::None))
        }
    }
}

fn transport(written: &model::Transport) -> (Transport, u8) {
    match written {
        model::Transport::Multicast { group } => (Transport::Multicast { group: *group }, HOPS),
        model::Transport::Unicast {
            peers,
            ttl,
            check_source,
            // Adverts of either checksum are accepted, and none is sent as keepalived 1.3 did.
            old_checksum: _,
        } => {
            let peers = peers.iter().map(|peer| Peer {
                address: peer.address,
                min_ttl: peer.min_ttl,
                max_ttl: peer.max_ttl,
            });
            let peers = peers.collect();
            let check_source = *check_source;
            let transport = Transport::Unicast {
                peers,
                check_source,
            };
            (transport, *ttl)
        }
        // A fault for as long as the file says so.
        model::Transport::NoPeer => {
            let (peers, check_source) = (Vec::new(), false);
            let transport = Transport::Unicast {
                peers,
                check_source,
            };
            (transport, HOPS)
        }
    }
}

fn signing(written: &model::HmacKeys) -> hmac::Settings {
    let keys = written.keys.iter().filter_map(|(id, secret)| {
        let secret = hmac::Secret::new(secret.bytes().to_vec())?;
        Some((*id, secret))
    });
    hmac::Settings {
        mode: match written.mode {
            HmacMode::ReceiveOnly => hmac::Mode::ReceiveOnly,
            HmacMode::Permissive => hmac::Mode::Permissive,
            HmacMode::Enforce => hmac::Mode::Enforce,
        },
        send_key: written.send_key,
        keys: keys.collect(),
    }
}

fn garp(config: &Config, instance: &VrrpInstance, interval: Interval) -> Garp {
    let written = &instance.garp;
    let frames = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
    let refresh = || refresh(config, instance, interval);
    Garp {
        repeat: frames(written.repeat),
        delay: written.delay,
        refresh: written.refresh.unwrap_or_else(refresh),
        refresh_repeat: frames(written.refresh_repeat),
        lower_prio_repeat: frames(written.lower_prio_repeat),
        lower_prio_delay: written.lower_prio_delay,
        gap: gap(config, instance),
    }
}

/// `garp_master_refresh` when the file does not say: with each advert, as far as the addresses are few
/// enough. keepalived steps down without a word when it hears a better advert, so the master cannot know
/// that clients have the MAC of one that just went.
fn refresh(config: &Config, instance: &VrrpInstance, interval: Interval) -> Duration {
    let on_link = |other: &&VrrpInstance| other.interface == instance.interface;
    let on_link = config.vrrp_instances.iter().filter(on_link);
    let addresses: usize = on_link
        .map(|each| each.virtual_addresses.len() + each.excluded_addresses.len())
        .sum();
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX);
    // A burst that is paced has to be through before the next.
    let burst = gap(config, instance).saturating_mul(instance.garp.repeat);
    let round = REFRESH_GAP.max(burst).saturating_mul(addresses);
    interval.duration().min(REFRESH).max(round)
}

/// The time between two frames on an interface: of its `garp_group`, else of all.
fn gap(config: &Config, instance: &VrrpInstance) -> Duration {
    let pace = &config.announcements;
    let mut groups = pace.groups.iter();
    let group = groups.find(|group| group.interfaces.contains(&instance.interface));
    match instance.family {
        Family::V4 => group
            .and_then(|group| group.garp_interval)
            .unwrap_or(pace.garp_interval),
        Family::V6 => group
            .and_then(|group| group.na_interval)
            .unwrap_or(pace.na_interval),
    }
}

/// Its own trackers, and those of its sync group.
fn trackers(config: &Config, instance: &VrrpInstance) -> Vec<Tracker> {
    let mut groups = config.sync_groups.iter();
    let group = groups.find(|group| group.members.contains(&instance.name));
    let all = [Some(&instance.trackers), group.map(|group| &group.trackers)];
    let each = all.into_iter().flatten().flat_map(|trackers| {
        let model::Trackers {
            interfaces,
            scripts,
            files,
            processes,
        } = trackers;
        let kinds = [
            (Kind::Interface, interfaces),
            (Kind::Script, scripts),
            (Kind::File, files),
            (Kind::Process, processes),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, tracked)| tracked.iter().map(move |tracked| tracker(kind, tracked)))
    });
    each.chain(own_link(instance)).collect()
}

/// Without its interface with a virtual MAC an instance has no place for its addresses.
fn own_link(instance: &VrrpInstance) -> Option<Tracker> {
    let name = virtual_name(instance).filter(|_| !instance.ignore_own_interface)?;
    Some(Tracker {
        kind: Kind::Interface,
        name: name.to_owned(),
        weight: 0,
        reverse: false,
    })
}

fn tracker(kind: Kind, tracked: &Tracked) -> Tracker {
    Tracker {
        kind,
        name: tracked.name.clone(),
        weight: tracked.weight.value,
        reverse: tracked.weight.reverse,
    }
}

#[cfg(test)]
mod tests;
