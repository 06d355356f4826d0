//! Whether the configurations of two directors fit together.
//!
//! Instances that share a `virtual_router_id` (and the family of their addresses) are taken for the
//! two halves of one virtual router; configurations with such a pair are those of one cluster. What
//! must agree stands in two tables, one entry per setting: [`INSTANCE`] and [`SERVICE`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::diagnostic::{Code, Diagnostic};
use super::model::{
    Config, Family, Persistence, RealServer, Transport, Version, VirtualAddress, VirtualServer,
    VrrpInstance,
};
use super::places::{InstancePlaces, Places, ServicePlaces};
use super::source::{Source, Sources, Span};

/// The configuration of one director.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it means.
    pub config: &'a Config,
    /// Where its parts stand.
    pub places: &'a Places,
    /// Its files.
    pub sources: &'a Sources,
}

/// What there is to say, each about the file that its places are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// About the first side.
    pub first: Vec<Diagnostic>,
    /// About the second one, or about both.
    pub second: Vec<Diagnostic>,
}

/// A setting that must be the same on both sides.
struct Compared<T, P> {
    setting: &'static str,
    /// Its value in words. The same words are agreement.
    value: fn(&T) -> String,
    /// Where it stands.
    place: fn(&P) -> Span,
    /// What comes of a difference.
    consequence: &'static str,
}

/// What the two instances of a virtual router must agree on.
const INSTANCE: &[Compared<VrrpInstance, InstancePlaces>] = &[
    Compared {
        setting: "the version of VRRP",
        value: |instance| format!("version {}", instance.version.number()),
        place: |places| places.name,
        consequence: "neither accepts the other's adverts, so that both are MASTER",
    },
    Compared {
        setting: "the transport",
        value: |instance| transport(&instance.transport),
        place: |places| places.name,
        consequence: "neither hears the other's adverts, so that both are MASTER",
    },
    Compared {
        setting: "advert_int",
        value: |instance| {
            let interval = instance.version.advert_interval();
            format!("{} s", interval.as_secs_f64())
        },
        place: |places| places.advert_interval.unwrap_or(places.name),
        consequence: "keepalived drops version 2 adverts with another interval than its own, so that \
                      both are MASTER; with version 3 the backup follows the master's",
    },
    Compared {
        setting: "virtual_ipaddress",
        value: |instance| list(&addresses(&instance.virtual_addresses)),
        place: |places| places.addresses.first().copied().unwrap_or(places.name),
        consequence: "keepalived 2.2 drops adverts with other addresses than its own, so that each \
                      director hears no other and both are MASTER",
    },
    Compared {
        setting: "virtual_ipaddress_excluded",
        value: |instance| list(&addresses(&instance.excluded_addresses)),
        place: |places| places.name,
        consequence: "a change of director takes these addresses away or brings them",
    },
];

/// What two directors must agree on of a service.
const SERVICE: &[Compared<VirtualServer, ServicePlaces>] = &[
    Compared {
        setting: "lb_algo",
        value: |service| service.scheduler.name().to_owned(),
        place: |places| places.scheduler.unwrap_or(places.head),
        consequence: "clients are spread in another way after a change of director",
    },
    Compared {
        setting: "lb_kind",
        value: |service| service.forwarding.name().to_owned(),
        place: |places| places.forwarding.unwrap_or(places.head),
        consequence: "real servers are set up for one of them, and get nothing from the other",
    },
    Compared {
        setting: "the quorum",
        value: |service| {
            format!(
                "{}, hysteresis {}",
                service.quorum.weight, service.quorum.hysteresis
            )
        },
        place: |places| places.quorum.unwrap_or(places.head),
        consequence: "with the same servers down, one director has a quorum and the other has none",
    },
    Compared {
        setting: "the sorry server",
        value: |service| {
            let sorry = service.sorry_server.as_ref();
            sorry.map_or_else(|| "none".to_owned(), |sorry| sorry.address.to_string())
        },
        place: |places| places.sorry_server.unwrap_or(places.head),
        consequence: "who serves without a quorum depends on the director",
    },
    Compared {
        setting: "persistence",
        value: |service| persistence(service.persistence),
        place: |places| places.head,
        consequence: "how long clients keep their real server depends on the director",
    },
    Compared {
        setting: "the real servers",
        value: |service| list(&service.real_servers.iter().map(real_server).collect()),
        place: |places| places.head,
        consequence: "a change of director is a change of the pool as well",
    },
];

