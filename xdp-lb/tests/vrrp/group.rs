//! Sync groups, and configurations that change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use xdp_lb::machine::{Machine as _, Now};
use xdp_lb::vrrp::group::{Action, Group, Input, RouterId, Routers};
use xdp_lb::vrrp::packet::message::encode;
use xdp_lb::vrrp::packet::{Advert, Datagram, HOPS};
use xdp_lb::vrrp::priority::{Condition, Kind, Tracker};
use xdp_lb::vrrp::router::{self, Notice, State};
use xdp_lb::vrrp::settings::{Peer, Settings, Transport};
use xdp_lb::vrrp::{Priority, Vrid, Wall};

use crate::random::Random;

/// A director with its routers, and what they wanted so far.
struct Director {
    routers: Routers,
    now: Now,
    host: u8,
    /// Adverts: VRID and bytes.
    sent: Vec<(u8, Priority, Vec<u8>)>,
    notices: Vec<Notice>,
    holds: BTreeMap<RouterId, bool>,
}

fn tracker(kind: Kind, name: &str, weight: i16) -> Tracker {
    let (name, reverse) = (name.to_owned(), false);
    Tracker {
        kind,
        name,
        weight,
        reverse,
    }
}

/// Two routers, on eth0 and eth1, tracking `chk` by weight 0 and `load` by −50.
fn settings(host: u8, priority: u8) -> Vec<Settings> {
    let one = |number: u8, interface: &str| {
        let source = IpAddr::from([10, number, 0, host]);
        let vips = vec![IpAddr::from([10, number, 0, 50])];
        let name = format!("VI_{number}");
        Settings {
            interface: interface.to_owned(),
            priority: Priority::new(priority).unwrap(),
            trackers: vec![
                tracker(Kind::Script, "chk", 0),
                tracker(Kind::Script, "load", -50),
            ],
            ..Settings::new(&name, Vrid::new(number).unwrap(), source, vips)
        }
    };
    vec![one(1, "eth0"), one(2, "eth1")]
}

fn group(tracking_weight: bool) -> Vec<Group> {
    let members = ["VI_1", "VI_2"].map(str::to_owned).to_vec();
    vec![Group {
        name: "G".to_owned(),
        members,
        tracking_weight,
    }]
}

impl Director {
    fn new(host: u8, routers: Vec<Settings>, groups: Vec<Group>) -> Self {
        let mut director = Self {
            routers: Routers::new(),
            now: Now::ZERO,
            host,
            sent: Vec::new(),
            notices: Vec::new(),
            holds: BTreeMap::new(),
        };
        director.configure(routers, groups);
        director
    }

    fn configure(&mut self, routers: Vec<Settings>, groups: Vec<Group>) {
        let predecessors = BTreeMap::new();
        self.input(Input::Configure {
            routers,
            groups,
            predecessors,
        });
    }

    fn input(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.routers.handle(self.now, input, &mut actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Group { notice, .. } => self.notices.push(notice),
                Action::Router(
                    id,
                    router::Action::Advert {
                        priority,
                        destination,
                    },
                ) => {
                    let message = self
                        .routers
                        .message(id, priority, destination, Wall::default());
                    // A router that is gone has nothing to say.
                    if let Some(message) = message {
                        self.sent.push((message[1], priority, message));
                    }
                }
                Action::Router(id, router::Action::TakeAddresses) => {
                    self.holds.insert(id, true);
                }
                Action::Router(id, router::Action::DropAddresses) => {
                    self.holds.insert(id, false);
                }
                Action::Router(..) => {}
            }
        }
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now.after(Duration::from_secs_f64(seconds));
        while let Some(deadline) = self.routers.deadline().filter(|deadline| *deadline <= end) {
            self.expire(deadline);
        }
        self.now = end;
    }

    fn expire(&mut self, deadline: Now) {
        self.now = deadline;
        let mut actions = Vec::new();
        self.routers.expire(deadline, &mut actions);
        self.carry_out(actions);
        assert!(
            self.routers.deadline().is_none_or(|next| next > deadline),
            "in the past"
        );
    }

    fn states(&self) -> Vec<State> {
        self.routers
            .snapshots()
            .iter()
            .map(|(_, snapshot)| snapshot.state)
            .collect()
    }

    fn tracked(&mut self, kind: Kind, name: &str, up: bool) {
        let condition = if up {
            Condition::Up
        } else {
            Condition::Down { failures: 1 }
        };
        let name = name.to_owned();
        self.input(Input::Tracked {
            kind,
            name,
            condition,
        });
    }

    /// An advert of another host for VRID `number`.
    fn hear(&mut self, number: u8, host: u8, message: &[u8]) {
        let interface = if number == 1 { "eth0" } else { "eth1" };
        for id in self
            .routers
            .find(interface, false, Vrid::new(number).unwrap())
        {
            let datagram = Datagram {
                source: IpAddr::from([10, number, 0, host]),
                destination: IpAddr::from([224, 0, 0, 18]),
                hops: HOPS,
                message: message.to_vec(),
            };
            self.input(Input::Received {
                id,
                datagram,
                wall: Wall::default(),
            });
        }
    }
}

