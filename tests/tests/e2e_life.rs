//! The life of an agent under traffic: restarted, killed, told to read its file again, stopped. Real
//! clients keep long connections open all the while and notice every packet that goes astray: one
//! that reaches the director's own stack is answered by a reset.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use xdp_lb_tests::capture::{Capture, Way};
use xdp_lb_tests::cluster::{
    Cluster, SERVICE, VIP, real_server, server_address, virtual_server, vrrp_instance,
};
use xdp_lb_tests::director::{Director, List, traces};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::traffic::{Call, Heart, beat_on};
use xdp_lb_tests::{link, needs, wait};

/// Long connections in each test.
const HEARTS: u8 = 8;

/// Bound of what should take milliseconds.
const SOON: Duration = Duration::from_secs(30);

/// While nobody runs, packets are balanced for three of these and no longer: on a busy machine an agent
/// takes its time to end and to begin.
const PATIENT: &str = "advert_int 60";

fn configuration(weights: [u32; 2]) -> String {
    let [first, second] = weights;
    let servers = real_server(1, first) + &real_server(2, second);
    let service = virtual_server(&format!("lb_algo wrr\n{servers}"));
    vrrp_instance("MASTER").replace("advert_int 1", PATIENT) + &service
}

/// A cluster whose director runs, and long connections through it: half of them to each server.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn beating(tag: &str) -> (Cluster, Vec<Heart>) {
    let mut cluster = Cluster::create(tag, 2, &[]).unwrap();
    cluster.director.configure(&configuration([1, 1])).unwrap();
    cluster.director.start_whole().unwrap();
    let hearts = Heart::start_many(HEARTS.into(), &cluster.client.netns, SERVICE).unwrap();
    let first = hearts.iter().filter(|heart| heart.server == "rs1");
    assert_eq!(first.count(), usize::from(HEARTS) / 2, "wrr 1:1");
    (cluster, hearts)
}

/// Nothing but known connections came through since the tables were made.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn nothing_went_astray(director: &Director) {
    for reason in ["no_connection", "purged", "tx_unreachable", "not_active"] {
        assert_eq!(director.packets(reason).unwrap(), 0, "{reason}");
    }
}

/// Waits until the table is counted anew, with all long connections in it.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn all_in_the_table(director: &Director) -> List {
    let active = |list: &List| -> u64 { list.real_servers().map(|s| s.active_conns).sum() };
    director
        .wait_list("all connections are in the table", |list| {
            active(list) == u64::from(HEARTS)
        })
        .unwrap()
}

fn packets(list: &List) -> BTreeMap<IpAddr, u64> {
    let servers = list.real_servers();
    servers
        .map(|server| (server.address, server.in_packets))
        .collect()
}

/// The successor has the connections of its predecessor, and those that were placed while nobody ran,
/// and goes on counting where that stopped.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn a_successor_goes_on(cluster: &mut Cluster, hearts: &[Heart], before: &List, meanwhile: u64) {
    let placed = |list: &List| list.conns().values().sum::<u64>();
    let director = &mut cluster.director;
    director.start_whole().unwrap();
    assert!(director.log().contains("took over"), "{}", director.log());
    beat_on(hearts, 10).unwrap();
    let after = all_in_the_table(director);
    assert_eq!(
        placed(&after),
        placed(before) + meanwhile,
        "none of the old ones anew"
    );
    let (had, have) = (packets(before), packets(&after));
    assert!(
        had.iter().all(|(server, count)| have[server] > *count),
        "{had:?}, then {have:?}"
    );
    nothing_went_astray(director);

    // It does not only look on: the next connections are its own.
    for _ in 0..2 {
        let mut call = Call::open(&cluster.client.netns, SERVICE).unwrap();
        call.beat(1).unwrap();
    }
    assert_eq!(placed(&director.list().unwrap()), placed(&after) + 2);
}

