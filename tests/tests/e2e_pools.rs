//! Pools as clients and operators see them: servers that are drained, weighed, removed and added back,
//! the sorry server, the quorum, and slow start.

use nix::sys::signal::Signal;
use xdp_lb_tests::cluster::{
    Cluster, PORT, SERVICE, real_server, server_address, virtual_server, vrrp_instance,
};
use xdp_lb_tests::director::List;
use xdp_lb_tests::traffic::{Call, Heart, beat_on};
use xdp_lb_tests::{needs, wait};

use std::time::Duration;

/// Bound of what should take seconds at most.
const SOON: Duration = Duration::from_secs(30);

fn configuration(lines: &str) -> String {
    vrrp_instance("MASTER") + &virtual_server(lines)
}

fn is(number: u8, state: &str) -> impl Fn(&List) -> bool {
    move |list| {
        let server = list.real_server(server_address(number));
        server.is_ok_and(|server| server.state == state)
    }
}

/// How many of the next connections each server answers, `rs1` first.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn shares(cluster: &Cluster, connections: usize) -> Vec<usize> {
    let call = |_| Call::open(&cluster.client.netns, SERVICE).unwrap().server;
    let answered: Vec<_> = (0..connections).map(call).collect();
    let name = |number| format!("rs{number}");
    let count = |number| answered.iter().filter(|by| **by == name(number)).count();
    (1..=cluster.servers.len()).map(count).collect()
}

/// `drain`, `undrain` or `weight` of a server of the one service.
fn order(cluster: &Cluster, verb: &str, number: u8, rest: &[&str]) -> anyhow::Result<String> {
    let service = SERVICE.to_string();
    let server = format!("{}:{PORT}", server_address(number));
    let words = [&[verb, &service, &server], rest].concat();
    cluster.director.ask(&words)
}

/// Long connections, those of `rs1` first.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn hearts(cluster: &Cluster, count: usize) -> (Vec<Heart>, Vec<Heart>) {
    let hearts = Heart::start_many(count, &cluster.client.netns, SERVICE).unwrap();
    hearts.into_iter().partition(|heart| heart.server == "rs1")
}

#[test]
fn a_drained_server_keeps_its_connections_through_reloads_and_restarts_and_takes_no_new_ones() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pa", 2, &[]).unwrap();
    let text = configuration(&format!(
        "lb_algo wrr\n{}{}",
        real_server(1, 1),
        real_server(2, 1)
    ));
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();
    let (its, others) = hearts(&cluster, 4);
    assert_eq!((its.len(), others.len()), (2, 2));

    let told = order(&cluster, "drain", 1, &[]).unwrap();
    assert!(
        told.starts_with("10.80.0.101:80 of tcp/10.80.0.200:80 is drained"),
        "{told}"
    );
    // In force as soon as it is answered.
    assert_eq!(shares(&cluster, 4), [0, 4]);
    let list = cluster.director.list().unwrap();
    let drained = list.real_server(server_address(1)).unwrap();
    assert_eq!((drained.state.as_str(), drained.weight), ("draining", 0));
    assert_eq!(drained.reason.as_deref(), Some("drained by an operator"));
    let scrape = cluster.director.scrape().unwrap();
    let labels = [("real_server", "10.80.0.101:80")];
    let overridden = scrape.one("xdp_lb_real_server_overridden", &labels);
    assert!(overridden.unwrap() > 0.5);

    let told = cluster.director.ask(&["reload"]).unwrap();
    assert_eq!(told, "nothing changes\n");
    let heavier = text.replace("weight 1", "weight 2");
    cluster.director.configure(&heavier).unwrap();
    let told = cluster.director.ask(&["reload"]).unwrap();
    assert!(
        told.contains("weight of 10.80.0.102:80 1 becomes 2\n"),
        "{told}"
    );
    assert_eq!(shares(&cluster, 4), [0, 4]);
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        cluster.director.end_by(signal).unwrap();
        cluster.director.start().unwrap();
        cluster
            .director
            .wait_list("rs2 is up", is(2, "up"))
            .unwrap();
        assert_eq!(shares(&cluster, 4), [0, 4], "after {signal}");
    }
    beat_on(its.iter().chain(&others), 10).unwrap();

    order(&cluster, "undrain", 1, &[]).unwrap();
    assert_eq!(shares(&cluster, 4), [2, 2]);
    order(&cluster, "weight", 1, &["6"]).unwrap();
    assert_eq!(shares(&cluster, 8), [6, 2]);
    order(&cluster, "weight", 1, &["file"]).unwrap();
    assert_eq!(shares(&cluster, 4), [2, 2]);
    let unknown = order(&cluster, "drain", 9, &[]).unwrap_err();
    let unknown = format!("{unknown:#}");
    let expected = "tcp/10.80.0.200:80 has no real server 10.80.0.109:80; it has 10.80.0.101:80, 10.80.0.102:80";
    assert!(unknown.contains(expected), "{unknown}");
    beat_on(its.iter().chain(&others), 10).unwrap();
}

