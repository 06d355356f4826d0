//! Why a packet goes where it goes, or does not, in one line.

use std::fmt::Write as _;
use std::net::SocketAddr;

use xdp_lb_common::reason::Reason;
use xdp_lb_common::watch::Via;

use super::Query;
use crate::control::snapshot::{ServerState, Service, Snapshot, VrrpInstance, VrrpState};
use crate::dataplane::decision::Verdict;

/// What is known.
pub(super) struct Facts<'a> {
    pub(super) query: &'a Query,
    pub(super) verdict: &'a Verdict,
    pub(super) service: Option<&'a Service>,
    pub(super) instance: Option<&'a VrrpInstance>,
    pub(super) snapshot: &'a Snapshot,
}

pub(super) fn explain(facts: &Facts<'_>) -> String {
    match facts.verdict.reason {
        Reason::NoService => no_service(facts),
        Reason::NotActive => not_active(facts),
        Reason::LeaseOver => {
            "the agent was silent for so long that another director may own the VIP".to_owned()
        }
        Reason::NoConnection => {
            "in the middle of a connection that is not known; the kernel answers with a reset"
                .to_owned()
        }
        Reason::Purged => {
            let server = facts.verdict.connection.and_then(|entry| entry.server);
            let server = server.map_or_else(String::new, |server| format!(" {server}"));
            format!(
                "the real server{server} of its connection failed or was removed; the kernel answers \
                 with a reset"
            )
        }
        reason if lacks_server(reason) => no_real_server(facts),
        Reason::Local => format!("{}; it is this director itself", rule(facts)),
        reason if super::is_balanced(facts.verdict) => {
            debug_assert_ne!(reason, Reason::Local, "told above");
            rule(facts)
        }
        reason => sentence(reason.help()),
    }
}

/// Whether a packet leaves because no real server is eligible, whatever its client is told.
pub(super) const fn lacks_server(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoRealServer | Reason::TxUnreachable | Reason::TxReset
    )
}

/// The help of a reason, to stand behind a colon.
fn sentence(help: &str) -> String {
    let help = help.trim().trim_end_matches('.');
    let mut letters = help.chars();
    let (first, second) = (letters.next(), help.chars().nth(1));
    match first {
        // Not of an abbreviation.
        Some(first) if second.is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => help.to_owned(),
    }
}

fn rule(facts: &Facts<'_>) -> String {
    let scheduler = facts.service.map_or("", |service| &service.scheduler);
    match facts.verdict.via {
        Via::Connection => "its connection is known".to_owned(),
        Via::Persistent => "its client sticks to this real server".to_owned(),
        Via::Scheduled => scheduled(facts, scheduler),
        Via::Stateless if ["sh", "mh", "dh"].contains(&scheduler) => {
            format!("the hash of {scheduler} leads there")
        }
        Via::Stateless => "the table has no room for its connection: by consistent hash".to_owned(),
    }
}

fn scheduled(facts: &Facts<'_>, scheduler: &str) -> String {
    let mut line = format!("{scheduler} chooses it");
    let flags = facts
        .service
        .map_or(&[][..], |service| &service.scheduler_flags);
    if scheduler == "twos" {
        line.push_str(", by chance: the next may be another");
    } else if facts.query.client_port.is_none() && flags.iter().any(|flag| flag.ends_with("-port"))
    {
        line.push_str(" for port 0 of the client: other ports may lead elsewhere");
    }
    line
}

fn no_service(facts: &Facts<'_>) -> String {
    let vip = facts.query.vip;
    let services = facts.snapshot.services.iter();
    let others: Vec<_> = services
        .filter(|service| service.vip == vip)
        .map(|service| {
            let address = SocketAddr::new(service.vip, service.port);
            format!("{address}/{}", service.protocol)
        })
        .collect();
    match &*others {
        [] => format!("no virtual service has the address {vip}"),
        others => format!("no virtual service there; there is {}", others.join(", ")),
    }
}

fn not_active(facts: &Facts<'_>) -> String {
    let Some(instance) = facts.instance else {
        return "its gate is closed".to_owned();
    };
    let mut line = format!(
        "the VRRP instance {} is {} here",
        instance.name,
        instance.state.name()
    );
    let election = instance.election.as_ref();
    let master = election.and_then(|election| election.master);
    let why = election.and_then(|election| election.reason.as_deref());
    // Writing to a string does not fail.
    match (instance.state, master, why) {
        (VrrpState::Backup, Some(master), _) => drop(write!(line, ", {master} is master")),
        (VrrpState::Fault, _, Some(why)) => drop(write!(line, ": {why}")),
        (VrrpState::Master, ..) => line.push_str(", its gate is about to open"),
        (VrrpState::Init | VrrpState::Backup | VrrpState::Fault, ..) => {}
    }
    line
}

fn no_real_server(facts: &Facts<'_>) -> String {
    let Some(service) = facts.service else {
        return "no live real server".to_owned();
    };
    let servers = &service.real_servers;
    let count = |is: &dyn Fn(&ServerState, u32) -> bool| {
        let those = servers
            .iter()
            .filter(|server| is(&server.state, server.weight));
        those.count()
    };
    let down = count(&|state, _| *state == ServerState::Down);
    let weightless = count(&|state, weight| *state != ServerState::Down && weight == 0);
    let taking = servers.len() - down - weightless;
    if servers.is_empty() {
        return "the service has no real servers".to_owned();
    }
    if taking == 0 {
        return format!("no live real server: {}", shares(down, weightless));
    }
    match &*service.scheduler {
        scheduler @ ("sh" | "mh" | "dh") => {
            let flag = match scheduler {
                "dh" => String::new(),
                _ => format!(", and {scheduler}-fallback is off"),
            };
            format!(
                "the hash of {scheduler} leads to a real server that takes no connections (weight 0, or \
                 over its limit){flag}"
            )
        }
        scheduler => {
            format!("{scheduler} finds no real server that takes connections: over their limits")
        }
    }
}

/// How many of the servers are down and how many have weight 0.
fn shares(down: usize, weightless: usize) -> String {
    match (down, weightless) {
        (down, 0) => format!("{down} down"),
        (0, weightless) => format!("{weightless} of weight 0"),
        (down, weightless) => format!("{down} down, {weightless} of weight 0"),
    }
}
