//! What an instance says against itself, and instances against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::model::{Config, Family, InitialState, Version, VrrpInstance};
use crate::config::places::{InstancePlaces, Places};
use crate::config::print::seconds;
use crate::config::source::Span;

/// What the text of an instance says that the model does not keep.
#[derive(Debug)]
pub(super) struct Base {
    /// Of each address: its prefix length is written out.
    pub(super) lengths: Vec<bool>,
}

/// An interval that the version cannot carry.
pub(super) fn rounded(context: &mut Context<'_>, version: &Version, asked: Duration, place: Span) {
    let sent = version.advert_interval();
    if sent == asked {
        return;
    }
    let (unit, help) = match version {
        Version::V2 { .. } => (
            "whole seconds",
            "write whole seconds, or 'version 3' on every director of the group",
        ),
        Version::V3 { .. } => ("hundredths of a second up to 40.95", "write such a time"),
    };
    context.push(
        Diagnostic::warning(
            Code::Rounded,
            format!(
                "adverts are sent every {} s and not every {} s, as with keepalived",
                seconds(sent),
                seconds(asked)
            ),
        )
        .at(
            place,
            format!("version {} carries {unit}", version.number()),
        )
        .help(help),
    );
}

pub(super) fn no_authentication_in_v3(context: &mut Context<'_>, place: Span) {
    context.push(
        Diagnostic::warning(
            Code::NoAuthentication,
            "no authentication: version 3 of VRRP has none",
        )
        .at(place, "adverts carry no password, as with keepalived")
        .help("remove the block; 'auth_hmac' signs adverts where every director knows it"),
    );
}

/// Its own interface is tracked anyway.
pub(super) fn own_interface(
    context: &mut Context<'_>,
    instance: &mut VrrpInstance,
    places: &InstancePlaces,
) {
    let before = instance.trackers.interfaces.len();
    let own = &instance.interface;
    instance
        .trackers
        .interfaces
        .retain(|tracked| tracked.name != *own);
    if instance.trackers.interfaces.len() != before {
        context.push(
            Diagnostic::warning(
                Code::Overruled,
                format!(
                    "{own} is the interface of {} itself, which is tracked anyway",
                    quote(&instance.name)
                ),
            )
            .at(
                places.name,
                "'track_interface' of it is ignored, as keepalived does",
            ),
        );
    }
}

/// keepalived exits over an instance of version 3 that has no address.
pub(super) fn without_addresses(
    context: &mut Context<'_>,
    instance: &VrrpInstance,
    places: &InstancePlaces,
    on_purpose: bool,
) {
    if on_purpose || !instance.virtual_addresses.is_empty() || instance.version.number() == 2 {
        return;
    }
    context.push(
        Diagnostic::warning(
            Code::Empty,
            format!("{} has no virtual address", quote(&instance.name)),
        )
        .at(places.name, "it runs without; keepalived 2.2 exits here")
        .help("add 'virtual_ipaddress { … }', or 'no_virtual_ipaddress' if that is meant"),
    );
}

/// What strict mode switches off in this instance, and the sentence that says so.
pub(super) fn strict(
    context: &mut Context<'_>,
    instance: &mut VrrpInstance,
    places: &InstancePlaces,
    accept: Option<bool>,
    authentication: bool,
) {
    let owner = instance.priority == VrrpInstance::OWNER_PRIORITY;
    let mut effects = Vec::new();
    if authentication {
        effects.push("adverts carry no password".to_owned());
    }
    if !owner {
        if accept != Some(false) && !instance.virtual_addresses.is_empty() {
            effects
                .push("the director drops packets to the addresses, pings among them".to_owned());
        }
        instance.accept = false;
    }
    let state = if owner {
        InitialState::Master
    } else {
        InitialState::Backup
    };
    if instance.initial_state != state {
        effects.push(if owner {
            "it starts as MASTER, for its priority is 255".to_owned()
        } else {
            "it starts as BACKUP, for its priority is not 255".to_owned()
        });
        instance.initial_state = state;
    }
    not_link_local(context, instance, places);
    if effects.is_empty() {
        return;
    }
    context.push(
        Diagnostic::warning(
            Code::Strict,
            format!(
                "strict mode changes {}: {}",
                quote(&instance.name),
                effects.join("; ")
            ),
        )
        .at(places.name, "as with keepalived")
        .help("remove 'vrrp_strict' from global_defs, or write 'strict_mode off' here"),
    );
}

/// Other routers of the RFC identify an IPv6 virtual router by its link-local address.
fn not_link_local(context: &mut Context<'_>, instance: &VrrpInstance, places: &InstancePlaces) {
    let link_local = |net: &IpNet| match net {
        IpNet::V4(_) => true,
        IpNet::V6(net) => net.addr().is_unicast_link_local(),
    };
    let first = instance.virtual_addresses.first();
    if let Some(first) = first.filter(|first| !link_local(&first.address)) {
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                format!(
                    "in strict mode the first address must be link local, and {} is not",
                    first.address.addr()
                ),
            )
            .at(
                places.addresses.first().copied().unwrap_or(places.name),
                "it is used nevertheless, as keepalived does",
            ),
        );
    }
}