#[test]
fn a_restart_by_sigquit_breaks_no_connection() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, hearts) = beating("la");
    let before = all_in_the_table(&cluster.director);
    let ended = cluster.director.end_by(Signal::SIGQUIT).unwrap();
    assert!(ended.success(), "{ended}");

    // Between the two there is nobody, but program, tables and VIP.
    beat_on(&hearts, 10).unwrap();
    assert!(has_vip(&cluster));
    let program = link::show(&cluster.host.netns, INTERFACE).unwrap().xdp;
    assert_eq!(program.map(link::LinkXdp::name), Some("native"));
    Call::open(&cluster.client.netns, SERVICE).unwrap();
    a_successor_goes_on(&mut cluster, &hearts, &before, 1);

    // And once more, for a successor is a predecessor too.
    let before = all_in_the_table(&cluster.director);
    cluster.director.end_by(Signal::SIGQUIT).unwrap();
    a_successor_goes_on(&mut cluster, &hearts, &before, 0);
}

#[test]
fn an_agent_that_was_killed_leaves_its_connections_to_the_next() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, hearts) = beating("lb");
    let before = all_in_the_table(&cluster.director);
    cluster.director.end_by(Signal::SIGKILL).unwrap();
    beat_on(&hearts, 10).unwrap();
    let [pins, folder] = traces(&cluster.director.instance);
    assert!(pins.exists() && folder.exists());
    a_successor_goes_on(&mut cluster, &hearts, &before, 0);

    // The successor knows what the killed one had added: a stop takes it away.
    drop(hearts);
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert_nothing_is_left(&cluster);
}

#[test]
fn an_agent_that_stays_dead_is_fenced_when_another_may_have_taken_over() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("lj", 2, &[]).unwrap();
    let director = &mut cluster.director;
    let hasty = configuration([1, 1]).replace(PATIENT, "advert_int 1");
    director.configure(&hasty).unwrap();
    director.start_whole().unwrap();
    let call = || Call::open(&cluster.client.netns, SERVICE);
    director.signal(Signal::SIGKILL).unwrap();
    let dead = Instant::now();
    // Before its end is waited for: the kernel may take longer for that than the lease is.
    call().unwrap();
    director.end_by(Signal::SIGKILL).unwrap();
    // The director's own stack has the VIP and no server.
    let fenced = || Ok(call().is_err().then_some(()));
    wait::until("nobody is served", Duration::from_mins(1), fenced).unwrap();
    // Its master down interval is 3.61 s, and the last heartbeat was a quarter of that old at most.
    assert!(dead.elapsed() > Duration::from_millis(2500));

    let director = &mut cluster.director;
    director.start_whole().unwrap();
    director.wait_log("1 virtual service").unwrap();
    assert!(director.packets("lease_over").unwrap() > 0);
    call().unwrap();
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert_nothing_is_left(&cluster);
}

#[test]
fn a_start_that_fails_leaves_a_predecessors_work_alone() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, hearts) = beating("lh");
    // However long the starts that fail may take.
    let good = configuration([1, 1]) + "xdp_lb {\nfail_static on\n}\n";
    cluster.director.configure(&good).unwrap();
    cluster.director.end_by(Signal::SIGQUIT).unwrap();
    cluster.director.start_whole().unwrap();
    let before = all_in_the_table(&cluster.director);
    cluster.director.end_by(Signal::SIGKILL).unwrap();
    let netns = &cluster.host.netns;
    netns.ip("link add name br0 type bridge").unwrap();
    let broken = [
        good.replace("protocol TCP", "protocol SCTP"),
        good.replace("interface eth0", "interface eth9"),
        // Nobody has this address: no metrics, no start.
        good.clone() + "xdp_lb {\nmetrics 10.80.0.77:9165\n}\n",
        // Nothing can be balanced there, or not so.
        good.clone() + "xdp_lb {\ninterface lo\n}\n",
        good.clone() + "xdp_lb {\nxdp_mode native\ninterface br0\n}\n",
    ];
    for text in broken {
        cluster.director.configure(&text).unwrap();
        let error = cluster.director.start().unwrap_err();
        assert!(format!("{error:#}").contains("(exit 1)"), "{error:#}");
        beat_on(&hearts, 10).unwrap();
    }
    cluster.director.configure(&good).unwrap();
    a_successor_goes_on(&mut cluster, &hearts, &before, 0);
}

