//! What would become of a packet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;
use xdp_lb_common::addr::Mac;

use super::{BLIND, Seen};
use crate::control::looks::TraceRequest;
use crate::control::snapshot::Interface;
use crate::control::trace::{Query, Trace, Ways};
use crate::control::{Snapshot, Snapshots};
use crate::dataplane::decision::{self, Lens, Question, Verdict};

/// So long after the last question the program that answers is kept: a script asks again at once.
const KEPT: Duration = Duration::from_mins(1);

type Answering = Box<dyn decision::Trace>;

/// Answers until nobody can ask any more.
pub(super) async fn run(mut asked: mpsc::Receiver<TraceRequest>, seen: Seen, snapshots: Snapshots) {
    let mut kept = None;
    loop {
        let request = match timeout(KEPT, asked.recv()).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(_idle) => {
                kept = None;
                continue;
            }
        };
        let answer = match (&seen, snapshots.take().await) {
            (Some(lens), Ok(snapshot)) => {
                let (answer, answering) =
                    answer(lens.clone(), kept.take(), request.query, snapshot).await;
                kept = answering;
                answer
            }
            (None, _) => Err(BLIND.to_owned()),
            (_, Err(gone)) => Err(gone.to_string()),
        };
        if request.reply.send(answer).is_err() {
            debug!("whoever asked for a trace has gone");
        }
    }
}

/// The answer, and what gave it, for the next question.
async fn answer(
    lens: Arc<dyn Lens>,
    kept: Option<Answering>,
    query: Query,
    snapshot: Arc<Snapshot>,
) -> (Result<Trace, String>, Option<Answering>) {
    let asked = spawn_blocking(move || {
        let (question, interface) = match question(&query, &snapshot) {
            Ok(question) => question,
            Err(wrong) => return (Err(wrong), kept),
        };
        let mut answering = match kept.map_or_else(|| lens.trace(), Ok) {
            Ok(answering) => answering,
            Err(error) => return (Err(error.to_string()), None),
        };
        match answering.ask(&question) {
            Ok(verdict) => {
                let trace = compose(&query, &interface, &verdict, &snapshot);
                (Ok(trace), Some(answering))
            }
            // What it was opened on may be gone.
            Err(error) => (Err(error.to_string()), None),
        }
    });
    asked
        .await
        .unwrap_or_else(|defect| (Err(defect.to_string()), None))
}

fn compose(query: &Query, interface: &str, verdict: &Verdict, snapshot: &Snapshot) -> Trace {
    let out = verdict.out.and_then(name_of);
    let ways = Ways {
        into: interface,
        out: out.as_deref(),
    };
    Trace::build(query, ways, verdict, snapshot)
}

/// The question to the program, and the interface that the packet would come in by.
fn question(query: &Query, snapshot: &Snapshot) -> Result<(Question, String), String> {
    let protocol = query.protocol();
    let protocol = protocol.ok_or_else(|| format!("'{}' is not tcp or udp", query.protocol))?;
    if query.client.is_ipv6() != query.vip.is_ipv6() {
        return Err("client and VIP are not of one address family".to_owned());
    }
    let carrying = snapshot
        .interfaces
        .iter()
        .filter(|interface| interface.mac.is_some());
    let interface = preferred(&carrying, query, snapshot).ok_or_else(|| {
        "no interface carries the program: nothing is balanced; see `xdp-lb status`".to_owned()
    })?;
    let name = &*interface.name;
    let ifindex = nix::net::if_::if_nametoindex(name);
    let ifindex = ifindex.map_err(|error| format!("there is no interface {name} now: {error}"))?;
    let mac = interface.mac.as_deref().and_then(mac_of);
    let mac = mac.ok_or_else(|| format!("the interface {name} has no MAC"))?;
    let question = Question {
        client: SocketAddr::new(query.client, query.client_port.unwrap_or(0)),
        vip: SocketAddr::new(query.vip, query.port),
        protocol,
        midstream: query.midstream,
        ifindex,
        mac,
    };
    Ok((question, name.to_owned()))
}

/// The interface of the VIP's VRRP instance if it carries the program, else any that does.
fn preferred<'a>(
    carrying: &(impl Iterator<Item = &'a Interface> + Clone),
    query: &Query,
    snapshot: &Snapshot,
) -> Option<&'a Interface> {
    let instance = crate::control::trace::find_instance(snapshot, query.vip);
    let of_instance = instance.and_then(|instance| {
        let mut carrying = carrying.clone();
        carrying.find(|interface| interface.name == instance.interface)
    });
    of_instance.or_else(|| carrying.clone().find(|interface| interface.up))
}

fn mac_of(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac::from_octets(octets))
}

/// The name of an interface.
pub(super) fn name_of(ifindex: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex).ok()?;
    name.into_string().ok()
}
