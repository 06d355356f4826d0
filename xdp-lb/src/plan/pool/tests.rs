use super::*;
use crate::config::model::Forwarding;
use crate::plan::table::ServerHealth;
use crate::plan::testing::{server_address, service_key, websocket};
use proptest::prelude::*;

const FIRST: &str = "192.168.1.102:80";
const SECOND: &str = "192.168.1.103:80";
const SORRY: &str = "192.168.1.110:80";

/// Pools on a virtual clock, and all that decides over them.
struct Bench {
    pools: Pools,
    now: Now,
    config: Config,
    health: Health,
    overrides: Overrides,
}

impl Bench {
    fn new(change: impl FnOnce(&mut VirtualServer)) -> Self {
        let mut config = websocket();
        change(&mut config.virtual_servers[0]);
        let mut bench = Self {
            pools: Pools::default(),
            now: Now::ZERO,
            config,
            health: Health::new(),
            overrides: Overrides::new(),
        };
        bench.judge(FIRST, true);
        bench.judge(SECOND, true);
        bench.update();
        bench
    }

    fn judge(&mut self, server: &str, up: bool) {
        let health = ServerHealth {
            up,
            ..ServerHealth::default()
        };
        let server = (service_key(0), server.parse().unwrap());
        self.health.insert(server, health);
    }

    fn say(&mut self, server: &str, said: Override) {
        let server = (service_key(0), server.parse().unwrap());
        self.overrides.insert(server, said);
    }

    fn service(&mut self) -> &mut VirtualServer {
        &mut self.config.virtual_servers[0]
    }

    fn update(&mut self) -> Vec<Occurrence> {
        let Self {
            now,
            config,
            health,
            overrides,
            ..
        } = self;
        let events = self.pools.update(*now, config, health, overrides);
        events.into_iter().map(|event| event.what).collect()
    }

    fn after(&mut self, seconds: u64) -> Vec<Occurrence> {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.update()
    }

    fn pool(&self) -> &Membership {
        &self.pools.memberships()[&service_key(0)]
    }

    fn member(&self, address: &str) -> Option<Member> {
        let address: SocketAddr = address.parse().unwrap();
        let mut members = self.pool().members.iter();
        members.find(|member| member.address == address).copied()
    }

    /// Last octet, weight, and letters: serving, Releases clients, Leaving.
    fn seen(&self) -> Vec<String> {
        let member = |member: &Member| {
            let octet = member.address.ip().to_string();
            let octet = octet.rsplit('.').next().unwrap().to_owned();
            let serving = if member.serving { "" } else { " out" };
            let releases = if member.releases_clients { " R" } else { "" };
            let leaving = if member.role == Role::Leaving {
                " L"
            } else {
                ""
            };
            format!("{octet}:{}{serving}{releases}{leaving}", member.weight)
        };
        self.pool().members.iter().map(member).collect()
    }
}

fn sorry(inhibit: bool) -> SorryServer {
    SorryServer {
        address: SORRY.parse().unwrap(),
        forwarding: Forwarding::DirectRouting,
        inhibit,
    }
}

fn drained() -> Override {
    Override {
        weight: None,
        is_drained: true,
    }
}

#[test]
fn a_server_that_fails_is_out_and_one_that_is_inhibited_keeps_its_connections() {
    let mut bench = Bench::new(|service| service.real_servers[0].inhibit_on_failure = true);
    assert_eq!(bench.seen(), ["103:1", "102:1"]);
    bench.judge(FIRST, false);
    bench.judge(SECOND, false);
    bench.update();
    assert_eq!(bench.seen(), ["103:0 out R", "102:0 R"]);
}

/// keepalived removes a server and adds it again, at the head; one that is inhibited it only edits.
#[test]
fn a_server_that_comes_back_is_at_the_head_unless_it_was_inhibited() {
    for (inhibit, seen) in [(false, ["102:1", "103:1"]), (true, ["103:1", "102:1"])] {
        let mut bench = Bench::new(|service| service.real_servers[0].inhibit_on_failure = inhibit);
        bench.judge(FIRST, false);
        bench.update();
        let health = ServerHealth {
            up: true,
            joined: 1,
            ..ServerHealth::default()
        };
        let server = (service_key(0), FIRST.parse().unwrap());
        bench.health.insert(server, health);
        bench.update();
        assert_eq!(bench.seen(), seen);
    }
}