#[test]
fn a_vip_that_the_file_no_longer_has_goes_with_the_next_start() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("li", 2, &[]).unwrap();
    let director = &mut cluster.director;
    director.configure(&configuration([1, 1])).unwrap();
    director.start_whole().unwrap();
    director.end_by(Signal::SIGKILL).unwrap();
    // Somebody tidies up, but does not think of the VIP; and the next start fails.
    let [pins, _] = traces(&director.instance);
    std::fs::remove_dir_all(pins).unwrap();
    let other = configuration([1, 1]).replace("10.80.0.200", "10.80.0.201");
    let failing = other.clone() + "xdp_lb {\nmetrics 10.80.0.77:9165\n}\n";
    director.configure(&failing).unwrap();
    director.start().unwrap_err();
    assert!(has_vip(&cluster));

    let director = &mut cluster.director;
    director.configure(&other).unwrap();
    director.start_whole().unwrap();
    assert!(!has_vip(&cluster), "nobody asks for it");
    assert!(has_address(&cluster, "10.80.0.201"));
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(!has_address(&cluster, "10.80.0.201"));
    assert_nothing_is_left(&cluster);
}

#[test]
fn a_new_weight_is_for_new_connections() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, hearts) = beating("lc");
    let director = &mut cluster.director;
    let pid = director.pid().unwrap();
    director.configure(&configuration([3, 1])).unwrap();
    director.signal(Signal::SIGHUP).unwrap();
    let weight = |list: &List| list.real_server(server_address(1)).map(|s| s.weight).ok();
    director
        .wait_list("the new weight is in force", |list| weight(list) == Some(3))
        .unwrap();
    director
        .wait_log("weight of 10.80.0.101:80 1 becomes 3")
        .unwrap();
    // Two rounds of wrr, wherever in a round it stands.
    let newcomers = Heart::start_many(8, &cluster.client.netns, SERVICE).unwrap();
    let first = newcomers
        .iter()
        .filter(|heart| heart.server == "rs1")
        .count();
    assert_eq!(first, 6, "of 8 at weights 3:1");
    beat_on(hearts.iter().chain(&newcomers), 10).unwrap();
    assert_eq!(cluster.director.pid().unwrap(), pid);
    nothing_went_astray(&cluster.director);
}

#[test]
fn a_file_with_errors_changes_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, hearts) = beating("ld");
    let director = &mut cluster.director;
    let pid = director.pid().unwrap();
    let settings = |director: &Director| {
        let list = director.list().unwrap();
        let servers = list.real_servers();
        let servers: Vec<_> = servers
            .map(|s| (s.address, s.weight, s.state.clone()))
            .collect();
        (list.services[0].scheduler.clone(), servers)
    };
    let before = settings(director);
    // The first half is valid, and would be noticed.
    let broken = configuration([5, 5]).replace("protocol TCP", "protocol SCTP");
    director.configure(&broken).unwrap();
    director.signal(Signal::SIGHUP).unwrap();
    director.wait_log("goes on with the one it has").unwrap();
    let log = director.log();
    let place = format!("{}:", director.file().display());
    assert!(log.contains(&place) && log.contains("SCTP"), "{log}");
    assert_eq!(settings(director), before);
    beat_on(&hearts, 10).unwrap();
    let newcomers = Heart::start_many(4, &cluster.client.netns, SERVICE).unwrap();
    let first = newcomers
        .iter()
        .filter(|heart| heart.server == "rs1")
        .count();
    assert_eq!(first, 2, "of 4 at weights 1:1");
    assert_eq!(cluster.director.pid().unwrap(), pid);
}