fn advert(number: u8, priority: u8) -> Vec<u8> {
    let settings = &settings(99, 100)[usize::from(number) - 1];
    let advert = Advert {
        version: settings.version,
        vrid: settings.vrid,
        priority: Priority::from_wire(priority),
        interval: settings.interval,
        auth: settings.auth,
        addresses: settings.addresses.clone(),
    };
    encode(&advert, settings.source, settings.destinations()[0], false)
}

use State::{Backup, Fault, Init, Master};

#[test]
fn members_become_master_together_when_the_last_is_ready() {
    let mut director = Director::new(11, settings(11, 100), group(false));
    director.run(3.0);
    director.hear(2, 12, &advert(2, 150));
    director.run(1.0);
    assert_eq!(
        director.states(),
        [Backup, Backup],
        "one waits for the other"
    );
    director.run(3.0);
    assert_eq!(director.states(), [Master, Master]);
    assert_eq!(director.notices, [Notice::Backup, Notice::Master]);
    let (_, first) = &director.routers.snapshots()[0];
    assert_eq!(
        first.why.as_ref().unwrap().to_string(),
        "no advert for 3.61 s"
    );
}

#[test]
fn a_fault_of_one_is_a_fault_of_all_and_others_need_not_wait() {
    let mut director = Director::new(11, settings(11, 100), group(false));
    director.run(5.0);
    director.sent.clear();
    director.tracked(Kind::Interface, "eth1", false);
    assert_eq!(director.states(), [Fault, Fault]);
    let released: Vec<_> = director
        .sent
        .iter()
        .map(|(vrid, p, _)| (*vrid, p.get()))
        .collect();
    assert_eq!(released, [(2, 0), (1, 0)]);
    let (_, first) = &director.routers.snapshots()[0];
    assert_eq!(
        first.why.as_ref().unwrap().to_string(),
        "VI_2 of sync group G has a fault"
    );
    director.tracked(Kind::Interface, "eth1", true);
    assert_eq!(director.states(), [Backup, Backup]);
    director.run(4.0);
    assert_eq!(director.states(), [Master, Master]);
    let told = [
        Notice::Backup,
        Notice::Master,
        Notice::Fault,
        Notice::Backup,
        Notice::Master,
    ];
    assert_eq!(director.notices, told);
}

#[test]
fn one_that_steps_down_takes_the_others_along() {
    let mut director = Director::new(11, settings(11, 100), group(false));
    director.run(5.0);
    director.sent.clear();
    director.hear(1, 12, &advert(1, 150));
    assert_eq!(director.states(), [Backup, Backup]);
    let last = director
        .sent
        .last()
        .map(|(vrid, priority, _)| (*vrid, priority.get()));
    assert_eq!(last, Some((2, 0)), "nobody waits for the other one");
    let (_, second) = &director.routers.snapshots()[1];
    assert_eq!(
        second.why.as_ref().unwrap().to_string(),
        "VI_1 of sync group G stepped down"
    );
}

#[test]
fn weights_count_in_a_group_only_with_sync_group_tracking_weight() {
    for (weight, priority) in [(false, 100), (true, 50)] {
        let mut director = Director::new(11, settings(11, 100), group(weight));
        director.tracked(Kind::Script, "load", false);
        for (_, snapshot) in director.routers.snapshots() {
            assert_eq!(snapshot.priority.get(), priority, "{weight}");
        }
        director.configure(settings(11, 100), Vec::new());
        for (_, snapshot) in director.routers.snapshots() {
            assert_eq!(snapshot.priority.get(), 50, "no group, weights count");
        }
    }
}

