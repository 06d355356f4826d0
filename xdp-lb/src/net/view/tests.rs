//! The rules, one by one and all together.

use proptest::prelude::*;
use xdp_lb_common::addr::Mac;

use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn mac(last: u8) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 0, last])
}

fn link(ifindex: u32, up: bool) -> Input {
    Input::Link(Interface {
        ifindex,
        name: format!("eth{}", ifindex - ETH0),
        mac: mac(u8::try_from(ifindex).unwrap()),
        mtu: 1500,
        up,
        sort: crate::plan::interfaces::Sort::Plain,
    })
}

fn hop(address: &str) -> Hop {
    Hop {
        ifindex: ETH0,
        address: ip(address),
    }
}

fn neighbour(address: &str, resolution: Resolution, last: Option<u8>) -> Input {
    let mac = last.map(mac);
    Input::Neighbour(hop(address), Neighbour { resolution, mac })
}

fn route(target: &str, via: &str) -> Input {
    Input::Route(ip(target), Route::Via(hop(via)))
}

fn expire(view: &mut View, now: Duration) -> Vec<Action> {
    let mut actions = Vec::new();
    view.expire(now, &mut actions);
    actions
}

/// A view of eth0 with one server on the link, looked up and asked for at the start.
fn one_server() -> View {
    let mut view = View::default();
    view.handle(at(0), link(ETH0, true));
    view.handle(at(0), Input::Targets([ip("10.0.0.9")].into()));
    assert_eq!(
        expire(&mut view, at(0)),
        [Action::LookUpRoute(ip("10.0.0.9"))]
    );
    view.handle(at(0), route("10.0.0.9", "10.0.0.9"));
    assert_eq!(expire(&mut view, at(0)), [Action::Resolve(hop("10.0.0.9"))]);
    view
}

fn at_mac(last: u8, on_link: bool) -> Reach {
    Reach::Direct {
        ifindex: ETH0,
        source_mac: mac(2),
        mac: mac(last),
        on_link,
    }
}

#[test]
fn a_server_on_the_link_is_reached_at_its_own_mac() {
    let mut view = one_server();
    assert!(view.reach(ip("10.0.0.9")).unwrap_err().is_transient());
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Known, Some(9)));
    assert_eq!(view.reach(ip("10.0.0.9")), Ok(at_mac(9, true)));
    let network = view.network();
    assert!(network.links["eth0"].up);
    assert_eq!(
        network.reach.keys().copied().collect::<Vec<_>>(),
        [ip("10.0.0.9")]
    );
}

#[test]
fn a_server_behind_a_gateway_is_reached_at_the_mac_of_the_gateway() {
    let mut view = one_server();
    view.handle(at(1), route("10.0.0.9", "10.0.0.1"));
    assert_eq!(expire(&mut view, at(1)), [Action::Resolve(hop("10.0.0.1"))]);
    view.handle(at(1), neighbour("10.0.0.1", Resolution::Known, Some(1)));
    assert_eq!(view.reach(ip("10.0.0.9")), Ok(at_mac(1, false)));
}

#[test]
fn only_an_address_of_this_host_is_local() {
    let mut view = one_server();
    view.handle(at(1), Input::Route(ip("10.0.0.9"), Route::Local));
    assert_eq!(view.reach(ip("10.0.0.9")), Err(Unreached::NotOurAddress));
    let ours = "10.0.0.9/24".parse().unwrap();
    view.handle(at(2), Input::Address(ETH1, ours));
    assert_eq!(view.reach(ip("10.0.0.9")), Ok(Reach::Local));
    // The same address with another prefix length is another address of the kernel's.
    view.handle(at(3), Input::Address(ETH1, "10.0.0.9/32".parse().unwrap()));
    view.handle(at(4), Input::AddressGone(ETH1, ours));
    assert_eq!(view.reach(ip("10.0.0.9")), Ok(Reach::Local));
    view.handle(at(5), Input::LinkGone(ETH1));
    assert_eq!(view.reach(ip("10.0.0.9")), Err(Unreached::NotOurAddress));
}

#[test]
fn all_of_the_loopback_network_is_local() {
    let mut view = View::default();
    view.handle(at(0), Input::Targets([ip("127.0.0.2")].into()));
    view.handle(at(0), Input::Route(ip("127.0.0.2"), Route::Local));
    assert_eq!(view.reach(ip("127.0.0.2")), Ok(Reach::Local));
}