#[test]
fn what_an_operator_says_goes_before_the_file_and_before_checks() {
    let mut bench = Bench::new(|_| {});
    let weight = Some(7);
    let is_drained = false;
    bench.say(FIRST, Override { weight, is_drained });
    bench.say(SECOND, drained());
    bench.update();
    assert_eq!(bench.seen(), ["103:0", "102:7"]);
    bench.service().expire_quiescent = true;
    bench.update();
    assert_eq!(bench.seen(), ["103:0 R", "102:7"], "sticky clients move");
    bench.overrides.clear();
    bench.update();
    assert_eq!(bench.seen(), ["103:1", "102:1"]);
}

#[test]
fn a_server_at_weight_0_fails_as_any_other() {
    let mut bench = Bench::new(|_| {});
    bench.say(FIRST, drained());
    bench.judge(FIRST, false);
    bench.update();
    assert_eq!(bench.seen(), ["103:1", "102:0 out R"]);
}

#[test]
fn the_sorry_server_takes_the_place_of_all_and_gives_it_back() {
    let mut bench = Bench::new(|service| {
        service.quorum.weight = 2;
        service.sorry_server = Some(sorry(false));
    });
    assert_eq!(bench.seen(), ["103:1", "102:1"]);
    bench.judge(FIRST, false);
    let address = SORRY.parse().unwrap();
    let lost = Occurrence::QuorumLost {
        live: 1,
        is_first: false,
    };
    assert_eq!(bench.update(), [lost, Occurrence::SorryServes(address)]);
    // Whoever lives keeps the connections it has.
    assert_eq!(bench.seen(), ["110:1", "103:0 R", "102:0 out R"]);
    bench.judge(FIRST, true);
    let gained = Occurrence::QuorumGained {
        live: 2,
        is_first: false,
    };
    let expected = [
        gained,
        Occurrence::SorryLeft(address),
        Occurrence::Leaves(address),
    ];
    assert_eq!(bench.update(), expected);
    assert_eq!(bench.seen(), ["103:1", "102:1", "110:0 R L"]);
    bench.pools.let_go(bench.now, (service_key(0), address));
    assert_eq!(bench.update(), [Occurrence::Gone(address)]);
    assert_eq!(bench.seen(), ["103:1", "102:1"]);
}

#[test]
fn a_sorry_server_that_is_inhibited_stays_with_weight_0() {
    let mut bench = Bench::new(|service| service.sorry_server = Some(sorry(true)));
    assert_eq!(bench.seen(), ["110:0 R", "103:1", "102:1"]);
    bench.judge(FIRST, false);
    bench.judge(SECOND, false);
    bench.update();
    assert_eq!(bench.seen()[0], "110:1");
    bench.judge(FIRST, true);
    bench.update();
    assert_eq!(bench.seen(), ["110:0 R", "103:0 out R", "102:1"]);
}

#[test]
fn without_a_sorry_server_those_who_live_go_on() {
    let mut bench = Bench::new(|service| service.quorum.weight = 2);
    bench.judge(FIRST, false);
    assert_eq!(bench.update().len(), 1, "it is told");
    assert_eq!(bench.seen(), ["103:1", "102:0 out R"]);
    assert!(!bench.pool().has_quorum && !bench.pool().is_sorry);
}

#[test]
fn draining_all_brings_the_sorry_server() {
    let mut bench = Bench::new(|service| service.sorry_server = Some(sorry(false)));
    bench.say(FIRST, drained());
    bench.say(SECOND, drained());
    bench.update();
    assert_eq!(bench.seen(), ["110:1", "103:0 R", "102:0 R"]);
}

#[test]
fn a_server_that_comes_back_grows_and_the_others_keep_their_share() {
    let mut bench = Bench::new(|service| {
        service.real_servers[0].slow_start = Some(Duration::from_secs(30));
    });
    assert_eq!(bench.seen(), ["103:1", "102:1"], "not at the start");
    bench.judge(FIRST, false);
    bench.update();
    bench.judge(FIRST, true);
    bench.after(100);
    assert_eq!(bench.seen(), ["103:10", "102:1"]);
    let next = bench.now.after(Duration::from_secs(3));
    assert_eq!(bench.pools.deadline(), Some(next));
    bench.after(3);
    assert_eq!(bench.seen(), ["103:10", "102:2"]);
    assert_eq!(bench.member(FIRST).unwrap().full_weight, 1);
    bench.after(24);
    assert_eq!(bench.seen(), ["103:1", "102:1"], "all of it");
    assert_eq!(bench.pools.deadline(), None);
}

