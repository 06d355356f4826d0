//! Fixtures as data: tables, packets one after the other, and what must become of each.
//!
//! Every packet of every case is held against all of it: the verdict; the frame that comes out, made
//! by other code than the program's; the counters, which must show this one packet for this one
//! reason, at this one service and real server, and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use xdp_lb::config::model::{Endpoint, Protocol, ServiceKey};
use xdp_lb::plan::desired::{Desired, Reach, Server};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_common::watch::NOBODY;
use xdp_lb_tests::packet::flags::{RST, SYN};
use xdp_lb_tests::packet::{Packet, Transport, compare, forwarded, show};
use xdp_lb_tests::program::Action;

use crate::director::{Director, in_a_network};
use crate::eyes::Tally;
use crate::tables::{PORT_MAC, server_ip, server_mac};

/// A case: its tables, then what happens.
pub(crate) struct Case {
    /// What it shows.
    pub name: &'static str,
    /// What stands when it begins.
    pub tables: Desired,
    /// One after the other.
    pub steps: Vec<Step>,
}

/// A thing that happens, or is looked at.
pub(crate) enum Step {
    /// The steps that follow show this.
    Name(&'static str),
    /// A packet comes in.
    Packet(Packet, Fate),
    /// A frame about the connection of a packet comes in.
    About(Packet, Vec<u8>, Fate),
    /// A frame that is no IPv4 packet comes in; it passes for this reason.
    Frame(Vec<u8>, Reason),
    /// The tables change.
    Tables(Desired),
    /// What the connection of a packet must be: kind and real server.
    Connection(Packet, Option<(Kind, u8)>),
    /// What the template of a packet's client, masked to a prefix, must be.
    Template(Packet, u8, Option<(Kind, u8)>),
}

/// What becomes of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    reason: Reason,
    /// The real server it counts for, and goes to unless the reason says otherwise.
    server: Option<u8>,
    /// It counts as a new connection.
    opens: bool,
}

/// A packet comes in.
pub(crate) const fn send(packet: Packet, fate: Fate) -> Step {
    Step::Packet(packet, fate)
}

/// A packet comes in, to show something of its own.
pub(crate) fn show_that(name: &'static str, packet: Packet, fate: Fate) -> [Step; 2] {
    [Step::Name(name), Step::Packet(packet, fate)]
}

/// It is no real server's, for this reason.
pub(crate) const fn stays(reason: Reason) -> Fate {
    Fate {
        reason,
        server: None,
        opens: false,
    }
}

/// It goes to a real server, a new connection unless the reason is that its connection is known.
pub(crate) const fn goes(reason: Reason, server: u8) -> Fate {
    Fate {
        reason,
        server: Some(server),
        opens: !matches!(
            reason,
            Reason::TxConnection
                | Reason::RedirectConnection
                | Reason::TxIcmp
                | Reason::RedirectIcmp
                | Reason::TxFragment
                | Reason::RedirectFragment
        ),
    }
}

impl Fate {
    /// Though it is not sent, it counts for this server and, if so, as a new connection.
    pub(crate) const fn counts(mut self, server: u8, opens: bool) -> Self {
        (self.server, self.opens) = (Some(server), opens);
        self
    }
}

/// Runs every case on a director of its own, and tells of all that fail.
pub(crate) fn check(cases: Vec<Case>) {
    in_a_network(move || {
        let run = |case: &Case| case.run().err().map(|why| format!("{}: {why}", case.name));
        let failed: Vec<_> = cases.iter().filter_map(run).collect();
        let (count, all) = (failed.len(), cases.len());
        assert!(
            count == 0,
            "{count} of {all} cases fail\n\n{}",
            failed.join("\n\n")
        );
    });
}