#[test]
fn a_file_that_is_not_valid_is_refused_with_its_errors_and_changes_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pb", 1, &[]).unwrap();
    let text = configuration(&format!("lb_algo rr\n{}", real_server(1, 1)));
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();
    cluster
        .director
        .configure(&text.replace("protocol TCP", "protocol SCTP"))
        .unwrap();
    let refused = cluster.director.ask(&["reload"]).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("error[not-supported]"), "{refused}");
    assert_eq!(shares(&cluster, 2), [2]);
}

#[test]
fn a_server_that_is_removed_drains_and_one_that_is_added_back_was_never_away() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pc", 2, &[]).unwrap();
    let with = |servers: &str, time: u32| {
        let settings = format!("xdp_lb {{\ndrain_timeout {time}\n}}\n");
        let lines = format!("lb_algo rr\npersistence_timeout 300\n{servers}");
        settings + &configuration(&lines)
    };
    let (first, second) = (real_server(1, 1), real_server(2, 1));
    let both = first.clone() + &second;
    cluster.director.configure(&with(&both, 900)).unwrap();
    cluster.director.start_whole().unwrap();
    // One client: it sticks to one server.
    let hearts = Heart::start_many(3, &cluster.client.netns, SERVICE).unwrap();
    let its = hearts.first().unwrap().server.clone();
    assert!(hearts.iter().all(|heart| heart.server == its));
    let (number, rest) = if its == "rs1" {
        (1, &second)
    } else {
        (2, &first)
    };

    cluster.director.configure(&with(rest, 900)).unwrap();
    let told = cluster.director.ask(&["reload"]).unwrap();
    let removed = format!("real server {}:{PORT} removed", server_address(number));
    assert!(told.contains(&removed), "{told}");
    let list = cluster
        .director
        .wait_list("it drains", is(number, "draining"))
        .unwrap();
    let leaving = list.real_server(server_address(number)).unwrap();
    assert_eq!(
        leaving.reason.as_deref(),
        Some("not in the configuration any more")
    );
    beat_on(&hearts, 10).unwrap();
    let other = Call::open(&cluster.client.netns, SERVICE).unwrap().server;
    assert_ne!(other, its, "its sticky clients move");

    cluster.director.configure(&with(&both, 900)).unwrap();
    cluster.director.ask(&["reload"]).unwrap();
    cluster
        .director
        .wait_list("it is back", is(number, "up"))
        .unwrap();
    beat_on(&hearts, 10).unwrap();

    // Until its time is over.
    cluster.director.configure(&with(rest, 2)).unwrap();
    cluster.director.ask(&["reload"]).unwrap();
    let is_gone = |list: &List| list.real_server(server_address(number)).is_err();
    cluster.director.wait_list("it is gone", is_gone).unwrap();
    let told = |heart: &Heart| heart.failure().is_some_and(|why| why.contains("reset"));
    wait::until("its connections are reset", SOON, || {
        Ok(hearts.iter().all(told).then_some(()))
    })
    .unwrap();
}

