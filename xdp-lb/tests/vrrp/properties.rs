//! What holds of a router whatever happens to it.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use xdp_lb::machine::{Machine as _, Now};
use xdp_lb::vrrp::packet::message::encode;
use xdp_lb::vrrp::packet::{Advert, Datagram, HOPS};
use xdp_lb::vrrp::priority::{Condition, Kind, Tracker};
use xdp_lb::vrrp::router::{Action, Input, Predecessor, Router, State};
use xdp_lb::vrrp::settings::Settings;
use xdp_lb::vrrp::{Interval, Priority, Version, Vrid, Wall};

fn settings(priority: u8, centis: u16, preempt: bool) -> Settings {
    let vips = vec![IpAddr::from([10, 9, 0, 50])];
    let source = IpAddr::from([10, 9, 0, 20]);
    let tracker = |name: &str, weight| Tracker {
        kind: Kind::Script,
        name: name.to_owned(),
        weight,
        reverse: false,
    };
    Settings {
        version: Version::V3,
        priority: Priority::new(priority).unwrap(),
        interval: Interval::from_centis(centis).unwrap(),
        preempt,
        trackers: vec![tracker("fatal", 0), tracker("weighty", -60)],
        ..Settings::new("VI_1", Vrid::new(51).unwrap(), source, vips)
    }
}

fn received(host: u8, priority: u8, centis: u16) -> Input {
    let source = IpAddr::from([10, 9, 0, host]);
    let destination = IpAddr::from([224, 0, 0, 18]);
    let advert = Advert {
        priority: Priority::from_wire(priority),
        ..advert_of(&settings(100, centis, true))
    };
    let message = encode(&advert, source, destination, false);
    let datagram = Datagram {
        source,
        destination,
        hops: HOPS,
        message,
    };
    Input::Received {
        datagram,
        wall: Wall::default(),
    }
}

fn advert_of(settings: &Settings) -> Advert {
    Advert {
        version: settings.version,
        vrid: settings.vrid,
        priority: settings.priority,
        interval: settings.interval,
        auth: settings.auth,
        addresses: settings.addresses.clone(),
    }
}

/// What a test does next.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, and the router is driven in time.
    Wait(u64),
    /// Time passes, and it is not driven.
    Halt(u64),
    Start(Option<u64>),
    Advert(u8, u8, u16),
    Script(bool, bool),
    Interface(bool),
    Source(bool),
    Reload(u8, u16, bool),
    Stop,
}

fn any_step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![Just(0), Just(255), Just(100), any::<u8>()];
    let centis = prop_oneof![Just(10_u16), Just(100), 1_u16..=4095];
    prop_oneof![
        4 => (0_u64..5_000).prop_map(Step::Wait),
        1 => (0_u64..20_000).prop_map(Step::Halt),
        2 => prop::option::of(0_u64..9_000).prop_map(Step::Start),
        5 => (18_u8..23, priority, centis.clone()).prop_map(|(h, p, c)| Step::Advert(h, p, c)),
        1 => any::<(bool, bool)>().prop_map(|(fatal, up)| Step::Script(fatal, up)),
        1 => any::<bool>().prop_map(Step::Interface),
        1 => any::<bool>().prop_map(Step::Source),
        1 => (1_u8..=255, centis, any::<bool>()).prop_map(|(p, c, n)| Step::Reload(p, c, n)),
        1 => Just(Step::Stop),
    ]
}

/// The effects of actions on the host, and whether their order is one that serves clients.
#[derive(Debug, Default)]
struct Host {
    gate: bool,
    holds: bool,
}

impl Host {
    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::OpenGate => self.gate = true,
                Action::TakeAddresses => {
                    prop_assert!(self.gate, "addresses before the gate");
                    self.holds = true;
                }
                Action::Announce { repeat, .. } => prop_assert!(self.holds && repeat > 0),
                Action::DropAddresses => self.holds = false,
                Action::CloseGate => {
                    prop_assert!(!self.holds, "the gate before the addresses");
                    self.gate = false;
                }
                Action::Stopped => prop_assert!(!self.gate),
                Action::Advert { .. }
                | Action::AnnounceSource
                | Action::Notify { .. }
                | Action::Log(_) => {}
            }
        }
        Ok(())
    }
}

/// Drives the router until `end` as its driver would.
fn drive(router: &mut Router, end: Now, host: &mut Host) -> Result<(), TestCaseError> {
    while let Some(deadline) = router.deadline().filter(|deadline| *deadline <= end) {
        let mut actions = Vec::new();
        router.expire(deadline, &mut actions);
        host.carry_out(actions)?;
        prop_assert!(
            router.deadline().is_none_or(|next| next > deadline),
            "in the past"
        );
    }
    Ok(())
}

