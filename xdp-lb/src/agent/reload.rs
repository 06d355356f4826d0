//! What a new configuration changes, in words.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::model::{Config, Endpoint, RealServer, VirtualServer, VrrpInstance, XdpLb};

/// Who has which mark.
type Marks = BTreeMap<u32, BTreeSet<Endpoint>>;

/// What changes from one configuration to the next, one line each, in the order of the new file.
pub fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let named = |instance: &VrrpInstance| instance.name.clone();
    let (was, is) = (&old.vrrp_instances, &new.vrrp_instances);
    blocks("vrrp_instance", (was, is), named, &mut lines);
    objects(old, new, &mut lines);
    services(&old.virtual_servers, &new.virtual_servers, &mut lines);
    if old.xdp_lb.fail_static != new.xdp_lb.fail_static {
        let becomes = if new.xdp_lb.fail_static { "on" } else { "off" };
        lines.push(format!("xdp_lb: fail_static becomes {becomes}"));
    }
    if old.xdp_lb.drain_timeout != new.xdp_lb.drain_timeout {
        let becomes = new.xdp_lb.drain_timeout.as_secs();
        lines.push(format!("xdp_lb: drain_timeout becomes {becomes}"));
    }
    marks(&old.xdp_lb.marks, &new.xdp_lb.marks, &mut lines);
    lines
}

/// Marks of which other packets have them now.
fn marks(old: &Marks, new: &Marks, lines: &mut Vec<String>) {
    let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for mark in all {
        let (was, is) = (old.get(mark), new.get(mark));
        if was != is {
            let is = is.into_iter().flatten().map(Endpoint::to_string);
            let is: Vec<_> = is.collect();
            let is = if is.is_empty() {
                "nobody".to_owned()
            } else {
                is.join(", ")
            };
            lines.push(format!("the mark {mark} is that of {is}"));
        }
    }
}

/// Settings that differ and that a running agent cannot change.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let timeouts = old.global.timeouts != new.global.timeouts;
    let daemon = old.global.sync != new.global.sync;
    let (old, new) = (&old.xdp_lb, &new.xdp_lb);
    let XdpLb {
        interfaces,
        xdp_mode,
        metrics,
        connections,
        empty_pool,
        // In force at once.
        fail_static: _,
        drain_timeout: _,
        marks: _,
        sync,
    } = new;
    let settings = [
        ("lvs_timeouts", timeouts),
        ("interface", old.interfaces != *interfaces),
        ("xdp_mode", old.xdp_mode != *xdp_mode),
        ("metrics", old.metrics != *metrics),
        ("connections", old.connections != *connections),
        ("empty_pool", old.empty_pool != *empty_pool),
        ("sync", old.sync != *sync),
        ("lvs_sync_daemon", daemon && sync.is_some()),
    ];
    let differing = settings.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(name, _)| name).collect()
}

/// What instances and services refer to, and what stands for itself.
fn objects(old: &Config, new: &Config, lines: &mut Vec<String>) {
    let (was, is) = (&old.sync_groups, &new.sync_groups);
    blocks("vrrp_sync_group", (was, is), |own| own.name.clone(), lines);
    let (was, is) = (&old.scripts, &new.scripts);
    blocks("vrrp_script", (was, is), |own| own.name.clone(), lines);
    let (was, is) = (&old.track_files, &new.track_files);
    blocks("track_file", (was, is), |own| own.name.clone(), lines);
    let (was, is) = (&old.track_processes, &new.track_processes);
    blocks(
        "vrrp_track_process",
        (was, is),
        |own| own.name.clone(),
        lines,
    );
    let others = [
        ("global_defs", old.global != new.global),
        (
            "static_ipaddress",
            old.static_addresses != new.static_addresses,
        ),
        ("static_routes", old.static_routes != new.static_routes),
        ("static_rules", old.static_rules != new.static_rules),
        (
            "the pace of announcements",
            old.announcements != new.announcements,
        ),
    ];
    let changed = others.into_iter().filter(|(_, changed)| *changed);
    lines.extend(changed.map(|(name, _)| format!("{name} changed")));
}