#[test]
fn a_flush_takes_no_server_out() {
    let mut view = one_server();
    let target = ip("10.0.0.9");
    for before in [Resolution::Known, Resolution::Stale] {
        view.handle(at(2_000), neighbour("10.0.0.9", before, Some(9)));
        // What the kernel tells of `ip neigh flush`.
        view.handle(at(3_000), neighbour("10.0.0.9", Resolution::Failed, None));
        assert_eq!(view.reach(target), Ok(at_mac(9, true)));
        view.handle(at(3_000), Input::NeighbourGone(hop("10.0.0.9")));
        assert_eq!(view.reach(target), Ok(at_mac(9, true)));
    }
    assert_eq!(
        expire(&mut view, at(3_000)),
        [Action::Resolve(hop("10.0.0.9"))]
    );
    view.handle(at(6_000), neighbour("10.0.0.9", Resolution::Failed, None));
    assert!(view.reach(target).is_err(), "nobody answers");
}

#[test]
fn a_mac_serves_until_the_kernel_gives_up() {
    let mut view = one_server();
    let target = ip("10.0.0.9");
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Known, Some(9)));
    view.handle(at(2), neighbour("10.0.0.9", Resolution::Stale, Some(9)));
    assert_eq!(view.reach(target), Ok(at_mac(9, true)));
    view.handle(at(2), neighbour("10.0.0.9", Resolution::Probing, Some(9)));
    assert_eq!(view.reach(target), Ok(at_mac(9, true)));
    view.handle(at(3), Input::NeighbourGone(hop("10.0.0.9")));
    assert_eq!(view.reach(target), Ok(at_mac(9, true)), "flushed");
    view.handle(at(4), neighbour("10.0.0.9", Resolution::Pending, None));
    assert_eq!(view.reach(target), Ok(at_mac(9, true)), "resolved anew");
    view.handle(at(5), neighbour("10.0.0.9", Resolution::Failed, None));
    assert!(matches!(
        view.reach(target),
        Err(Unreached::NoAnswer { .. })
    ));
    assert!(!view.network().reach.contains_key(&target));
    view.handle(at(6), neighbour("10.0.0.9", Resolution::Pending, None));
    assert!(
        view.reach(target).is_err(),
        "the old MAC does not come back by itself"
    );
    view.handle(at(7), neighbour("10.0.0.9", Resolution::Stale, Some(8)));
    assert_eq!(view.reach(target), Ok(at_mac(8, true)));
}

#[test]
fn a_server_without_an_answer_is_asked_for_each_second() {
    let mut view = one_server();
    for second in 1..100 {
        let due = at(1000 * second);
        let before = at(1000 * second - 1);
        assert_eq!(expire(&mut view, before), []);
        if second % 4 == 3 {
            view.handle(due, neighbour("10.0.0.9", Resolution::Failed, None));
        }
        let actions = expire(&mut view, due);
        assert!(
            actions.contains(&Action::Resolve(hop("10.0.0.9"))),
            "{due:?}"
        );
    }
}

#[test]
fn a_known_server_is_left_to_the_kernel_and_a_stale_one_checked_now_and_then() {
    let mut view = one_server();
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Known, Some(9)));
    assert_eq!(view.deadline(), Some(LOOK_UP_PERIOD), "nothing but routes");
    let stale = neighbour("10.0.0.9", Resolution::Stale, Some(9));
    view.handle(at(20_000), stale.clone());
    assert_eq!(expire(&mut view, at(29_999)), []);
    assert!(expire(&mut view, at(30_000)).contains(&Action::Resolve(hop("10.0.0.9"))));
    view.handle(
        at(30_000),
        neighbour("10.0.0.9", Resolution::Known, Some(9)),
    );
    view.handle(at(75_000), stale);
    assert!(expire(&mut view, at(75_000)).contains(&Action::Resolve(hop("10.0.0.9"))));
}

#[test]
fn a_permanent_entry_is_never_asked_for() {
    let mut view = one_server();
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Fixed, Some(9)));
    assert_eq!(view.reach(ip("10.0.0.9")), Ok(at_mac(9, true)));
    assert_eq!(expire(&mut view, at(29_000)), []);
}

