//! The ordered steps from one [`Desired`] to the next.
//!
//! What is needed is set before anything points at it, and what goes is released only when nothing
//! points at it any more:
//!
//! 1. interfaces, then service by service: its servers, its schedule, and only then those of its
//!    servers that the new schedule leaves out;
//! 2. gates opened, VIPs added, and what comes with them, in its order;
//! 3. what came with VIPs taken out, the last first, VIPs removed, gates closed;
//! 4. flows of failed servers purged, servers, services and interfaces forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::belongings::Belonging;
use super::desired::{Desired, OwnedAddress, Port, Server, Service};
use super::installed::{Installed, Published, ServerKey};
use crate::config::model::{Endpoint, Scheduler, ServiceKey};

/// One step. Between any two of them the tables are sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add an interface, or change its MAC.
    SetPort(u32, Port),
    /// Add a real server, or change how it is reached; it takes part in scheduling only after
    /// [`Change::SetService`].
    SetServer(ServiceKey, Server),
    /// Add a service closed, or publish new settings and a new schedule over servers set before.
    SetService(ServiceKey, Service),
    /// Open or close the gate of a service.
    SetActive(ServiceKey, bool),
    /// Put a VIP on its interface.
    AddAddress(OwnedAddress),
    /// Take a VIP away.
    RemoveAddress(OwnedAddress),
    /// Put in place what comes with a VIP.
    Put(Belonging),
    /// Take out what came with a VIP.
    Take(Belonging),
    /// Purge the flows of a server that failed.
    PurgeServer(ServiceKey, SocketAddr),
    /// Forget a server, purging its flows.
    RemoveServer(ServiceKey, SocketAddr),
    /// Forget a service that has no servers left.
    RemoveService(ServiceKey),
    /// Forget an interface.
    RemovePort(u32),
}

/// The steps from `old` to `new`.
pub fn diff(old: &Desired, new: &Desired) -> Vec<Change> {
    steps(&Installed::from(old), new)
}

/// The steps from what stands to what is wanted; none if that is the same.
pub fn steps(installed: &Installed, wanted: &Desired) -> Vec<Change> {
    let mut changes = Vec::new();
    put_first(installed, wanted, &mut changes);
    set_ports(installed, wanted, &mut changes);
    for (key, service) in &wanted.services {
        publish(installed, *key, service, &mut changes);
    }
    open_gates(installed, wanted, &mut changes);
    take_belongings(installed, wanted, &mut changes);
    add_addresses(installed, wanted, &mut changes);
    put_belongings(installed, wanted, &mut changes);
    remove_addresses(installed, wanted, &mut changes);
    take_last(installed, wanted, &mut changes);
    close_gates(installed, wanted, &mut changes);
    for (key, service) in &wanted.services {
        narrow(installed, *key, service, &mut changes);
    }
    purge_failed(installed, wanted.services.iter(), &mut changes);
    forget(installed, wanted, &mut changes);
    changes
}

/// Interfaces come before everything that stands on them, one that is to be another having gone; filters
/// come before what they filter.
fn put_first(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    for link in wanted.belongings.iter().filter(|other| is_first(other)) {
        if !installed.belongings.contains(link) {
            let standing = installed.belongings.iter();
            let replaced = standing.filter(|old| have_one_name(old, link));
            changes.extend(replaced.cloned().map(Change::Take));
            changes.push(Change::Put(link.clone()));
        }
    }
}

/// They go after all that, and so do entries of groups.
fn take_last(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    for old in installed.belongings.iter().filter(|other| is_last(other)) {
        let mut new = wanted.belongings.iter();
        if !new.any(|new| new == old || have_one_name(new, old)) {
            changes.push(Change::Take(old.clone()));
        }
    }
}

/// Whether it comes before VIPs.
const fn is_first(belonging: &Belonging) -> bool {
    match belonging {
        Belonging::Link(_) | Belonging::Silence(_) => true,
        Belonging::Route(_) | Belonging::Rule(_) | Belonging::Group(_) => false,
    }
}

/// Whether it goes after VIPs. That nobody waits for an entry of a group is why that comes after them, too.
const fn is_last(belonging: &Belonging) -> bool {
    is_first(belonging) || matches!(belonging, Belonging::Group(_))
}