/// Blocks that have names.
fn blocks<T: PartialEq>(
    kind: &str,
    (old, new): (&[T], &[T]),
    named: impl Fn(&T) -> String,
    lines: &mut Vec<String>,
) {
    let mut gone: BTreeMap<_, _> = old.iter().map(|block| (named(block), block)).collect();
    for block in new {
        let name = named(block);
        match gone.remove(&name) {
            None => lines.push(format!("{kind} {name} added")),
            Some(before) if before != block => lines.push(format!("{kind} {name} changed")),
            Some(_) => {}
        }
    }
    lines.extend(gone.keys().map(|name| format!("{kind} {name} removed")));
}

fn services(old: &[VirtualServer], new: &[VirtualServer], lines: &mut Vec<String>) {
    let named = |service: &VirtualServer| service.key().to_string();
    let mut gone: BTreeMap<_, _> = old.iter().map(|s| (named(s), s)).collect();
    for service in new {
        let key = named(service);
        match gone.remove(&key) {
            None => lines.push(format!("{key} added")),
            Some(before) => service_changes(&key, before, service, lines),
        }
    }
    lines.extend(gone.keys().map(|key| format!("{key} removed")));
}

fn service_changes(key: &str, old: &VirtualServer, new: &VirtualServer, lines: &mut Vec<String>) {
    let VirtualServer {
        frontend,
        scheduler,
        forwarding,
        persistence,
        one_packet,
        quorum,
        sorry_server,
        omega,
        ha_suspend,
        smtp_alert,
        expire_quiescent,
        real_servers,
    } = new;
    let settings = [
        ("addresses", old.frontend != *frontend),
        ("lb_kind", old.forwarding != *forwarding),
        ("persistence", old.persistence != *persistence),
        ("ops", old.one_packet != *one_packet),
        ("quorum", old.quorum != *quorum),
        ("sorry_server", old.sorry_server != *sorry_server),
        ("omega", old.omega != *omega),
        ("ha_suspend", old.ha_suspend != *ha_suspend),
        ("smtp_alert", old.smtp_alert != *smtp_alert),
        (
            "expire_quiescent",
            old.expire_quiescent != *expire_quiescent,
        ),
    ];
    if old.scheduler != *scheduler {
        let (was, is) = (old.scheduler.name(), scheduler.name());
        lines.push(format!("{key}: scheduler {was} becomes {is}"));
    }
    let changed = settings.into_iter().filter(|(_, changed)| *changed);
    lines.extend(changed.map(|(name, _)| format!("{key}: {name} changed")));
    let mut gone: BTreeMap<_, _> = old.real_servers.iter().map(|s| (s.address, s)).collect();
    for server in real_servers {
        let address = server.address;
        match gone.remove(&address) {
            None => lines.push(format!("{key}: real server {address} added")),
            Some(before) => server_changes(key, before, server, lines),
        }
    }
    let removed = gone
        .keys()
        .map(|address| format!("{key}: real server {address} removed"));
    lines.extend(removed);
}