#[test]
fn who_waits_for_a_group_that_is_dissolved_waits_no_longer() {
    let mut director = Director::new(11, settings(11, 100), group(false));
    director.run(3.0);
    director.hear(2, 12, &advert(2, 150));
    director.run(1.0);
    director.configure(settings(11, 100), Vec::new());
    assert_eq!(director.states(), [Master, Backup]);
}

#[test]
fn a_reload_keeps_masters_and_a_newcomer_knows_what_is_known() {
    let mut director = Director::new(11, settings(11, 100)[..1].to_vec(), Vec::new());
    director.run(4.0);
    director.tracked(Kind::Interface, "eth1", false);
    assert_eq!(director.states(), [Master]);
    director.configure(settings(11, 120), Vec::new());
    assert_eq!(
        director.states(),
        [Master, Fault],
        "the second one's interface is down"
    );
    let (_, first) = &director.routers.snapshots()[0];
    assert_eq!((first.priority.get(), first.stats.became_master), (120, 1));
}

#[test]
fn a_router_that_begins_to_track_something_knows_how_it_is() {
    let mut untracked = settings(11, 100)[..1].to_vec();
    untracked[0].trackers.clear();
    let mut director = Director::new(11, untracked, Vec::new());
    director.run(4.0);
    director.tracked(Kind::Script, "chk", false);
    assert_eq!(director.states(), [Master]);
    director.configure(settings(11, 100)[..1].to_vec(), Vec::new());
    assert_eq!(director.states(), [Fault]);
}

#[test]
fn a_router_that_goes_hands_over_while_its_successor_listens() {
    let mut director = Director::new(11, settings(11, 100)[..1].to_vec(), Vec::new());
    director.run(4.0);
    let mut other = settings(11, 100)[..1].to_vec();
    other[0].vrid = Vrid::new(7).unwrap();
    director.configure(other, Vec::new());
    assert_eq!(
        director.states(),
        [Master, Backup],
        "the old one is leaving"
    );
    director.hear(1, 12, &advert(1, 50));
    assert_eq!(director.states(), [Backup], "the old one is gone");
    assert!(
        director
            .routers
            .find("eth0", false, Vrid::new(1).unwrap())
            .is_empty()
    );
    assert_eq!(
        director
            .routers
            .find("eth0", false, Vrid::new(7).unwrap())
            .len(),
        1
    );
}

#[test]
fn a_router_that_is_renamed_goes_on() {
    let mut director = Director::new(11, settings(11, 100)[..1].to_vec(), Vec::new());
    director.run(4.0);
    let mut renamed = settings(11, 100)[..1].to_vec();
    "VI_new".clone_into(&mut renamed[0].name);
    director.configure(renamed, Vec::new());
    let snapshots = director.routers.snapshots();
    let [(_, only)] = snapshots.as_slice() else {
        panic!("{snapshots:?}");
    };
    assert_eq!((only.name.as_str(), only.state), ("VI_new", Master));
    assert_eq!(only.stats.became_master, 1);
}

#[test]
fn all_stop_in_good_order() {
    let mut director = Director::new(11, settings(11, 100), group(false));
    director.run(4.0);
    director.input(Input::Stop);
    assert!(!director.routers.is_idle(), "they wait for a successor");
    assert!(director.holds.values().all(|holds| *holds));
    director.hear(1, 12, &advert(1, 50));
    director.run(3.0);
    assert!(director.routers.is_idle());
    assert!(
        director.holds.values().all(|holds| !*holds),
        "{:?}",
        director.holds
    );
    assert!(!director.states().contains(&Init));
}

#[test]
fn told_to_stop_twice_they_wait_for_nobody() {
    let mut director = Director::new(11, settings(11, 100), group(false));
    director.run(4.0);
    director.input(Input::Stop);
    assert!(!director.routers.is_idle(), "they wait for a successor");
    director.input(Input::Stop);
    assert!(director.routers.is_idle());
    assert!(director.holds.values().all(|holds| !*holds));
}

#[test]
fn without_a_source_address_not_even_an_owner_sends_before_it_has_one() {
    let mut lonely = settings(11, 255)[..1].to_vec();
    let address = std::mem::replace(&mut lonely[0].source, IpAddr::from([0; 4]));
    let mut director = Director::new(11, lonely, Vec::new());
    director.run(1.0);
    assert_eq!(director.states(), [Fault]);
    assert!(director.sent.is_empty());
    let id = director.routers.snapshots()[0].0;
    director.input(Input::Source(id, Some(address)));
    assert_eq!(director.states(), [Master]);
}