fn have_one_name(one: &Belonging, other: &Belonging) -> bool {
    matches!((one, other), (Belonging::Link(one), Belonging::Link(other)) if one.name == other.name)
}

/// The last first: a route may lead to the gateway of the next.
fn take_belongings(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    let standing = installed.belongings.iter().rev();
    let going = standing.filter(|old| !is_last(old) && !wanted.belongings.contains(old));
    changes.extend(going.cloned().map(Change::Take));
}

fn put_belongings(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    let coming = wanted.belongings.iter();
    let coming = coming.filter(|new| !is_first(new) && !installed.belongings.contains(new));
    changes.extend(coming.cloned().map(Change::Put));
}

/// The steps of [`steps`] that are about the servers and schedules of these services, which stand:
/// all there are if nothing else differs.
pub fn steps_of(
    installed: &Installed,
    wanted: &Desired,
    keys: &BTreeSet<ServiceKey>,
) -> Vec<Change> {
    let services = || {
        keys.iter()
            .filter_map(|key| wanted.services.get_key_value(key))
    };
    let mut changes = Vec::new();
    for (key, service) in services() {
        publish(installed, *key, service, &mut changes);
    }
    for (key, service) in services() {
        narrow(installed, *key, service, &mut changes);
    }
    purge_failed(installed, services(), &mut changes);
    for (key, service) in services() {
        let first = (*key, SocketAddr::from(([0, 0, 0, 0], 0)));
        let records = installed.servers.range(first..).map(|(server, _)| server);
        let records = records.take_while(|(of, _)| of == key);
        forget_servers(records, |_| Some(service), &mut changes);
    }
    changes
}

fn set_ports(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    let stands = |ifindex, port| installed.ports.get(ifindex) == Some(port);
    let differing = wanted.ports.iter().filter(|(i, port)| !stands(i, port));
    changes.extend(differing.map(|(ifindex, port)| Change::SetPort(*ifindex, *port)));
}

/// Servers that the schedule which stands may point at and the new one will not are touched only
/// after the new one is published: they may be dead.
fn publish(installed: &Installed, key: ServiceKey, service: &Service, changes: &mut Vec<Change>) {
    let published = installed.services.get(&key);
    let (before, after): (Vec<_>, Vec<_>) = service
        .servers
        .iter()
        .filter(|server| {
            installed.servers.get(&(key, server.address)) != Some(&Some((*server).clone()))
        })
        .partition(|server| {
            server.is_eligible() || !published.is_some_and(|p| p.may_schedule(server.address))
        });
    let set = |server: &Server| Change::SetServer(key, server.clone());
    changes.extend(before.into_iter().map(set));
    let lasting = lasting(published, service);
    let service = Service {
        entrances: service.entrances.union(&lasting).copied().collect(),
        ..service.clone()
    };
    if !published.is_some_and(|p| has_contents(p, &service)) {
        changes.push(Change::SetService(key, service));
    }
    changes.extend(after.into_iter().map(set));
}

/// Entrances that a service has and shall not have: they go with the VIP, not before it.
fn lasting(published: Option<&Published>, wanted: &Service) -> BTreeSet<Endpoint> {
    let contents = published.and_then(|published| published.contents.as_ref());
    let entrances = contents.map(|service| service.entrances.difference(&wanted.entrances));
    entrances.into_iter().flatten().copied().collect()
}

/// Takes entrances away.
fn narrow(installed: &Installed, key: ServiceKey, service: &Service, changes: &mut Vec<Change>) {
    if !lasting(installed.services.get(&key), service).is_empty() {
        changes.push(Change::SetService(key, service.clone()));
    }
}

fn has_contents(published: &Published, service: &Service) -> bool {
    let Service {
        active: _,
        lease,
        scheduler,
        persistence,
        one_packet,
        servers,
        peers,
        virtual_mac,
        entrances,
    } = service;
    published.contents.as_ref().is_some_and(|stands| {
        stands.scheduler == *scheduler
            && stands.persistence == *persistence
            && stands.one_packet == *one_packet
            && stands.servers == *servers
            && stands.lease == *lease
            && stands.peers == *peers
            && stands.virtual_mac == *virtual_mac
            && stands.entrances == *entrances
    })
}