/// Compares the configurations of two directors. There is nothing to say if no instance of one shares
/// its `virtual_router_id` with one of the other: they are no cluster.
pub fn compare(first: Side<'_>, second: Side<'_>) -> Found {
    let mut found = Found::default();
    let others: BTreeMap<_, _> = routers(first).collect();
    let mut is_cluster = false;
    for (router, here) in routers(second) {
        if let Some(&there) = others.get(&router) {
            is_cluster = true;
            found.second.extend(priority_tie(first, there, here));
            found.second.extend(passwords(first, there, here));
            found.second.extend(strangers(first, there, here));
            let what = format!("virtual_router_id {}", here.0.virtual_router_id);
            differences(INSTANCE, &what, (first, there), here, &mut found.second);
        }
    }
    if is_cluster {
        services(first, second, &mut found);
    }
    found
}

/// A thing and where it stands.
type Placed<'a, T, P> = (&'a T, &'a P);

/// The instances by what names them on the wire.
fn routers(
    side: Side<'_>,
) -> impl Iterator<Item = ((u8, Family), Placed<'_, VrrpInstance, InstancePlaces>)> {
    let instances = side.config.vrrp_instances.iter();
    instances
        .zip(&side.places.instances)
        .map(|placed| ((placed.0.virtual_router_id, placed.0.family), placed))
}

/// The higher address breaks a tie: one that nobody has chosen.
fn priority_tie(
    first: Side<'_>,
    (other, other_places): Placed<'_, VrrpInstance, InstancePlaces>,
    (instance, places): Placed<'_, VrrpInstance, InstancePlaces>,
) -> Option<Diagnostic> {
    let priority = instance.priority;
    let there = place(
        first.sources,
        other_places.priority.unwrap_or(other_places.name),
    );
    let message = format!(
        "both directors of virtual_router_id {} have priority {priority}: who becomes MASTER is an \
         accident",
        instance.virtual_router_id
    );
    let tie = Diagnostic::warning(Code::PriorityTie, message)
        .at(
            places.priority.unwrap_or(places.name),
            format!("the same as in {there}"),
        )
        .because("of two equal priorities the one with the higher address of its interface wins")
        .help("give the director that is to be MASTER the higher priority");
    (other.priority == priority).then_some(tie)
}

/// Authentication must be the same, and no message shows a password.
fn passwords(
    first: Side<'_>,
    (other, other_places): Placed<'_, VrrpInstance, InstancePlaces>,
    (instance, places): Placed<'_, VrrpInstance, InstancePlaces>,
) -> Option<Diagnostic> {
    let (
        Version::V2 {
            authentication: here,
            ..
        },
        Version::V2 {
            authentication: there,
            ..
        },
    ) = (&instance.version, &other.version)
    else {
        return None;
    };
    let what = match (here, there) {
        (here, there) if here == there => return None,
        (Some(_), Some(_)) => "their passwords differ",
        (Some(_), None) => "this one has a password and the other has none",
        (None, _) => "this one has no password and the other has one",
    };
    let elsewhere = other_places.authentication.unwrap_or(other_places.name);
    let there = place(first.sources, elsewhere);
    let message = format!(
        "the two directors of virtual_router_id {} refuse each other's adverts: {what}",
        instance.virtual_router_id
    );
    let refused = Diagnostic::warning(Code::PeersDiffer, message)
        .at(
            places.authentication.unwrap_or(places.name),
            format!("other than in {there}"),
        )
        .because("each hears no other, so that both are MASTER")
        .help("write the same 'authentication' on both, 'auth_type PASS' and 'auth_pass' each on a line of its own");
    Some(refused)
}

