//! Whether the configurations of two directors fit together.
//!
//! Instances that share a `virtual_router_id` (and the family of their addresses) are taken for the
//! two halves of one virtual router; configurations with such a pair are those of one cluster. What
//! must agree stands in two tables, one entry per setting: [`INSTANCE`] and [`SERVICE`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::diagnostic::{Code, Diagnostic};
use super::model::{Config, Persistence, RealServer, ServiceKey, VirtualServer, VrrpInstance};
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
const INSTANCE: &[Compared<VrrpInstance, InstancePlaces>] = &[Compared {
    setting: "virtual_ipaddress",
    value: |instance| list(&addresses(instance)),
    place: |places| places.addresses.first().copied().unwrap_or(places.name),
    consequence: "keepalived 2.2 drops adverts with other addresses than its own, so that each \
                  director hears no other and both are MASTER",
}];

/// What two directors must agree on of a service.
const SERVICE: &[Compared<VirtualServer, ServicePlaces>] = &[
    Compared {
        setting: "lb_algo",
        value: |service| service.scheduler.name().to_owned(),
        place: |places| places.head,
        consequence: "clients are spread in another way after a change of director",
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

/// The instances by what names them on the wire: VRID and whether it is IPv6.
fn routers(
    side: Side<'_>,
) -> impl Iterator<Item = ((u8, bool), Placed<'_, VrrpInstance, InstancePlaces>)> {
    let instances = side.config.vrrp_instances.iter();
    instances.zip(&side.places.instances).map(|placed| {
        let v6 = addresses(placed.0).iter().any(IpAddr::is_ipv6);
        ((placed.0.virtual_router_id, v6), placed)
    })
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
                let what = key.to_string();
                differences(SERVICE, &what, (first, there), here, &mut found.second);
            }
            None => found.second.push(lonely(here, first)),
        }
    }
    let left = others.into_values();
    found.first.extend(left.map(|there| lonely(there, second)));
}

fn placed_services(
    side: Side<'_>,
) -> impl Iterator<Item = (ServiceKey, Placed<'_, VirtualServer, ServicePlaces>)> {
    let services = side.config.virtual_servers.iter();
    services
        .zip(&side.places.services)
        .map(|placed| (placed.0.key, placed))
}