fn is_open(installed: &Installed, key: &ServiceKey) -> bool {
    installed.services.get(key).is_some_and(|p| p.active)
}

fn open_gates(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    for (key, service) in &wanted.services {
        if service.active && !is_open(installed, key) {
            changes.push(Change::SetActive(*key, true));
        }
    }
}

/// An address that only changes its label or prefix must go before it comes: the kernel refuses to
/// have it twice.
fn add_addresses(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    for address in wanted.addresses.difference(&installed.addresses) {
        let going = installed.addresses.difference(&wanted.addresses);
        let replaced = going.filter(|old| replaces(address, old));
        changes.extend(replaced.cloned().map(Change::RemoveAddress));
        changes.push(Change::AddAddress(address.clone()));
    }
}

fn remove_addresses(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    for address in installed.addresses.difference(&wanted.addresses) {
        if !wanted.addresses.iter().any(|new| replaces(new, address)) {
            changes.push(Change::RemoveAddress(address.clone()));
        }
    }
}

fn replaces(new: &OwnedAddress, old: &OwnedAddress) -> bool {
    new.ifindex == old.ifindex && new.address.addr() == old.address.addr() && new != old
}

fn close_gates(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    for (key, published) in &installed.services {
        if published.active && !wanted.services.get(key).is_some_and(|s| s.active) {
            changes.push(Change::SetActive(*key, false));
        }
    }
}

/// A predecessor's record may be of a server that served: it is purged if it does not serve now.
fn purge_failed<'a>(
    installed: &Installed,
    wanted: impl Iterator<Item = (&'a ServiceKey, &'a Service)>,
    changes: &mut Vec<Change>,
) {
    for (key, service) in wanted {
        for server in service.servers.iter().filter(|server| !server.serving) {
            let record = installed.servers.get(&(*key, server.address));
            if record.is_some_and(|r| r.as_ref().is_none_or(|old| old.serving)) {
                changes.push(Change::PurgeServer(*key, server.address));
            }
        }
    }
}

/// A service on its way out.
const EMPTY: Service = Service {
    active: false,
    lease: None,
    scheduler: Scheduler::RoundRobin,
    persistence: None,
    one_packet: false,
    servers: Vec::new(),
    peers: BTreeMap::new(),
    virtual_mac: None,
    entrances: BTreeSet::new(),
};

/// The schedule of a service that goes is emptied before its servers go.
fn forget(installed: &Installed, wanted: &Desired, changes: &mut Vec<Change>) {
    let gone = |key: &ServiceKey| !wanted.services.contains_key(key);
    for (key, published) in installed.services.iter().filter(|(key, _)| gone(key)) {
        if published
            .contents
            .as_ref()
            .is_none_or(|s| !s.servers.is_empty())
        {
            changes.push(Change::SetService(*key, EMPTY));
        }
    }
    let records = installed.servers.keys();
    forget_servers(records, |key| wanted.services.get(key), changes);
    let services = installed.services.keys().copied().filter(gone);
    changes.extend(services.map(Change::RemoveService));
    let ports = installed.ports.keys().copied();
    let unused = ports.filter(|ifindex| !wanted.ports.contains_key(ifindex));
    changes.extend(unused.map(Change::RemovePort));
}