#[test]
fn the_sorry_server_takes_over_below_the_quorum_and_gives_back() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pd", 3, &[]).unwrap();
    let sorry = server_address(3);
    let lines = format!(
        "lb_algo rr\nquorum 2\nsorry_server {sorry} {PORT}\n{}{}",
        real_server(1, 1),
        real_server(2, 1)
    );
    cluster.director.configure(&configuration(&lines)).unwrap();
    cluster.director.start_whole().unwrap();
    let (_its, others) = hearts(&cluster, 4);
    assert_eq!(shares(&cluster, 4), [2, 2, 0]);

    cluster.servers[0].echo.close_port().unwrap();
    cluster
        .director
        .wait_list("rs3 serves", is(3, "sorry"))
        .unwrap();
    assert_eq!(shares(&cluster, 4), [0, 0, 4]);
    // Whoever lives keeps what it has.
    beat_on(&others, 10).unwrap();
    assert!(is(2, "draining")(&cluster.director.list().unwrap()));
    let scrape = cluster.director.scrape().unwrap();
    assert!(scrape.one("xdp_lb_service_sorry", &[]).unwrap() > 0.5);
    assert!(scrape.one("xdp_lb_service_quorum", &[]).unwrap() < 0.5);
    let sorries = Heart::start_many(2, &cluster.client.netns, SERVICE).unwrap();

    cluster.servers[0].echo.open_port().unwrap();
    cluster
        .director
        .wait_list("rs1 is back", is(1, "up"))
        .unwrap();
    assert_eq!(shares(&cluster, 4), [2, 2, 0]);
    beat_on(sorries.iter().chain(&others), 10).unwrap();
    assert!(is(3, "draining")(&cluster.director.list().unwrap()));
    let log = cluster.director.log();
    for line in [
        "quorum lost, weight 1 is up",
        "quorum gained, weight 2 is up",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[test]
fn a_server_that_comes_back_gets_its_share_little_by_little() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pe", 2, &[]).unwrap();
    let with = |time: u32| {
        let slow =
            real_server(1, 1).replacen("weight 1", &format!("weight 1\nslow_start {time}"), 1);
        configuration(&format!("lb_algo wrr\n{slow}{}", real_server(2, 1)))
    };
    cluster.director.configure(&with(600)).unwrap();
    cluster.director.start_whole().unwrap();
    assert_eq!(shares(&cluster, 4), [2, 2], "not at the start");
    cluster.servers[0].echo.close_port().unwrap();
    cluster
        .director
        .wait_list("rs1 is down", is(1, "down"))
        .unwrap();
    cluster.servers[0].echo.open_port().unwrap();
    let list = cluster
        .director
        .wait_list("rs1 is back", is(1, "up"))
        .unwrap();
    let growing = list.real_server(server_address(1)).unwrap();
    assert_eq!(
        growing.reason.as_deref(),
        Some("slow start: 10 % of its weight")
    );
    assert_eq!(shares(&cluster, 22), [2, 20]);
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        cluster.director.end_by(signal).unwrap();
        cluster.director.start().unwrap();
        let list = cluster
            .director
            .wait_list("rs1 is up", is(1, "up"))
            .unwrap();
        let growing = list.real_server(server_address(1)).unwrap();
        let reason = growing.reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with("slow start: "), "{signal}: {list:?}");
    }
    cluster.director.configure(&with(1)).unwrap();
    cluster.director.ask(&["reload"]).unwrap();
    let has_grown = |list: &List| {
        let server = list.real_server(server_address(1));
        server.is_ok_and(|server| server.reason.is_none())
    };
    cluster
        .director
        .wait_list("it has grown", has_grown)
        .unwrap();
    assert_eq!(shares(&cluster, 4), [2, 2]);
}

#[test]
fn a_restart_leaves_a_quorum_on_its_side_of_the_margin() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pf", 4, &[]).unwrap();
    let sorry = server_address(4);
    let servers: String = (1..=3).map(|number| real_server(number, 1)).collect();
    let lines =
        format!("lb_algo rr\nquorum 2\nhysteresis 1\nsorry_server {sorry} {PORT}\n{servers}");
    cluster.director.configure(&configuration(&lines)).unwrap();
    cluster.director.start_whole().unwrap();
    assert_eq!(shares(&cluster, 3), [1, 1, 1, 0]);
    // With 2 it would not be gained, but it is not lost either.
    cluster.servers[0].echo.close_port().unwrap();
    let down = is(1, "down");
    cluster.director.wait_list("rs1 is down", &down).unwrap();
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        cluster.director.end_by(signal).unwrap();
        cluster.director.start().unwrap();
        let both = |list: &List| is(2, "up")(list) && is(3, "up")(list);
        cluster.director.wait_list("two serve", both).unwrap();
        let list = cluster.director.list().unwrap();
        assert!(down(&list), "its port is closed: {list:?}");
        assert_eq!(shares(&cluster, 4), [0, 2, 2, 0], "after {signal}");
    }
}
