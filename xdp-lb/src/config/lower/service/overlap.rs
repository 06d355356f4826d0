//! Addresses that more than one virtual server takes: a group's lines are services as well.

use std::net::IpAddr;

use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::lower::context::Context;
use crate::config::model::{Config, Frontend, GroupMember, Protocol, VirtualServer};
use crate::config::places::{Places, ServicePlaces};
use crate::config::source::Span;

/// Packets that a service takes: sorted, those that overlap stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    what: What,
    first: Option<IpAddr>,
    last: Option<IpAddr>,
    place: Span,
    /// Which service.
    service: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Addresses with this protocol and port.
    Port(Protocol, u16),
    /// A mark.
    Mark(u32),
}

/// Complains about every two services that take the same packets, a group being one of them: without
/// groups they were told apart by their keys.
pub(super) fn check(context: &mut Context<'_>, config: &Config, places: &Places) {
    let is_group = |service: &VirtualServer| matches!(service.frontend, Frontend::Group { .. });
    if !config.virtual_servers.iter().any(is_group) {
        return;
    }
    let mut claims = Vec::new();
    let services = config.virtual_servers.iter().zip(&places.services);
    for (at, (service, place)) in services.enumerate() {
        add_claims(&mut claims, at, service, place);
    }
    claims.sort_unstable();
    let mut before: Option<Claim> = None;
    for claim in claims {
        let overlaps = |before: &Claim| before.what == claim.what && claim.first <= before.last;
        match before.filter(overlaps) {
            Some(earlier) => {
                overlap(context, claim, earlier);
                let further = claim.last > earlier.last;
                before = Some(if further { claim } else { earlier });
            }
            None => before = Some(claim),
        }
    }
}

fn add_claims(
    claims: &mut Vec<Claim>,
    service: usize,
    virtual_server: &VirtualServer,
    places: &ServicePlaces,
) {
    let claim = |what, first, last, place| Claim {
        what,
        first,
        last,
        place,
        service,
    };
    match &virtual_server.frontend {
        Frontend::Endpoint(key) => {
            let what = What::Port(key.protocol, key.port);
            claims.push(claim(what, Some(key.vip), Some(key.vip), places.head));
        }
        Frontend::Mark(mark) => {
            claims.push(claim(What::Mark(mark.mark), None, None, places.head));
        }
        Frontend::Group { group, protocol } => {
            for (member, line) in group.members.iter().zip(&places.members) {
                claims.push(match member {
                    GroupMember::Addresses { first, last, port } => {
                        let what = What::Port(*protocol, *port);
                        claim(what, Some(*first), Some(*last), *line)
                    }
                    GroupMember::Mark { mark, .. } => claim(What::Mark(*mark), None, None, *line),
                });
            }
        }
    }
}

fn overlap(context: &mut Context<'_>, claim: Claim, earlier: Claim) {
    let (first, second) = if claim.place < earlier.place {
        (claim, earlier)
    } else {
        (earlier, claim)
    };
    let what = match claim.what {
        What::Mark(mark) => format!("mark {mark}"),
        What::Port(protocol, port) => {
            let protocol = protocol.name();
            let ip = claim.first.map(|ip| ip.to_string()).unwrap_or_default();
            format!("{ip} port {port} ({protocol})")
        }
    };
    let whose = if first.service == second.service {
        "stands twice in this group"
    } else {
        "belongs to two virtual servers"
    };
    let line = context.line(first.place);
    context.push(
        Diagnostic::warning(Code::Doubtful, format!("{what} {whose}"))
            .at(second.place, format!("line {line} takes them as well"))
            .at(first.place, "here first")
            .help("remove one of the two: the virtual server that stands first counts"),
    );
}