impl Case {
    fn run(&self) -> Result<(), String> {
        let mut tables = &self.tables;
        let mut director = Director::looking(tables);
        let mut name = String::new();
        for (number, step) in (1..).zip(&self.steps) {
            let done = match step {
                Step::Name(new) => {
                    name = format!(", {new}");
                    Ok(())
                }
                Step::Packet(packet, fate) => {
                    let frame = packet.bytes().unwrap();
                    let wanted = Wanted::of(&director, tables, packet, &frame, fate);
                    foresee(&director, &frame, &wanted)
                        .and_then(|()| examine(&director, &frame, &wanted))
                }
                Step::About(packet, frame, fate) => {
                    let wanted = Wanted::of(&director, tables, packet, frame, fate);
                    examine(&director, frame, &wanted)
                }
                Step::Frame(frame, reason) => {
                    let wanted = Wanted::untouched(frame, *reason);
                    foresee(&director, frame, &wanted)
                        .and_then(|()| examine(&director, frame, &wanted))
                }
                Step::Tables(new) => {
                    tables = new;
                    director.set(new);
                    Ok(())
                }
                Step::Connection(packet, wanted) => connection(&director, tables, packet, *wanted),
                Step::Template(packet, prefix, wanted) => {
                    template(&director, tables, (packet, *prefix), *wanted)
                }
            };
            done.map_err(|why| format!("step {number}{name}: {why}"))?;
        }
        Ok(())
    }
}

/// What must come of a frame.
struct Wanted {
    action: Action,
    /// `None` for a frame that is dropped: nobody sees it; and for an answer, whose octets are held elsewhere.
    frame: Option<Vec<u8>>,
    tally: Tally,
}

impl Wanted {
    fn untouched(frame: &[u8], reason: Reason) -> Self {
        let verdict = reason.verdict();
        Self {
            action: action(verdict),
            frame: (verdict == Verdict::Pass).then(|| frame.to_vec()),
            tally: Tally {
                reasons: BTreeMap::from([(reason, 1)]),
                ..Tally::default()
            },
        }
    }

    /// One reason rises by one, and no event; at most one service and one of its servers count the
    /// packet.
    fn of(
        director: &Director,
        tables: &Desired,
        packet: &Packet,
        frame: &[u8],
        fate: &Fate,
    ) -> Self {
        let mut wanted = Self::untouched(frame, fate.reason);
        let Some(n) = fate.server else { return wanted };
        let (key, eyes) = (service_of(tables, packet), director.eyes());
        let length = u64::from(u16::from_be_bytes([frame[16], frame[17]]));
        // Only a packet that can open a connection counts as one.
        let opens = match packet.transport {
            Transport::Tcp(flags) => flags & (SYN | RST) == SYN,
            Transport::Udp | Transport::Ping => true,
        };
        let traffic = [u64::from(fate.opens && opens), 1, length];
        wanted.tally.services.insert(eyes.service(key), traffic);
        let backend = eyes.backend(key, IpAddr::V4(server_ip(n)));
        wanted.tally.backends.insert(backend, traffic);
        if matches!(fate.reason.verdict(), Verdict::Tx | Verdict::Redirect) {
            let (source, destination) = way_to(tables, key, n);
            wanted.frame = Some(forwarded(frame, source, destination).unwrap());
        }
        wanted
    }
}

/// Asks what would become of a frame: that must be what does become of it.
fn foresee(director: &Director, frame: &[u8], wanted: &Wanted) -> Result<(), String> {
    let Some(foreseen) = director.foresee(frame) else {
        return Ok(());
    };
    let backends: Vec<_> = wanted.tally.backends.keys().copied().collect();
    let backend = (foreseen.backend != NOBODY).then_some(foreseen.backend);
    let answer = (foreseen.reason(), backend.into_iter().collect());
    if answer == (wanted.tally.reasons.keys().next().copied(), backends) {
        return Ok(());
    }
    Err(format!(
        "{}expected counted: {:?}\nforeseen: {answer:?}",
        show(frame),
        wanted.tally
    ))
}