#[test]
fn the_vip_is_added_announced_and_taken_away() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("le", 2, &[]).unwrap();
    cluster.director.configure(&configuration([1, 1])).unwrap();
    assert!(!has_vip(&cluster));
    // The client believes that the VIP is elsewhere, as after a failover.
    let client = &cluster.client.netns;
    let elsewhere = "02:00:00:00:00:99";
    let entry = format!("neighbour replace {VIP} lladdr {elsewhere} dev {INTERFACE} nud reachable");
    client.ip(&entry).unwrap();
    let capture = Capture::start(
        ("garp", cluster.folder()),
        (cluster.lan.switch(), &cluster.client.name),
        Way::ToHost,
        // Sender and target are the VIP (RFC 5227), from the director's MAC to everybody.
        &format!(
            "arp src host {VIP} and arp dst host {VIP} and ether src {} and ether broadcast",
            cluster.host.mac
        ),
    )
    .unwrap();

    cluster.director.start_whole().unwrap();
    let addresses = link::addresses(&cluster.host.netns, INTERFACE).unwrap();
    let vip = addresses.addr_info.iter();
    let vip = vip.filter(|address| address.local.as_deref() == Some(&*VIP.to_string()));
    let lengths: Vec<_> = vip.map(|address| address.prefixlen).collect();
    assert_eq!(lengths, [Some(24)], "as the file says");
    wait::until("the client knows where the VIP is", SOON, || {
        let known = link::neighbours(client, INTERFACE)?;
        let entry = known.iter().find(|entry| entry.dst == VIP.to_string());
        let mac = entry.and_then(|entry| entry.lladdr.as_deref());
        Ok((mac == Some(&*cluster.host.mac)).then_some(()))
    })
    .unwrap();
    Call::open(client, SERVICE).unwrap().beat(1).unwrap();
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    // One burst as keepalived's; a second one follows later.
    let announced = capture.finish().unwrap();
    assert!(announced >= 5, "{announced}");
    assert_nothing_is_left(&cluster);
}

#[test]
fn a_stop_under_traffic_leaves_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, hearts) = beating("lf");
    let ended = cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(ended.success(), "{ended}");
    assert_nothing_is_left(&cluster);
    let log = cluster.director.log();
    assert!(log.contains("nothing is left behind"), "{log}");
    // The director forwards nothing any more: nobody is there who could.
    wait::until("the connections notice", SOON, || {
        Ok(hearts
            .iter()
            .all(|heart| heart.failure().is_some())
            .then_some(()))
    })
    .unwrap();
}

#[test]
fn it_answers_operators_meanwhile() {
    if !needs::root().unwrap() {
        return;
    }
    let (cluster, hearts) = beating("lg");
    let director = &cluster.director;
    for _ in 0..5 {
        let list = director.list().unwrap();
        assert_eq!(list.services.len(), 1);
        assert_eq!(
            (list.services[0].vip, list.services[0].port),
            (VIP.into(), 80)
        );
        assert!(list.services[0].active);
        for (server, host) in list.real_servers().zip(&cluster.servers) {
            assert_eq!(server.mac.as_deref(), Some(&*host.host.mac));
        }
        let status = director.status().unwrap();
        assert_eq!(status.instance, director.instance);
        let interfaces: Vec<_> = status
            .interfaces
            .iter()
            .map(|i| (&*i.name, &*i.mode))
            .collect();
        assert_eq!(interfaces, [(INTERFACE, "native")]);
        assert_eq!(status.vrrp_instances[0].state, "MASTER");
    }
    let table = director.ask(&["list", "-n"]).unwrap();
    assert!(table.contains(&format!("TCP  {SERVICE} wrr")), "{table}");
    assert!(
        table.contains(&format!("  -> {}:80", server_address(2))),
        "{table}"
    );
    let screen = director.ask(&["status"]).unwrap();
    assert!(screen.contains("1 up, 0 degraded, 0 down"), "{screen}");
    let screen = director.ask(&["vrrp"]).unwrap();
    assert!(screen.contains(": MASTER"), "{screen}");
    let scrape = director.scrape().unwrap();
    let service = format!("tcp/{SERVICE}");
    let connections = scrape.one("xdp_lb_service_connections_total", &[("service", &service)]);
    assert_eq!(connections, Some(f64::from(HEARTS)));
    for server in &cluster.servers {
        server.status().unwrap();
    }
    beat_on(&hearts, 10).unwrap();
}

fn has_vip(cluster: &Cluster) -> bool {
    has_address(cluster, &VIP.to_string())
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn has_address(cluster: &Cluster, vip: &str) -> bool {
    let addresses = link::addresses(&cluster.host.netns, INTERFACE).unwrap();
    addresses
        .addr_info
        .iter()
        .any(|address| address.local.as_deref() == Some(vip))
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn assert_nothing_is_left(cluster: &Cluster) {
    assert!(!has_vip(cluster), "the VIP is left");
    let device = link::show(&cluster.host.netns, INTERFACE).unwrap();
    assert!(device.xdp.is_none(), "the program is left: {device:?}");
    for trace in traces(&cluster.director.instance) {
        assert!(!trace.exists(), "{} is left", trace.display());
    }
}