#[test]
fn a_server_that_left_the_file_keeps_its_connections_for_a_while() {
    let mut bench = Bench::new(|_| {});
    let removed = bench.service().real_servers.remove(0);
    let address = removed.address;
    assert_eq!(bench.update(), [Occurrence::Leaves(address)]);
    assert_eq!(bench.seen(), ["103:1", "102:0 R L"]);
    assert_eq!(bench.after(899), []);
    assert_eq!(bench.after(1), [Occurrence::Gone(address)]);
    assert_eq!(bench.seen(), ["103:1"]);
}

#[test]
fn a_server_that_comes_back_while_it_leaves_is_as_if_it_never_had() {
    let mut bench = Bench::new(|_| {});
    let before = bench.seen();
    let removed = bench.service().real_servers.remove(0);
    bench.update();
    bench.service().real_servers.insert(0, removed.clone());
    let returns = Occurrence::Returns(removed.address);
    assert_eq!(bench.after(10), [returns]);
    assert_eq!(bench.seen(), before);
    let since = bench.pool().since[&removed.address];
    assert_eq!(since, bench.now, "it is seen that it was away");
    assert_eq!(bench.after(1000), [], "and nothing is left to end");
}

#[test]
fn a_server_that_nobody_judges_any_more_or_not_yet_is_what_it_was() {
    let mut bench = Bench::new(|_| {});
    let server = (service_key(0), FIRST.parse().unwrap());
    // Its checks end before it leaves the configuration, and may begin after it came back.
    let verdict = bench.health.remove(&server).unwrap();
    assert_eq!(bench.update(), []);
    assert_eq!(bench.seen(), ["103:1", "102:1"]);
    let removed = bench.service().real_servers.remove(0);
    bench.update();
    bench.service().real_servers.insert(0, removed.clone());
    assert_eq!(bench.update(), [Occurrence::Returns(removed.address)]);
    assert_eq!(bench.seen(), ["103:1", "102:1"]);
    bench.health.insert(server, verdict);
    assert_eq!(bench.update(), []);
    // Of one that is new nobody knows anything.
    bench.service().real_servers[0].address.set_port(81);
    bench.update();
    assert_eq!(bench.seen(), ["103:1", "102:0 out R", "102:0 R L"]);
}

#[test]
fn who_failed_or_has_no_time_leaves_at_once() {
    let mut bench = Bench::new(|_| {});
    bench.judge(FIRST, false);
    bench.update();
    bench.service().real_servers.remove(0);
    assert_eq!(bench.update(), []);
    assert_eq!(bench.seen(), ["103:1"]);
    let mut bench = Bench::new(|_| {});
    bench.config.xdp_lb.drain_timeout = Duration::ZERO;
    bench.service().real_servers.remove(0);
    assert_eq!(bench.update(), []);
    assert_eq!(bench.seen(), ["103:1"]);
}

#[test]
fn servers_of_a_predecessor_that_the_file_does_not_name_leave() {
    let mut bench = Bench::new(|_| {});
    let old: SocketAddr = "192.168.1.109:80".parse().unwrap();
    let inherited = [
        ((service_key(0), old), true),
        ((service_key(0), FIRST.parse().unwrap()), true),
        ((service_key(0), server_address(7)), false),
    ];
    bench.pools = Pools::inheriting(&inherited.into());
    bench.update();
    assert_eq!(bench.seen(), ["103:1", "102:1", "109:0 R L"]);
}