#[test]
fn nothing_is_asked_on_an_interface_that_is_down() {
    let mut view = one_server();
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Known, Some(9)));
    view.handle(at(2), link(ETH0, false));
    let down = Unreached::LinkDown {
        interface: "eth0".into(),
    };
    assert_eq!(view.reach(ip("10.0.0.9")), Err(down));
    view.handle(at(3), Input::NeighbourGone(hop("10.0.0.9")));
    let actions = expire(&mut view, at(5_000));
    assert_eq!(actions, [Action::LookUpRoute(ip("10.0.0.9"))]);
    view.handle(at(6_000), link(ETH0, true));
    assert!(expire(&mut view, at(6_000)).contains(&Action::Resolve(hop("10.0.0.9"))));
}

#[test]
fn a_burst_of_route_changes_costs_one_round_of_look_ups() {
    let mut view = one_server();
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Known, Some(9)));
    for millis in 1..50 {
        view.handle(at(millis), Input::RoutesChanged);
        assert_eq!(expire(&mut view, at(millis)), [], "{millis} ms");
    }
    assert_eq!(view.deadline(), Some(LOOK_UP_GAP));
    let again = [Action::LookUpRoute(ip("10.0.0.9"))];
    assert_eq!(expire(&mut view, LOOK_UP_GAP), again);
    assert_eq!(view.deadline(), Some(LOOK_UP_GAP + LOOK_UP_PERIOD));
    // After a quiet time the first change is looked up at once.
    view.handle(at(5_000), Input::RoutesChanged);
    assert_eq!(expire(&mut view, at(5_000)), again);
}

#[test]
fn a_snapshot_replaces_everything_but_keeps_the_mac_of_an_entry_that_went() {
    let mut view = one_server();
    view.handle(at(1), link(ETH1, true));
    view.handle(at(1), neighbour("10.0.0.9", Resolution::Known, Some(9)));
    view.handle(at(1), neighbour("10.0.0.77", Resolution::Known, Some(77)));
    let snapshot = |neighbours| {
        let Input::Link(eth0) = link(ETH0, true) else {
            unreachable!()
        };
        Input::Snapshot(Snapshot {
            links: vec![eth0],
            addresses: vec![],
            neighbours,
        })
    };
    view.handle(at(2), snapshot(vec![]));
    assert_eq!(view.reach(ip("10.0.0.9")), Ok(at_mac(9, true)));
    assert_eq!(view.network().links.len(), 1);
    assert_eq!(
        view.neighbours.len(),
        1,
        "only what is in use is remembered"
    );
    let failed = Neighbour {
        resolution: Resolution::Failed,
        mac: Some(mac(9)),
    };
    view.handle(at(3), snapshot(vec![(hop("10.0.0.9"), failed)]));
    assert!(view.reach(ip("10.0.0.9")).is_err());
}

#[test]
fn targets_that_go_leave_nothing_behind() {
    let mut view = one_server();
    view.handle(at(1), Input::Targets(BTreeSet::new()));
    view.handle(at(2), Input::NeighbourGone(hop("10.0.0.9")));
    // An answer that was under way.
    view.handle(at(3), route("10.0.0.9", "10.0.0.9"));
    assert_eq!(expire(&mut view, at(40_000)), []);
    assert!(view.asked.is_empty() && view.neighbours.is_empty() && view.targets.is_empty());
    assert!(view.network().reach.is_empty());
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    (1..5_u8).prop_map(|last| IpAddr::from([10, 0, 0, last]))
}

fn any_hop() -> impl Strategy<Value = Hop> {
    (ETH0..=ETH1, any_ip()).prop_map(|(ifindex, address)| Hop { ifindex, address })
}

fn any_resolution() -> impl Strategy<Value = Resolution> {
    prop::sample::select(vec![
        Resolution::Pending,
        Resolution::Known,
        Resolution::Probing,
        Resolution::Stale,
        Resolution::Failed,
        Resolution::Fixed,
    ])
}