/// A service of one director that the other has not.
fn lonely(
    (service, places): Placed<'_, VirtualServer, ServicePlaces>,
    other: Side<'_>,
) -> Diagnostic {
    let key = service.key;
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
fn addresses(instance: &VrrpInstance) -> BTreeSet<IpAddr> {
    let vips = instance.virtual_addresses.iter();
    vips.map(|vip| vip.address.addr()).collect()
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
mod tests {
    use super::*;
    use crate::config::{Loaded, parse};

    fn file(state: &str, priority: u8, vips: &str, services: &str) -> String {
        format!(
            "vrrp_instance VI_1 {{\n    state {state}\n    interface eth0\n    virtual_router_id 51\n    \
             priority {priority}\n    virtual_ipaddress {{\n        {vips}\n    }}\n}}\n{services}"
        )
    }

    fn service(vip: &str, algo: &str, server: &str) -> String {
        format!(
            "virtual_server {vip} 80 {{\n    lb_algo {algo}\n    lb_kind DR\n    protocol TCP\n    \
             real_server {server} 80 {{\n        weight 1\n    }}\n}}\n"
        )
    }

    fn compared(a: &str, b: &str) -> (Vec<String>, Vec<String>) {
        let [a, b] = [("a.conf", a), ("b.conf", b)]
            .map(|(name, text)| parse(name, text.as_bytes()).unwrap());
        let found = compare(side(&a), side(&b));
        let lines = |loaded: &Loaded, found: Vec<Diagnostic>| {
            let mut diagnostics = crate::config::Diagnostics::new(
                loaded.diagnostics.sources().clone(),
                crate::config::diagnostic::Collector::default(),
            );
            diagnostics.add(found);
            let lines = diagnostics.iter().map(|item| diagnostics.one_line(item));
            lines.collect()
        };
        (lines(&a, found.first), lines(&b, found.second))
    }

    fn side(loaded: &Loaded) -> Side<'_> {
        Side {
            config: &loaded.config,
            places: &loaded.places,
            sources: loaded.diagnostics.sources(),
        }
    }

    #[test]
    fn a_cluster_that_agrees_is_left_alone() {
        let services = service("10.0.0.100", "rr", "10.0.0.1");
        let a = file("MASTER", 100, "10.0.0.100\n10.0.0.101", &services);
        let b = file("BACKUP", 99, "10.0.0.101\n10.0.0.100", &services);
        assert_eq!(compared(&a, &b), (vec![], vec![]));
    }

    #[test]
    fn no_cluster_is_not_compared() {
        let a = file(
            "MASTER",
            100,
            "10.0.0.100",
            &service("10.0.0.100", "rr", "10.0.0.1"),
        );
        let b = a
            .replace("router_id 51", "router_id 52")
            .replace("lb_algo rr", "lb_algo wrr");
        assert_eq!(compared(&a, &b), (vec![], vec![]));
    }

    #[test]
    fn equal_priorities_are_a_tie() {
        let (first, second) = compared(
            &file("MASTER", 100, "10.0.0.100", ""),
            &file("BACKUP", 100, "10.0.0.100", ""),
        );
        assert_eq!(first, [""; 0]);
        assert_eq!(second.len(), 1, "{second:?}");
        let tail = "warning[priority-tie]: both directors of virtual_router_id 51 have priority 100: who becomes MASTER is an accident";
        assert!(
            second[0].starts_with("b.conf:") && second[0].ends_with(tail),
            "{second:?}"
        );
    }

    #[test]
    fn other_addresses_make_two_masters() {
        let (_, second) = compared(
            &file("MASTER", 100, "10.0.0.100", ""),
            &file("BACKUP", 99, "10.0.0.100\n10.0.0.101", ""),
        );
        assert_eq!(second.len(), 1, "{second:?}");
        assert!(
            second[0].contains("differ in virtual_ipaddress of virtual_router_id 51"),
            "{second:?}"
        );
        assert!(second[0].contains("both are MASTER"), "{second:?}");
    }

    #[test]
    fn the_other_file_and_line_are_named() {
        let [a, b] = [("MASTER", 100, "10.0.0.100"), ("BACKUP", 100, "10.0.0.101")]
            .map(|(state, priority, vip)| file(state, priority, vip, ""));
        let [a, b] = [("a.conf", a), ("b.conf", b)]
            .map(|(name, text)| parse(name, text.as_bytes()).unwrap());
        let mut diagnostics = b.diagnostics.clone();
        diagnostics.add(compare(side(&a), side(&b)).second);
        let text = diagnostics.render(false);
        assert!(text.contains("the same as in a.conf:"), "{text}");
        assert!(text.contains("here: 10.0.0.101"), "{text}");
        assert!(text.contains(": 10.0.0.100\n"), "{text}");
    }

    #[test]
    fn services_must_be_the_same_on_both() {
        let vips = "10.0.0.100\n10.0.0.101\n10.0.0.102";
        let a = service("10.0.0.100", "rr", "10.0.0.1") + &service("10.0.0.101", "rr", "10.0.0.1");
        let b = service("10.0.0.100", "wrr", "10.0.0.2") + &service("10.0.0.102", "rr", "10.0.0.1");
        let (first, second) = compared(
            &file("MASTER", 100, vips, &a),
            &file("BACKUP", 99, vips, &b),
        );
        assert_eq!(
            first,
            [
                "a.conf:20:1: warning[peers-differ]: b.conf has no virtual server tcp/10.0.0.101:80, which the other director has"
            ]
        );
        let said = second.join("\n");
        for part in [
            "differ in lb_algo of tcp/10.0.0.100:80",
            "differ in the real servers of tcp/10.0.0.100:80",
            "a.conf has no virtual server tcp/10.0.0.102:80",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert_eq!(second.len(), 3, "{said}");
    }
}
