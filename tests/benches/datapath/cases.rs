//! What is measured.

use std::net::{IpAddr, Ipv4Addr};

use xdp_lb::config::model::{Family, Scheduler, Tunnel};
use xdp_lb::plan::desired::Method;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::generator::{By, Frame};

use super::director::Kind;
use super::frames;

/// Turns of a run.
const TURNS: u32 = 1 << 21;

/// Flows in the connection table of the cases with established connections.
pub(crate) const FLOWS: u32 = 1 << 20;

/// Flows of the kinds of forwarding, which are compared with each other: what many cost, the rows with
/// direct routing say.
const SOME_FLOWS: u32 = 1 << 16;

/// New flows per run: they fill the table to half of its ways.
const NEW_FLOWS: u32 = 1 << 20;

/// What the generator calls.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// A program of the rig.
    Rig(&'static str),
    /// The program under test with the tables of a director that knows its flows.
    Known(usize),
    /// The same with tables that hold no connection.
    New(Kind),
}

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) frame: Frame,
    pub(crate) flows: u32,
    pub(crate) turns: u32,
    /// The reason that every packet must leave by.
    pub(crate) reason: Option<Reason>,
    pub(crate) samples: Vec<f64>,
}

impl Case {
    fn new(name: &str, target: Target, frame: Frame, flows: u32) -> Self {
        Self {
            name: name.to_owned(),
            target,
            frame,
            flows,
            turns: TURNS,
            reason: None,
            samples: Vec::new(),
        }
    }

    /// Packets of connections that the director has.
    fn known(name: &str, director: usize, by: By, flows: u32) -> Self {
        Self {
            reason: Some(Reason::TxConnection),
            ..Self::new(name, Target::Known(director), frames::ack(by), flows)
        }
    }

    /// Each turn is a flow that the table does not hold.
    fn opening(name: &str, kind: Kind, by: By) -> Self {
        Self {
            turns: NEW_FLOWS,
            reason: Some(Reason::TxScheduled),
            ..Self::new(name, Target::New(kind), frames::syn(by), NEW_FLOWS)
        }
    }

    /// Whether it tells what a generator costs.
    pub(crate) fn is_generator(&self) -> bool {
        matches!(self.target, Target::Rig("empty"))
    }

    /// Whether it tells what its generator costs.
    pub(crate) fn is_base_of(&self, case: &Self) -> bool {
        self.is_generator() && self.frame.by == case.frame.by
    }
}

const USUAL: Kind = Kind::USUAL;
const V6: Kind = Kind {
    family: Family::V6,
    ..USUAL
};

/// Those who know their flows, with the number of these.
pub(crate) fn directors() -> [(Kind, u32); 4] {
    let by = |method| Kind {
        method,
        connections: 2 * SOME_FLOWS,
        ..USUAL
    };
    let director = IpAddr::from(Ipv4Addr::new(192, 168, 1, 2));
    [
        (USUAL, FLOWS),
        (V6, FLOWS),
        (by(Method::Tunnel(Tunnel::Ipip, director)), SOME_FLOWS),
        (by(Method::Nat), SOME_FLOWS),
    ]
}

/// The cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = instruments();
    cases.extend(known());
    cases.extend(opening());
    cases
}

fn instruments() -> Vec<Case> {
    let rig = |name, program, by| Case::new(name, Target::Rig(program), frames::ack(by), 1);
    let price = |name, program| rig(name, program, By::Generate);
    vec![
        rig("generator alone", "empty", By::Generate),
        rig("generator alone, IPv6", "empty", By::V6),
        rig("generator alone, for TUN and NAT", "empty", By::Whole),
        price("price: reading the flow", "price_no_hash"),
        price("price: SipHash-1-3", "price_siphash"),
        price("price: universal hash (in use)", "price_universal"),
    ]
}

fn known() -> Vec<Case> {
    let not_a_vip = |name, director, by| Case {
        reason: Some(Reason::NoService),
        ..Case::new(
            name,
            Target::Known(director),
            frames::elsewhere(by),
            1 << 16,
        )
    };
    vec![
        Case::known("established, 1 flow", 0, By::Generate, 1),
        Case::known("established, 65,536 flows", 0, By::Generate, SOME_FLOWS),
        Case::known("established, 1,048,576 flows", 0, By::Generate, FLOWS),
        Case::known("established, IPv6, 1 flow", 1, By::V6, 1),
        Case::known("established, IPv6, 65,536 flows", 1, By::V6, SOME_FLOWS),
        Case::known("established, IPv6, 1,048,576 flows", 1, By::V6, FLOWS),
        Case::known("established, TUN (IPIP), 1 flow", 2, By::Whole, 1),
        Case::known(
            "established, TUN (IPIP), 65,536 flows",
            2,
            By::Whole,
            SOME_FLOWS,
        ),
        Case::known("established, NAT, 1 flow", 3, By::Whole, 1),
        Case::known("established, NAT, 65,536 flows", 3, By::Whole, SOME_FLOWS),
        not_a_vip("not a VIP", 0, By::Generate),
        not_a_vip("not a VIP, IPv6", 1, By::V6),
    ]
}

fn opening() -> Vec<Case> {
    let sticky = |kind| Kind {
        sticky: true,
        ..kind
    };
    let of = |scheduler: Scheduler| {
        let name = format!("new flow, {}", scheduler.name());
        Case::opening(&name, Kind { scheduler, ..USUAL }, By::Generate)
    };
    let (v4, v6) = (
        "new flow and client, persistence",
        "new flow and client, IPv6, persistence",
    );
    let mut cases: Vec<_> = Scheduler::ALL.into_iter().map(of).collect();
    cases.extend([
        Case::opening(v4, sticky(USUAL), By::Generate),
        Case::opening("new flow, IPv6", V6, By::V6),
        Case::opening(v6, sticky(V6), By::V6),
    ]);
    cases
}