fn any_neighbour() -> impl Strategy<Value = Neighbour> {
    (any_resolution(), prop::option::of(1..9_u8)).prop_map(|(resolution, last)| {
        let known = !matches!(resolution, Resolution::Pending | Resolution::Failed);
        let last = if known { last.or(Some(1)) } else { last };
        let mac = last.map(mac);
        Neighbour { resolution, mac }
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    prop_oneof![
        1 => Just(Route::Local),
        1 => Just(Route::None),
        4 => any_hop().prop_map(Route::Via),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    let address = || any_ip().prop_map(IpNet::from);
    prop_oneof![
        1 => prop::collection::btree_set(any_ip(), 0..4).prop_map(Input::Targets),
        2 => (ETH0..=ETH1, prop::bool::weighted(0.8)).prop_map(|(at, up)| link(at, up)),
        1 => (ETH0..=ETH1).prop_map(Input::LinkGone),
        1 => (ETH0..=ETH1, address()).prop_map(|(at, net)| Input::Address(at, net)),
        1 => (ETH0..=ETH1, address()).prop_map(|(at, net)| Input::AddressGone(at, net)),
        6 => (any_hop(), any_neighbour()).prop_map(|(hop, n)| Input::Neighbour(hop, n)),
        2 => any_hop().prop_map(Input::NeighbourGone),
        1 => Just(Input::RoutesChanged),
        6 => (any_ip(), any_route()).prop_map(|(target, r)| Input::Route(target, r)),
        1 => prop::collection::vec((any_hop(), any_neighbour()), 0..4).prop_map(|neighbours| {
            let links = [link(ETH0, true), link(ETH1, false)].into_iter();
            let links = links.filter_map(|input| match input {
                Input::Link(link) => Some(link),
                _ => None,
            });
            Input::Snapshot(Snapshot { links: links.collect(), neighbours, addresses: vec![] })
        }),
    ]
}

/// What must hold after every step, and how `reach` may have changed by it.
fn check(before: &View, view: &View, input: &Input) {
    for (&target, reach) in &view.network().reach {
        assert!(view.targets.contains_key(&target));
        let Reach::Direct {
            ifindex,
            source_mac,
            mac,
            ..
        } = *reach
        else {
            assert!(view.is_ours(target));
            continue;
        };
        let link = &view.links[&ifindex];
        assert!(link.up && link.mac == source_mac && !mac.is_zero());
        let Some(Some(Route::Via(hop))) = view.targets.get(&target).copied() else {
            panic!("{target} is reached without a route");
        };
        assert_ne!(view.neighbours[&hop].resolution, Resolution::Failed);
    }
    if let Input::NeighbourGone(_) = input {
        assert_eq!(
            before.network(),
            view.network(),
            "a flush takes no server out"
        );
    }
}

proptest! {
    #[test]
    fn the_rules_hold_whatever_happens(
        steps in prop::collection::vec((any_input(), 0..3_000_u64), 1..80)
    ) {
        let mut view = View::default();
        let mut now = Duration::ZERO;
        let mut asked: BTreeMap<Hop, Duration> = BTreeMap::new();
        let mut looked_up = BTreeMap::new();
        for (input, wait) in steps {
            let before = view.clone();
            view.handle(now, input.clone());
            check(&before, &view, &input);
            // Whoever is not asked any more may be asked at once when it is needed again.
            asked.retain(|hop, _| view.asked.contains_key(hop));
            for action in expire(&mut view, now) {
                match action {
                    Action::Resolve(hop) => {
                        prop_assert!(view.hops().contains(&hop));
                        prop_assert!(view.links[&hop.ifindex].up);
                        let fixed = view.neighbours.get(&hop).map(|n| n.resolution);
                        prop_assert_ne!(fixed, Some(Resolution::Fixed));
                        let last = asked.insert(hop, now);
                        prop_assert!(last.is_none_or(|last| last + RETRY <= now));
                    }
                    Action::LookUpRoute(target) => {
                        looked_up.insert(target, now);
                    }
                }
            }
            asked.retain(|hop, _| view.asked.contains_key(hop));
            prop_assert!(view.deadline().is_none_or(|due| due > now));
            for (target, route) in &view.targets {
                let last = looked_up.get(target);
                prop_assert!(route.is_some() || last.is_some(), "{target} was never looked up");
            }
            for hop in view.hops() {
                let unknown = view.neighbours.get(&hop).is_none_or(|n| {
                    matches!(n.resolution, Resolution::Pending | Resolution::Failed)
                });
                if unknown && view.links.get(&hop.ifindex).is_some_and(|link| link.up) {
                    prop_assert!(view.deadline().is_some_and(|due| due <= now + RETRY));
                }
            }
            now += at(wait);
        }
    }
}
