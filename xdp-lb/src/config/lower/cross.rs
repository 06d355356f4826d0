//! What only instances and services together show.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::context::Context;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::model::{Config, Frontend, GroupMember, VirtualServer};
use crate::config::places::Places;

/// Speaks about virtual IPs that no instance carries, in a file that has instances: each once.
pub(super) fn check(context: &mut Context<'_>, config: &Config, places: &Places) {
    if config.vrrp_instances.is_empty() {
        return;
    }
    let mut carried: BTreeSet<IpAddr> = carried(config).collect();
    let services = config.virtual_servers.iter().zip(&places.services);
    for (service, place) in services {
        let Some(vip) = addresses(service).find(|vip| !carried.contains(vip)) else {
            continue;
        };
        carried.insert(vip);
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                format!("{vip} is balanced, and no 'vrrp_instance' carries it"),
            )
            .at(
                place.head,
                "balanced on every director, MASTER or not, wherever its packets arrive",
            )
            .help(format!(
                "write {vip} into the 'virtual_ipaddress' of an instance; leave it if something else brings its packets here"
            )),
        );
    }
}

/// The addresses that instances bring to their master, and those that stand on the host anyway.
fn carried(config: &Config) -> impl Iterator<Item = IpAddr> {
    let instances = config.vrrp_instances.iter();
    let moving = instances.flat_map(|instance| {
        let addresses = instance.virtual_addresses.iter();
        addresses.chain(&instance.excluded_addresses)
    });
    let moving = moving.map(|address| address.address.addr());
    let fixed = config.static_addresses.iter();
    moving.chain(fixed.map(|fixed| fixed.address.address.addr()))
}

/// The virtual IPs of a service, as far as it names single ones: somebody who balances ranges routes
/// them here.
fn addresses(service: &VirtualServer) -> impl Iterator<Item = IpAddr> {
    let (own, members) = match &service.frontend {
        Frontend::Endpoint(key) => (Some(key.vip), None),
        Frontend::Mark(_) => (None, None),
        Frontend::Group { group, .. } => (None, Some(group.members.iter())),
    };
    let single = |member: &GroupMember| match member {
        GroupMember::Addresses { first, last, .. } if first == last => Some(*first),
        GroupMember::Addresses { .. } | GroupMember::Mark { .. } => None,
    };
    own.into_iter()
        .chain(members.into_iter().flatten().filter_map(single))
}