fn server_changes(key: &str, old: &RealServer, new: &RealServer, lines: &mut Vec<String>) {
    let RealServer {
        address,
        weight,
        forwarding,
        limit,
        inhibit_on_failure,
        slow_start,
        notify_up,
        notify_down,
        smtp_alert,
        checks,
    } = new;
    let settings = [
        ("lvs_method", old.forwarding != *forwarding),
        ("connection limit", old.limit != *limit),
        (
            "inhibit_on_failure",
            old.inhibit_on_failure != *inhibit_on_failure,
        ),
        ("slow_start", old.slow_start != *slow_start),
        ("notify_up", old.notify_up != *notify_up),
        ("notify_down", old.notify_down != *notify_down),
        ("smtp_alert", old.smtp_alert != *smtp_alert),
    ];
    if old.weight != *weight {
        let was = old.weight;
        lines.push(format!("{key}: weight of {address} {was} becomes {weight}"));
    }
    let changed = settings.into_iter().filter(|(_, changed)| *changed);
    lines.extend(changed.map(|(name, _)| format!("{key}: {name} of {address} changed")));
    if old.checks != *checks {
        lines.push(format!("{key}: checks of {address} changed"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Scheduler, XdpMode};
    use crate::plan::testing::{instance, websocket};

    #[test]
    fn a_change_of_fail_static_is_told() {
        let mut new = websocket();
        new.xdp_lb.fail_static = true;
        let lines = differences(&websocket(), &new);
        assert_eq!(lines, ["xdp_lb: fail_static becomes on"]);
        let lines = differences(&new, &websocket());
        assert_eq!(lines, ["xdp_lb: fail_static becomes off"]);
    }

    #[test]
    fn who_has_which_mark_is_told() {
        let marks = |text: &str| {
            let loaded = crate::config::parse("test.conf", text.as_bytes());
            let config = loaded.unwrap_or_else(|found| panic!("{}", found.render(false)));
            config.config
        };
        let old =
            marks("xdp_lb {\nfwmark 1 {\ntcp 10.0.0.1:80\n}\nfwmark 2 {\nudp 10.0.0.1\n}\n}\n");
        let new = marks("xdp_lb {\nfwmark 1 {\ntcp 10.0.0.1:80,443\n}\n}\n");
        let expected = [
            "the mark 1 is that of tcp/10.0.0.1:80, tcp/10.0.0.1:443",
            "the mark 2 is that of nobody",
        ];
        assert_eq!(differences(&old, &new), expected);
    }

    #[test]
    fn what_instances_refer_to_is_told_of() {
        let read = |text: &str| {
            let loaded = crate::config::parse("test.conf", text.as_bytes());
            loaded
                .unwrap_or_else(|found| panic!("{}", found.render(false)))
                .config
        };
        let old = read(
            "global_defs {\nrouter_id a\n}\nvrrp_script one {\nscript \"/bin/true\"\n}\n\
             vrrp_script two {\nscript \"/bin/true\"\n}\ntrack_file f {\nfile /tmp/f\n}\n",
        );
        let new = read(
            "global_defs {\nrouter_id b\n}\nvrrp_script one {\nscript \"/bin/true\"\ninterval 5\n}\n\
             vrrp_track_process p {\nprocess nginx\n}\ntrack_file f {\nfile /tmp/g\n}\n\
             static_routes {\n10.0.0.0/8 dev eth0\n}\n",
        );
        let expected = [
            "vrrp_script one changed",
            "vrrp_script two removed",
            "track_file f changed",
            "vrrp_track_process p added",
            "global_defs changed",
            "static_routes changed",
        ];
        assert_eq!(differences(&old, &new), expected);
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert_eq!(differences(&websocket(), &websocket()), [""; 0]);
        assert_eq!(
            needs_restart(&Config::default(), &Config::default()),
            [""; 0]
        );
    }

    #[test]
    fn every_change_is_one_line() {
        let mut new = websocket();
        new.vrrp_instances[0].priority = 99;
        new.vrrp_instances
            .push(instance("VI_2", "eth1", "10.0.0.1"));
        let service = &mut new.virtual_servers[0];
        service.scheduler = Scheduler::RoundRobin;
        service.real_servers[0].weight = 5;
        service.real_servers[0].checks.clear();
        service.real_servers[1].address.set_port(81);
        let expected = [
            "vrrp_instance VI_1 changed",
            "vrrp_instance VI_2 added",
            "tcp/192.168.1.200:80: scheduler wrr becomes rr",
            "tcp/192.168.1.200:80: weight of 192.168.1.102:80 1 becomes 5",
            "tcp/192.168.1.200:80: checks of 192.168.1.102:80 changed",
            "tcp/192.168.1.200:80: real server 192.168.1.103:81 added",
            "tcp/192.168.1.200:80: real server 192.168.1.103:80 removed",
        ];
        assert_eq!(differences(&websocket(), &new), expected);
        let gone = ["vrrp_instance VI_1 removed", "tcp/192.168.1.200:80 removed"];
        assert_eq!(differences(&websocket(), &Config::default()), gone);
    }

    #[test]
    fn what_only_a_restart_can_change_is_named() {
        let mut new = Config {
            xdp_lb: XdpLb {
                connections: 1,
                xdp_mode: XdpMode::Native,
                ..XdpLb::default()
            },
            ..Config::default()
        };
        new.global.timeouts.udp = Duration::from_secs(30);
        assert_eq!(
            needs_restart(&Config::default(), &new),
            ["lvs_timeouts", "xdp_mode", "connections"]
        );
    }
}