/// Two directors with a group each, on two links that are cut and healed together or apart.
#[test]
fn groups_of_two_directors_never_come_to_rest_torn() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let priorities = [100 + u8::try_from(random.below(3)).unwrap(), 101];
        let mut pair = [11, 12].map(|host| {
            let priority = priorities[usize::from(host) - 11];
            Director::new(host, settings(host, priority), group(random.percent(50)))
        });
        for _ in 0..12 {
            let up = random.percent(60);
            let who = random.index(2);
            match random.below(4) {
                0 => pair[who].tracked(Kind::Interface, random.pick(&["eth0", "eth1"]), up),
                1 => pair[who].tracked(Kind::Script, random.pick(&["chk", "load"]), up),
                _ => {}
            }
            let time = Duration::from_millis(random.below(6_000));
            lockstep(&mut pair, time, random.percent(70));
        }
        for director in &mut pair {
            for (kind, name) in [
                (Kind::Interface, "eth0"),
                (Kind::Interface, "eth1"),
                (Kind::Script, "chk"),
            ] {
                director.tracked(kind, name, true);
            }
        }
        lockstep(&mut pair, Duration::from_secs(20), true);
        let states = [pair[0].states(), pair[1].states()];
        let whole = states.iter().all(|states| states[0] == states[1]);
        let masters = states.iter().filter(|states| states[0] == Master).count();
        assert!(whole && masters == 1, "seed {seed}: {states:?}");
    }
}

/// Drives both, each hearing what the other says, in the order in which they say it.
fn lockstep(pair: &mut [Director; 2], time: Duration, linked: bool) {
    let end = pair[0].now.after(time);
    loop {
        let deadlines = pair.each_ref().map(|director| director.routers.deadline());
        let next = deadlines
            .into_iter()
            .flatten()
            .min()
            .filter(|next| *next <= end);
        for director in pair.iter_mut() {
            director.now = next.unwrap_or(end);
        }
        let Some(next) = next else { break };
        for (who, _) in deadlines
            .iter()
            .enumerate()
            .filter(|(_, d)| d.is_some_and(|d| d <= next))
        {
            pair[who].expire(next);
        }
        exchange(pair, linked);
    }
    exchange(pair, linked);
}

fn exchange(pair: &mut [Director; 2], linked: bool) {
    for _ in 0..20 {
        for who in 0..2 {
            let from = pair[who].host;
            for (vrid, _, message) in std::mem::take(&mut pair[who].sent) {
                if linked {
                    pair[1 - who].hear(vrid, from, &message);
                }
            }
        }
        if pair.iter().all(|director| director.sent.is_empty()) {
            return;
        }
    }
    panic!("they answer each other without end");
}

#[test]
fn a_router_without_a_peer_has_a_fault_until_it_gets_one() {
    let unicast = |peers: Vec<Peer>| {
        let mut settings = settings(1, 100);
        settings.truncate(1);
        settings[0].transport = Transport::Unicast {
            peers,
            check_source: false,
        };
        Input::Configure {
            routers: settings,
            groups: vec![],
            predecessors: BTreeMap::new(),
        }
    };
    let mut routers = Routers::new();
    let mut actions = Vec::new();
    let state = |routers: &Routers| routers.snapshots()[0].1.state;
    routers.handle(Now::ZERO, unicast(vec![]), &mut actions);
    assert_eq!(state(&routers), Fault);
    let said = actions.iter().any(|action| match action {
        Action::Router(_, router::Action::Log(event)) => {
            event.to_string() == "INIT → FAULT: it has no unicast_peer (unicast_fault_no_peer)"
        }
        _ => false,
    });
    assert!(said, "{actions:?}");
    let peer = Peer {
        address: IpAddr::from([10, 1, 0, 2]),
        min_ttl: 0,
        max_ttl: 255,
    };
    routers.handle(Now::ZERO, unicast(vec![peer]), &mut actions);
    assert_eq!(state(&routers), Backup);
    routers.handle(Now::ZERO, unicast(vec![]), &mut actions);
    assert_eq!(state(&routers), Fault);
}
