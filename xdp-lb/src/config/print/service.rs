//! Virtual services and their real servers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Writer, checker, seconds, word};
use crate::config::model::{
    Checksum, Config, Family, Forwarding, Frontend, GroupMember, Hashing, Persistence, Quorum,
    RealServer, Scheduler, ServiceGroup, SorryServer, Tunnel, VirtualServer,
};

pub(super) fn print(writer: &mut Writer, config: &Config) {
    checker::print_ssl(writer, &config.ssl);
    let mut groups = BTreeSet::new();
    for service in &config.virtual_servers {
        if let Frontend::Group { group, .. } = &service.frontend
            && groups.insert(group.name)
        {
            print_group(writer, group);
        }
        let log_all = config.global.log_all_failures;
        writer.block(&head(&service.frontend), |writer| {
            print_service(writer, service, log_all);
        });
    }
}

fn print_group(writer: &mut Writer, group: &ServiceGroup) {
    let head = format!("virtual_server_group {}", word(group.name.as_str()));
    writer.block(&head, |writer| {
        for member in &group.members {
            match member {
                GroupMember::Addresses { first, last, port } => {
                    let range = (first != last).then(|| format!("-{last}"));
                    let port = (*port != 0).then(|| format!(" {port}"));
                    let [range, port] = [range, port].map(Option::unwrap_or_default);
                    writer.line(format_args!("{first}{range}{port}"));
                }
                GroupMember::Mark { mark, family } => {
                    let family = family.map(|family| format!(" {}", family.name()));
                    writer.line(format_args!("fwmark {mark}{}", family.unwrap_or_default()));
                }
            }
        }
    });
}

fn head(frontend: &Frontend) -> String {
    match frontend {
        Frontend::Endpoint(key) => format!("virtual_server {} {}", key.vip, key.port),
        Frontend::Mark(mark) => format!("virtual_server fwmark {}", mark.mark),
        Frontend::Group { group, .. } => {
            format!("virtual_server group {}", word(group.name.as_str()))
        }
    }
}

fn print_service(writer: &mut Writer, service: &VirtualServer, log_all: bool) {
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
    } = service;
    print_scheduler(writer, *scheduler);
    writer.line(format_args!("lb_kind {}", forwarding_words(*forwarding)));
    match frontend {
        Frontend::Endpoint(key) => print_protocol(writer, key.protocol.name()),
        Frontend::Group { protocol, .. } => print_protocol(writer, protocol.name()),
        Frontend::Mark(mark) => {
            writer.line(format_args!("ip_family {}", mark.family.name()));
        }
    }
    if let Some(persistence) = persistence {
        print_persistence(writer, *persistence, frontend);
    }
    writer.flag("ops", *one_packet);
    print_quorum(writer, quorum);
    if let Some(sorry) = sorry_server {
        print_sorry_server(writer, sorry);
    }
    writer.flag("omega", *omega);
    writer.flag("ha_suspend", *ha_suspend);
    writer.flag("expire_quiescent", *expire_quiescent);
    writer.flag("smtp_alert", *smtp_alert);
    for server in real_servers {
        print_server(writer, server, log_all);
    }
}

fn print_protocol(writer: &mut Writer, name: &str) {
    writer.line(format_args!("protocol {}", name.to_uppercase()));
}

fn print_scheduler(writer: &mut Writer, scheduler: Scheduler) {
    let name = scheduler.name();
    writer.line(format_args!("lb_algo {name}"));
    let hashing = match scheduler {
        Scheduler::SourceHash(hashing) | Scheduler::Maglev(hashing) => hashing,
        Scheduler::RoundRobin
        | Scheduler::WeightedRoundRobin
        | Scheduler::LeastConnections
        | Scheduler::WeightedLeastConnections
        | Scheduler::LocalityBased
        | Scheduler::LocalityBasedReplicated
        | Scheduler::DestinationHash
        | Scheduler::ShortestDelay
        | Scheduler::NeverQueue
        | Scheduler::FailOver
        | Scheduler::Overflow
        | Scheduler::TwoChoices => Hashing::default(),
    };
    writer.flag(&format!("{name}-port"), hashing.port);
    writer.flag(&format!("{name}-fallback"), hashing.fallback);
}