#[derive(Clone, Debug)]
enum Step {
    Judge(usize, bool),
    Say(usize, Option<Override>),
    Wait(u64),
    Remove(usize),
    Add(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let weights = prop_oneof![Just(None), (0_u32..4).prop_map(Some)];
    let said =
        (weights, any::<bool>()).prop_map(|(weight, is_drained)| Override { weight, is_drained });
    prop_oneof![
        (0_usize..4, any::<bool>()).prop_map(|(server, up)| Step::Judge(server, up)),
        (0_usize..4, prop::option::of(said)).prop_map(|(server, said)| Step::Say(server, said)),
        (0_u64..40).prop_map(Step::Wait),
        (0_usize..4).prop_map(Step::Remove),
        (0_usize..4).prop_map(Step::Add),
    ]
}

fn real(index: usize) -> RealServer {
    let address = server_address(u8::try_from(index).unwrap());
    RealServer {
        inhibit_on_failure: index == 1,
        slow_start: (index == 2).then_some(Duration::from_secs(30)),
        weight: u32::try_from(index).unwrap() + 1,
        ..RealServer::new(address, Forwarding::DirectRouting)
    }
}

fn take(bench: &mut Bench, step: &Step) {
    let name = |index: &usize| (service_key(0), real(*index).address);
    match step {
        Step::Judge(server, up) => bench.judge(&name(server).1.to_string(), *up),
        Step::Say(server, Some(said)) => bench.say(&name(server).1.to_string(), *said),
        Step::Say(server, None) => drop(bench.overrides.remove(&name(server))),
        Step::Wait(seconds) => bench.now = bench.now.after(Duration::from_secs(*seconds)),
        Step::Remove(server) => {
            let address = name(server).1;
            bench
                .service()
                .real_servers
                .retain(|s| s.address != address);
        }
        Step::Add(server) => {
            let address = name(server).1;
            let servers = &mut bench.service().real_servers;
            if servers.iter().all(|s| s.address != address) {
                servers.push(real(*server));
            }
        }
    }
}

/// What must hold of any pool, whatever came before.
fn unsound(bench: &Bench) -> Option<String> {
    let service = &bench.config.virtual_servers[0];
    let pool = bench.pool();
    let mut addresses: Vec<_> = pool.members.iter().map(|m| m.address).collect();
    addresses.sort();
    addresses.dedup();
    if addresses.len() != pool.members.len() {
        return Some("a server is in the pool twice".to_owned());
    }
    for member in &pool.members {
        let wanted = match member.role {
            Role::Real => service
                .real_servers
                .iter()
                .any(|s| s.address == member.address),
            Role::Sorry => pool.is_sorry && member.weight == 1,
            Role::Leaving => member.weight == 0 && member.releases_clients,
        };
        let takes_new = member.weight > 0;
        if !wanted || (takes_new && !(member.serving && member.up && !member.releases_clients)) {
            return Some(format!("{member:?}"));
        }
        if pool.is_sorry && takes_new && member.role != Role::Sorry {
            return Some(format!("beside the sorry server: {member:?}"));
        }
    }
    let real = pool.members.iter().filter(|m| m.role == Role::Real).count();
    let hidden = usize::from(pool.is_sorry && real < service.real_servers.len());
    (real + hidden != service.real_servers.len()).then(|| "somebody is missing".to_owned())
}

proptest! {
    /// Whatever happened, nobody who should not takes new connections; and once who leaves has left and
    /// who grows has grown, the pool is what another machine makes of the same configuration,
    /// verdicts and overrides, except that a quorum within its margin stays on its side.
    #[test]
    fn a_pool_is_a_function_of_configuration_verdicts_and_overrides(
        steps in prop::collection::vec(any_step(), 0..40),
        has_sorry: bool,
    ) {
        let mut bench = Bench::new(|service| {
            service.real_servers = (0..3).map(real).collect();
            service.quorum.weight = 3;
            service.sorry_server = has_sorry.then(|| sorry(false));
        });
        for step in &steps {
            take(&mut bench, step);
            bench.update();
            prop_assert_eq!(unsound(&bench), None);
            let deadline = bench.pools.deadline();
            prop_assert!(deadline.is_none_or(|deadline| deadline > bench.now));
        }
        while let Some(deadline) = bench.pools.deadline() {
            bench.now = deadline;
            bench.update();
            prop_assert_eq!(unsound(&bench), None);
        }
        let mut other = Pools::default();
        other.update(bench.now, &bench.config, &bench.health, &bench.overrides);
        let other = &other.memberships()[&service_key(0)];
        prop_assert_eq!(&other.members, &bench.pool().members);
        prop_assert_eq!(other.has_quorum, bench.pool().has_quorum);
    }

    /// What happens to one server changes nothing of what others keep: their flows and templates.
    #[test]
    fn others_keep_their_flows_and_templates(index in 0_usize..3, step in any_step()) {
        let mut bench = Bench::new(|service| {
            service.real_servers = (0..4).map(real).collect();
        });
        for server in 0..4 {
            take(&mut bench, &Step::Judge(server, true));
        }
        bench.update();
        let touched = match &step {
            Step::Judge(server, _) | Step::Say(server, _) | Step::Remove(server) | Step::Add(server) => Some(*server),
            Step::Wait(_) => None,
        };
        prop_assume!(touched != Some(index));
        take(&mut bench, &step);
        bench.update();
        let other = bench.member(&real(index).address.to_string()).unwrap();
        prop_assert!(other.serving && !other.releases_clients && other.weight > 0);
    }
}