/// All instances of a file against each other.
pub(super) fn check(context: &mut Context<'_>, config: &Config, places: &Places, bases: &[Base]) {
    same_router_id(context, config, places);
    same_address(context, config, places);
    let networks = networks(config);
    for ((instance, places), base) in config
        .vrrp_instances
        .iter()
        .zip(&places.instances)
        .zip(bases)
    {
        lonely_length(context, &networks, instance, places, base);
        foreign_label(context, instance, places);
    }
}

fn same_router_id(context: &mut Context<'_>, config: &Config, places: &Places) {
    let mut seen: BTreeMap<(u8, &str, bool), (&VrrpInstance, Span)> = BTreeMap::new();
    for (instance, places) in config.vrrp_instances.iter().zip(&places.instances) {
        let key = (
            instance.virtual_router_id,
            instance.interface.as_str(),
            instance.family == Family::V6,
        );
        let Some((other, first)) = seen.get(&key) else {
            seen.insert(key, (instance, places.name));
            continue;
        };
        context.push(
            Diagnostic::error(
                Code::Conflict,
                format!(
                    "{} and {} both use virtual_router_id {} on {}",
                    quote(&other.name),
                    quote(&instance.name),
                    instance.virtual_router_id,
                    instance.interface,
                ),
            )
            .at(
                places.name,
                "they would take each other's adverts for their own",
            )
            .at(*first, "in use here")
            .because("keepalived exits when it reads this")
            .help("give one of them another virtual_router_id"),
        );
    }
}

/// An address that two instances own goes when the first of them stops being master.
fn same_address(context: &mut Context<'_>, config: &Config, places: &Places) {
    let mut seen: BTreeMap<_, (&str, Span)> = BTreeMap::new();
    for (instance, places) in config.vrrp_instances.iter().zip(&places.instances) {
        for (address, span) in instance.virtual_addresses.iter().zip(&places.addresses) {
            let device = address.device.as_deref().unwrap_or(&instance.interface);
            let key = (address.address.addr(), device);
            let Some((other, first)) = seen.get(&key) else {
                seen.insert(key, (&instance.name, *span));
                continue;
            };
            context.push(
                Diagnostic::warning(
                    Code::Doubtful,
                    format!(
                        "{} belongs to {} and to {}",
                        address.address.addr(),
                        quote(other),
                        quote(&instance.name)
                    ),
                )
                .at(*span, "gone as soon as one of the two is not master")
                .at(*first, "stands here as well")
                .help("give each address to one instance"),
            );
        }
    }
}

/// Networks that addresses of a file live in, by device.
type Networks<'a> = BTreeSet<(&'a str, IpNet)>;

fn networks(config: &Config) -> Networks<'_> {
    let mut networks = BTreeSet::new();
    for instance in &config.vrrp_instances {
        for own in &instance.virtual_addresses {
            let device = own.device.as_deref().unwrap_or(&instance.interface);
            networks.insert((device, own.address.trunc()));
        }
    }
    networks
}

/// An address without a length, which is a host's own. Another address of the file may show the
/// network it lives in. One note for each instance is enough.
fn lonely_length(
    context: &mut Context<'_>,
    networks: &Networks<'_>,
    instance: &VrrpInstance,
    places: &InstancePlaces,
    base: &Base,
) {
    let addresses = instance.virtual_addresses.iter();
    let mut placed = addresses.zip(&places.addresses).zip(&base.lengths);
    let lonely = placed.find(|((own, _), has_length)| !**has_length && own.peer.is_none());
    let Some(((own, span), _)) = lonely else {
        return;
    };
    let device = own.device.as_deref().unwrap_or(&instance.interface);
    let (address, length) = (own.address.addr(), own.address.prefix_len());
    let wider = (1..length).rev();
    let mut wider = wider.filter_map(|length| IpNet::new(address, length).ok());
    let network = wider.find(|network| networks.contains(&(device, network.trunc())));
    let (label, help) = match network {
        Some(network) => (
            format!("{} is on the same interface", network.trunc()),
            format!("write {network} if it lives in that network"),
        ),
        None => (
            "an address by itself, without a network".to_owned(),
            format!("write {address}/{length} to say so, or the length of its network"),
        ),
    };
    context.push(
        Diagnostic::note(
            Code::DefaultUsed,
            format!("{address} has no prefix length: /{length} is used, as keepalived does"),
        )
        .at(*span, label)
        .help(help),
    );
}

/// `ifconfig` and friends show a label only if it starts with the device.
fn foreign_label(context: &mut Context<'_>, instance: &VrrpInstance, places: &InstancePlaces) {
    for (address, span) in instance.virtual_addresses.iter().zip(&places.addresses) {
        let device = address.device.as_deref().unwrap_or(&instance.interface);
        let Some(label) = &address.label else {
            continue;
        };
        let rest = label.strip_prefix(device);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
            continue;
        }
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                format!(
                    "label {} does not begin with its interface, {device}",
                    quote(label)
                ),
            )
            .at(*span, "old tools do not show such an address")
            .help(format!("write 'label {device}:0'")),
        );
    }
}