/// What stands behind `lb_kind`.
fn forwarding_words(forwarding: Forwarding) -> String {
    let name = forwarding.name();
    match forwarding {
        Forwarding::DirectRouting | Forwarding::Nat => name.to_owned(),
        Forwarding::Tunnel(Tunnel::Ipip) => format!("{name} type ipip"),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => {
            let checksum = match checksum {
                Checksum::None => "nocsum",
                Checksum::Full => "csum",
                Checksum::Remote => "remcsum",
            };
            format!("{name} type gue port {port} {checksum}")
        }
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => {
            let checksum = if checksum { "csum" } else { "nocsum" };
            format!("{name} type gre {checksum}")
        }
    }
}

fn print_persistence(writer: &mut Writer, persistence: Persistence, frontend: &Frontend) {
    writer.line(format_args!(
        "persistence_timeout {}",
        persistence.timeout.as_secs()
    ));
    let length = persistence.prefix_len;
    let v4 = match frontend.family() {
        Some(family) => family == Family::V4,
        // The length of a whole address, whichever it is, is the default.
        None if length == Family::V6.bits() => return,
        None => length <= Family::V4.bits(),
    };
    if v4 {
        let mask = ipnet::Ipv4Net::new([0; 4].into(), length);
        writer.optional(
            "persistence_granularity",
            mask.ok().map(|net| net.netmask()),
        );
    } else {
        writer.line(format_args!("persistence_granularity {length}"));
    }
}

fn print_quorum(writer: &mut Writer, quorum: &Quorum) {
    let Quorum {
        weight,
        hysteresis,
        up,
        down,
    } = quorum;
    // A quorum of 0 is that of servers without weight; it cannot be asked for. That of 1 is what a pool
    // without the keyword has, and the only one that has an effect yet.
    writer.optional("quorum", Some(weight).filter(|weight| **weight > 1));
    writer.optional("hysteresis", Some(hysteresis).filter(|margin| **margin > 0));
    writer.command("quorum_up", up.as_ref());
    writer.command("quorum_down", down.as_ref());
}

fn print_sorry_server(writer: &mut Writer, sorry: &SorryServer) {
    let SorryServer {
        address,
        forwarding,
        inhibit,
    } = sorry;
    writer.line(format_args!("sorry_server {}", endpoint(*address)));
    writer.line(format_args!(
        "sorry_server_lvs_method {}",
        forwarding_words(*forwarding)
    ));
    writer.flag("sorry_server_inhibit", *inhibit);
}

fn print_server(writer: &mut Writer, server: &RealServer, log_all: bool) {
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
    } = server;
    let head = format!("real_server {}", endpoint(*address));
    writer.block(&head, |writer| {
        writer.line(format_args!("weight {weight}"));
        writer.line(format_args!("lvs_method {}", forwarding_words(*forwarding)));
        if let Some(limit) = limit {
            writer.line(format_args!("uthreshold {}", limit.upper));
            writer.optional("lthreshold", Some(limit.lower).filter(|lower| *lower > 0));
        }
        writer.flag("inhibit_on_failure", *inhibit_on_failure);
        writer.optional("slow_start", slow_start.map(seconds));
        writer.command("notify_up", notify_up.as_ref());
        writer.command("notify_down", notify_down.as_ref());
        writer.flag("smtp_alert off", !smtp_alert);
        for check in checks {
            checker::print(writer, check, log_all);
        }
    });
}

/// `ADDRESS [PORT]`.
fn endpoint(address: SocketAddr) -> String {
    match (address.ip(), address.port()) {
        (ip, 0) => ip.to_string(),
        (ip, port) => format!("{ip} {port}"),
    }
}