fn forget_servers<'a>(
    records: impl Iterator<Item = &'a ServerKey>,
    wanted: impl Fn(&ServiceKey) -> Option<&'a Service>,
    changes: &mut Vec<Change>,
) {
    for (key, address) in records {
        let mut servers = wanted(key).into_iter().flat_map(|service| &service.servers);
        if !servers.any(|server| server.address == *address) {
            changes.push(Change::RemoveServer(*key, *address));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::{Family, Mark};
    use crate::plan::belongings::{Route, Rule, VirtualLink};
    use crate::plan::testing::{any_desired, endpoint, service_key, unsound};

    fn carry_out(installed: &mut Installed, changes: &[Change], wanted: &Desired) {
        for (step, change) in changes.iter().enumerate() {
            if let Change::AddAddress(address) = change {
                let vip = address.address.addr();
                let open = |(key, service): (&ServiceKey, &Service)| {
                    let is_of_it = matches!(key, ServiceKey::Endpoint(own) if own.vip == vip);
                    !service.active || !is_of_it || is_open(installed, key)
                };
                assert!(wanted.services.iter().all(open), "{address:?} too early");
            }
            installed.apply(change);
            if let Some(fault) = unsound(installed) {
                panic!("after step {step} of {changes:#?}: {fault}");
            }
        }
    }

    /// What came with VIPs stands in the order in which it came: that is history.
    fn in_order(mut installed: Installed) -> Installed {
        installed
            .belongings
            .sort_by_key(|belonging| format!("{belonging:?}"));
        installed
    }

    /// Interfaces come before all that stands on them and go after it; routes and rules come after VIPs
    /// and go before them, in reverse.
    #[test]
    fn what_comes_with_a_vip_comes_after_it_and_goes_before_it() {
        let link = Belonging::Link(VirtualLink {
            name: "vrrp.51".to_owned(),
            parent: 2,
            mac: [0, 0, 0x5e, 0, 1, 51],
            is_v6: false,
            carries_v6: false,
        });
        let route = Belonging::Route(Route::to("10.0.0.0/8".parse().unwrap()));
        let rule = Belonging::Rule(Rule::all(false, 100));
        let vip = OwnedAddress::new(9, "192.168.1.200/24".parse().unwrap());
        let owning = Desired {
            addresses: [vip.clone()].into(),
            belongings: vec![link.clone(), route.clone(), rule.clone()],
            ..Desired::default()
        };
        let took = [
            Change::Put(link.clone()),
            Change::AddAddress(vip.clone()),
            Change::Put(route.clone()),
            Change::Put(rule.clone()),
        ];
        assert_eq!(diff(&Desired::default(), &owning), took);
        let gave = [
            Change::Take(rule),
            Change::Take(route),
            Change::RemoveAddress(vip),
            Change::Take(link),
        ];
        assert_eq!(diff(&owning, &Desired::default()), gave);
    }

    /// Clients that still send to a VIP which is about to go are served until it went.
    #[test]
    fn entrances_go_with_their_vip_and_come_before_it() {
        let key = ServiceKey::Mark(Mark {
            mark: 1,
            family: Family::V4,
        });
        let vip = |index| OwnedAddress::new(2, ipnet::IpNet::new(endpoint(index).vip, 32).unwrap());
        let wanted = |index| {
            let service = Service {
                active: true,
                entrances: [endpoint(index)].into(),
                ..EMPTY
            };
            Desired {
                services: [(key, service)].into(),
                addresses: [vip(index)].into(),
                ..Desired::default()
            }
        };
        let set = |entrances: &[Endpoint]| {
            let entrances = entrances.iter().copied().collect();
            let service = Service {
                active: true,
                entrances,
                ..EMPTY
            };
            Change::SetService(key, service)
        };
        let steps = diff(&wanted(0), &wanted(1));
        let expected = [
            set(&[endpoint(0), endpoint(1)]),
            Change::AddAddress(vip(1)),
            Change::RemoveAddress(vip(0)),
            set(&[endpoint(1)]),
        ];
        assert_eq!(steps, expected);
    }

    proptest! {
        #[test]
        fn what_differs_in_some_services_takes_the_steps_of_those(
            a in any_desired(),
            b in any_desired(),
        ) {
            // The servers of each service that both have become those of the other.
            let mut wanted = a.clone();
            let mut keys = BTreeSet::new();
            for (key, service) in &mut wanted.services {
                if let Some(other) = b.services.get(key) {
                    keys.insert(*key);
                    service.servers.clone_from(&other.servers);
                    service.scheduler = other.scheduler;
                }
            }
            let installed = Installed::from(&a);
            prop_assert_eq!(steps_of(&installed, &wanted, &keys), steps(&installed, &wanted));
        }

        #[test]
        fn every_step_is_sound_and_the_last_one_arrives(a in any_desired(), b in any_desired()) {
            let mut installed = Installed::from(&a);
            carry_out(&mut installed, &diff(&a, &b), &b);
            prop_assert_eq!(steps(&installed, &b), vec![]);
            prop_assert_eq!(in_order(installed), in_order(Installed::from(&b)));
        }

        #[test]
        fn nothing_is_done_where_nothing_differs(a in any_desired()) {
            prop_assert_eq!(diff(&a, &a), vec![]);
        }

        #[test]
        fn after_a_step_that_failed_the_rest_is_still_sound(
            a in any_desired(), b in any_desired(), c in any_desired(), cut in 0_usize..12,
        ) {
            let mut installed = Installed::from(&a);
            let changes = diff(&a, &b);
            carry_out(&mut installed, &changes[..cut.min(changes.len())], &b);
            let rest = steps(&installed, &c);
            carry_out(&mut installed, &rest, &c);
            prop_assert_eq!(in_order(installed), in_order(Installed::from(&c)));
        }

        #[test]
        fn a_predecessors_tables_are_taken_over_soundly(old in any_desired(), new in any_desired()) {
            let truth = Installed::from(&old);
            let gates = truth.services.iter().map(|(key, p)| (*key, p.active)).collect();
            let known = Installed::inherited(&gates, truth.servers.keys().copied());
            let mut tables = Installed {
                addresses: known.addresses.clone(),
                belongings: Vec::new(),
                ..truth
            };
            carry_out(&mut tables, &steps(&known, &new), &new);
            // Ports that only the predecessor used are unknown, and stay.
            tables.ports.retain(|ifindex, _| new.ports.contains_key(ifindex));
            prop_assert_eq!(in_order(tables), in_order(Installed::from(&new)));
        }

        #[test]
        fn a_failed_server_is_purged_once_and_after_the_schedule(a in any_desired(), b in any_desired()) {
            let changes = diff(&a, &b);
            for (key, service) in &b.services {
                for server in &service.servers {
                    let old = a.services.get(key)
                        .and_then(|s| s.servers.iter().find(|old| old.address == server.address));
                    let failed = old.is_some_and(|old| old.serving) && !server.serving;
                    let purge = Change::PurgeServer(*key, server.address);
                    let at: Vec<_> = (0..changes.len()).filter(|i| changes[*i] == purge).collect();
                    prop_assert_eq!(at.len(), usize::from(failed));
                    let scheduled = changes.iter()
                        .rposition(|c| matches!(c, Change::SetService(k, _) if k == key));
                    if let (Some(purged), Some(scheduled)) = (at.first(), scheduled) {
                        prop_assert!(scheduled < *purged);
                    }
                }
            }
        }
    }

    #[test]
    fn a_director_that_yields_drops_the_vip_before_it_closes_the_gate() {
        let address = OwnedAddress::new(2, "192.168.1.200/24".parse().unwrap());
        let key = service_key(0);
        let closed = Desired {
            services: [(key, EMPTY)].into(),
            ..Desired::default()
        };
        let open = Service {
            active: true,
            ..EMPTY
        };
        let owning = Desired {
            services: [(key, open)].into(),
            addresses: [address.clone()].into(),
            ..Desired::default()
        };
        let took = [
            Change::SetActive(key, true),
            Change::AddAddress(address.clone()),
        ];
        let gave = [
            Change::RemoveAddress(address),
            Change::SetActive(key, false),
        ];
        assert_eq!(diff(&closed, &owning), took);
        assert_eq!(diff(&owning, &closed), gave);
    }

    #[test]
    fn a_relabelled_vip_goes_before_it_comes() {
        let plain = OwnedAddress::new(2, "192.168.1.200/24".parse().unwrap());
        let labelled = OwnedAddress {
            label: Some("eth0:0".to_owned()),
            ..plain.clone()
        };
        let with = |address: &OwnedAddress| Desired {
            addresses: [address.clone()].into(),
            ..Desired::default()
        };
        let expected = [
            Change::RemoveAddress(plain.clone()),
            Change::AddAddress(labelled.clone()),
        ];
        assert_eq!(diff(&with(&plain), &with(&labelled)), expected);
    }
}