/// Sends a frame and judges what becomes of it.
fn examine(director: &Director, frame: &[u8], wanted: &Wanted) -> Result<(), String> {
    let before = director.eyes().tally();
    let outcome = director.send(frame);
    let counted = director.eyes().tally().since(&before);
    let mut faults = Vec::new();
    if outcome.action != wanted.action {
        faults.push(format!(
            "expected {:?}, got {:?}",
            wanted.action, outcome.action
        ));
    }
    if let Some(expected) = wanted
        .frame
        .as_ref()
        .filter(|frame| **frame != outcome.frame)
    {
        faults.push(compare(expected, &outcome.frame));
    }
    if counted != wanted.tally {
        let wanted = &wanted.tally;
        faults.push(format!(
            "expected counted: {wanted:?}\ngot counted:      {counted:?}"
        ));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("{}{}", show(frame), faults.join("\n")))
}

const fn action(verdict: Verdict) -> Action {
    match verdict {
        Verdict::Pass => Action::Pass,
        Verdict::Tx => Action::Tx,
        Verdict::Redirect => Action::Redirect,
        Verdict::Drop => Action::Drop,
    }
}

/// The MACs of frames to server `n`. One that is in the tables no more was on the link.
fn way_to(tables: &Desired, key: ServiceKey, n: u8) -> ([u8; 6], [u8; 6]) {
    match server(tables, key, n).and_then(|server| server.reach) {
        Some(Reach::Direct {
            source_mac, mac, ..
        }) => (source_mac.octets(), mac.octets()),
        _ => (PORT_MAC, server_mac(n)),
    }
}

/// The service of a packet: of its mark, else of its port, else of any port.
fn service_of(tables: &Desired, packet: &Packet) -> ServiceKey {
    let endpoint = |port| Endpoint {
        vip: IpAddr::V4(*packet.to.ip()),
        port,
        protocol: match packet.transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp(_) | Transport::Ping => Protocol::Tcp,
        },
    };
    let both = [packet.to.port(), 0].map(endpoint);
    let mut services = tables.services.iter();
    let marked = services.find(|(_, service)| {
        let mut both = both.iter();
        both.any(|endpoint| service.entrances.contains(endpoint))
    });
    let [exact, any] = both.map(ServiceKey::Endpoint);
    match marked {
        Some((key, _)) => *key,
        None if tables.services.contains_key(&exact) => exact,
        None => any,
    }
}

fn server(tables: &Desired, key: ServiceKey, n: u8) -> Option<&Server> {
    let mut servers = tables.services.get(&key)?.servers.iter();
    servers.find(|server| server.address.ip() == server_ip(n))
}

fn connection(
    director: &Director,
    tables: &Desired,
    packet: &Packet,
    wanted: Option<(Kind, u8)>,
) -> Result<(), String> {
    let ways = director.eyes().ways(packet);
    let found: Vec<_> = ways.iter().map(|way| (way.kind(), way.backend())).collect();
    hold(director, service_of(tables, packet), &found, wanted)
}

fn template(
    director: &Director,
    tables: &Desired,
    (packet, prefix): (&Packet, u8),
    wanted: Option<(Kind, u8)>,
) -> Result<(), String> {
    let key = service_of(tables, packet);
    let ways = director.eyes().templates(key, packet, prefix);
    let found: Vec<_> = ways.iter().map(|way| (way.kind(), way.backend())).collect();
    hold(director, key, &found, wanted)
}

/// Entries against what must be there.
fn hold(
    director: &Director,
    key: ServiceKey,
    found: &[(Kind, u32)],
    wanted: Option<(Kind, u8)>,
) -> Result<(), String> {
    let backend = |n| director.eyes().backend(key, IpAddr::V4(server_ip(n)));
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|(kind, n)| (kind, backend(n)))
        .collect();
    if found == wanted {
        return Ok(());
    }
    Err(format!(
        "expected the entries {wanted:?}, got {found:?} (kind, backend)"
    ))
}