fn input_of(step: &Step, router: &Router) -> Option<Input> {
    Some(match *step {
        Step::Wait(_) | Step::Halt(_) => return None,
        Step::Start(predecessor) => Input::Start {
            predecessor: predecessor.map(|millis| Predecessor {
                silent_for: Duration::from_millis(millis),
            }),
        },
        Step::Advert(host, priority, centis) => received(host, priority, centis),
        Step::Script(fatal, up) => Input::Tracked {
            kind: Kind::Script,
            name: if fatal { "fatal" } else { "weighty" }.to_owned(),
            condition: if up {
                Condition::Up
            } else {
                Condition::Down { failures: 2 }
            },
        },
        Step::Interface(up) => Input::Interface { up },
        Step::Source(true) => Input::Source(Some(router.settings().source)),
        Step::Source(false) => Input::Source(None),
        Step::Reload(priority, centis, preempt) => {
            Input::Reload(Box::new(settings(priority, centis, preempt)))
        }
        Step::Stop => Input::Stop,
    })
}

proptest! {
    #[test]
    fn a_router_holds_what_a_master_holds_and_never_asks_for_the_past(
        priority in 1_u8..=255, preempt: bool, steps in prop::collection::vec(any_step(), 1..60)
    ) {
        let mut now = Now::ZERO;
        let mut router = Router::new(now, settings(priority, 100, preempt));
        let mut host = Host::default();
        for step in steps {
            match step {
                Step::Wait(millis) => {
                    now = now.after(Duration::from_millis(millis));
                    drive(&mut router, now, &mut host)?;
                }
                Step::Halt(millis) => {
                    now = now.after(Duration::from_millis(millis));
                    let mut actions = Vec::new();
                    router.expire(now, &mut actions);
                    prop_assert!(router.deadline().is_none_or(|next| next > now), "in the past");
                    host.carry_out(actions)?;
                }
                ref step => {
                    let mut actions = Vec::new();
                    if let Some(input) = input_of(step, &router) {
                        router.handle(now, input, &mut actions);
                    }
                    host.carry_out(actions)?;
                }
            }
            prop_assert_eq!(host.holds, router.state() == State::Master, "{:?}", step);
            prop_assert_eq!(host.gate, host.holds, "{:?}", step);
        }
    }
}

/// Ten thousand datagrams a second for two seconds, of each kind that anybody can forge.
#[test]
fn a_flood_moves_no_deadline_and_asks_for_little() {
    let seconds = Duration::from_secs;
    let mut router = Router::new(Now::ZERO, settings(150, 100, true));
    let mut actions = Vec::new();
    router.handle(Now::ZERO, Input::Start { predecessor: None }, &mut actions);
    drive(&mut router, Now(seconds(5)), &mut Host::default()).unwrap();
    assert_eq!(router.state(), State::Master);
    let beat = router.deadline().unwrap();
    let mut adverts = 0;
    let mut others = 0;
    let mut late = Duration::ZERO;
    for nth in 0..20_000_u32 {
        let now = Now(seconds(5) + seconds(2) * nth / 20_000);
        let mut actions = Vec::new();
        if let Some(deadline) = router.deadline().filter(|deadline| *deadline <= now) {
            late = late.max(deadline.until(now));
            router.expire(now, &mut actions);
        }
        let host = u8::try_from(nth % 150).unwrap() + 21;
        let mut input = received(host, 100, 100);
        if let Input::Received { datagram, .. } = &mut input {
            match nth % 4 {
                0 => datagram.hops = 64,
                1 => datagram.message[6] ^= 1,
                2 => datagram.message.truncate(9),
                _ => {}
            }
        }
        router.handle(now, input, &mut actions);
        adverts += actions
            .iter()
            .filter(|a| matches!(a, Action::Advert { .. }))
            .count();
        others += actions
            .iter()
            .filter(|a| !matches!(a, Action::Advert { .. }))
            .count();
    }
    assert!(beat > Now(seconds(5)));
    assert!(
        (2..=9).contains(&adverts),
        "{adverts} adverts in two seconds"
    );
    assert!(others <= 25, "{others} other actions");
    assert!(late < Duration::from_millis(50), "{late:?}");
    let stats = router.snapshot().stats;
    assert_eq!(stats.refused.values().sum::<u64>(), 15_000);
    assert_eq!(stats.adverts_received, 5_000);
}