/// By unicast a director speaks to its peers alone: each must name the other.
fn strangers(
    first: Side<'_>,
    (other, other_places): Placed<'_, VrrpInstance, InstancePlaces>,
    (instance, places): Placed<'_, VrrpInstance, InstancePlaces>,
) -> Option<Diagnostic> {
    let speaks_to = |from: &VrrpInstance, to: &VrrpInstance| {
        let Transport::Unicast { peers, .. } = &from.transport else {
            return true;
        };
        to.source
            .is_none_or(|source| peers.iter().any(|peer| peer.address == source))
    };
    let there = place(first.sources, other_places.name);
    let what = match (speaks_to(instance, other), speaks_to(other, instance)) {
        (true, true) => return None,
        (false, true) => "this one does not send to the other",
        (true, false) => "the other does not send to this one",
        (false, false) => "neither sends to the other",
    };
    let message = format!(
        "the two directors of virtual_router_id {} do not hear each other: {what}",
        instance.virtual_router_id
    );
    let deaf = Diagnostic::warning(Code::PeersDiffer, message)
        .at(places.name, format!("the other is in {there}"))
        .because("both are MASTER then")
        .help("list in each 'unicast_peer' what the other has as 'unicast_src_ip'");
    Some(deaf)
}

/// Pushes what differs between `here` and the thing of the `first` side. `what` names both.
fn differences<T, P>(
    table: &[Compared<T, P>],
    what: &str,
    (first, there): (Side<'_>, Placed<'_, T, P>),
    here: Placed<'_, T, P>,
    found: &mut Vec<Diagnostic>,
) {
    for compared in table {
        let [value, other] = [here.0, there.0].map(compared.value);
        if value == other {
            continue;
        }
        let (setting, consequence) = (compared.setting, compared.consequence);
        let elsewhere = place(first.sources, (compared.place)(there.1));
        found.push(
            Diagnostic::warning(
                Code::PeersDiffer,
                format!("the two directors differ in {setting} of {what}: {consequence}"),
            )
            .at((compared.place)(here.1), format!("here: {value}"))
            .because(format!("in {elsewhere}: {other}")),
        );
    }
}

fn services(first: Side<'_>, second: Side<'_>, found: &mut Found) {
    let mut others: BTreeMap<_, _> = placed_services(first).collect();
    for (key, here) in placed_services(second) {
        match others.remove(&key) {
            Some(there) => {
                differences(SERVICE, &key, (first, there), here, &mut found.second);
            }
            None => found.second.push(lonely(here, first)),
        }
    }
    let left = others.into_values();
    found.first.extend(left.map(|there| lonely(there, second)));
}

fn placed_services(
    side: Side<'_>,
) -> impl Iterator<Item = (String, Placed<'_, VirtualServer, ServicePlaces>)> {
    let services = side.config.virtual_servers.iter();
    services
        .zip(&side.places.services)
        .map(|placed| (placed.0.key().to_string(), placed))
}

/// A service of one director that the other has not.
fn lonely(
    (service, places): Placed<'_, VirtualServer, ServicePlaces>,
    other: Side<'_>,
) -> Diagnostic {
    let key = service.key();
    let name = name(other.sources);
    let message = format!("{name} has no virtual server {key}, which the other director has");
    Diagnostic::warning(Code::PeersDiffer, message)
        .at(places.head, "here alone")
        .because("when the other director is MASTER, clients of this service are not balanced")
        .help(format!("write it into {name} too, or take it out here"))
}

/// `FILE:LINE`.
fn place(sources: &Sources, span: Span) -> String {
    let name = sources.file(span.file).map_or("", Source::name);
    format!("{name}:{}", sources.line(span))
}

/// What messages call a configuration: its first file.
fn name(sources: &Sources) -> &str {
    let first = Span::default().file;
    sources.file(first).map_or("", Source::name)
}

/// As a peer compares them: the addresses alone, in any order.
fn addresses(addresses: &[VirtualAddress]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|vip| vip.address.addr()).collect()
}

fn transport(transport: &Transport) -> String {
    match transport {
        Transport::Multicast { group } => format!("multicast to {group}"),
        Transport::Unicast { .. } => "unicast".to_owned(),
        Transport::NoPeer => "none".to_owned(),
    }
}

fn persistence(persistence: Option<Persistence>) -> String {
    persistence.map_or_else(
        || "none".to_owned(),
        |Persistence {
             timeout,
             prefix_len,
         }| format!("{} s per /{prefix_len}", timeout.as_secs()),
    )
}

fn real_server(server: &RealServer) -> String {
    format!("{} weight {}", server.address, server.weight)
}

fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    let words: Vec<String> = items.iter().map(T::to_string).collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests;
