//! Elections between `xdp-lb up` and real keepalived, in both roles.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use xdp_lb_tests::cluster::{Cluster, DIRECTOR, VIP, real_server, virtual_server};
use xdp_lb_tests::keepalived::Keepalived;
use xdp_lb_tests::lan::{Host, INTERFACE};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{needs, wait};

/// The other director's address.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);

/// What a change of masters may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Version 2 with a password, an advert a second.
const PASS: &str = "advert_int 1\nauthentication {\nauth_type PASS\nauth_pass 1111\n}";

/// An xdp-lb and a keepalived on one switch; neither runs yet.
struct Pair {
    keepalived: Keepalived,
    other: Host,
    cluster: Cluster,
}

#[expect(clippy::unwrap_used, clippy::panic, reason = "part of a test")]
impl Pair {
    fn create(tag: &str) -> Option<Self> {
        if !needs::root().unwrap() {
            return None;
        }
        let cluster = Cluster::create(tag, 0, &[]).unwrap();
        let other = cluster.lan.add_host("other", [&*format!("{OTHER}/24")]);
        let other = other.unwrap();
        let keepalived = Keepalived::new("keepalived", &other.netns, cluster.folder());
        Some(Self {
            keepalived,
            other,
            cluster,
        })
    }

    /// Starts xdp-lb; `lines` are the rest of its instance.
    fn start(&mut self, priority: u8, lines: &str) {
        let text = instance(priority, lines);
        self.cluster.director.configure(&text).unwrap();
        self.cluster.director.start().unwrap();
    }

    fn start_keepalived(&mut self, priority: u8, lines: &str) {
        let text = instance(priority, lines);
        self.keepalived.start(&text).unwrap();
    }

    /// Waits until xdp-lb has the VIP and keepalived does not, and nothing changes for a while.
    fn xdp_lb_is_master(&self) {
        self.settles("xdp-lb", true, false);
        let entered = self
            .keepalived
            .log()
            .matches("Entering MASTER STATE")
            .count();
        self.hear_adverts_of(DIRECTOR, 4);
        let again = self
            .keepalived
            .log()
            .matches("Entering MASTER STATE")
            .count();
        assert_eq!(entered, again, "{}", self.keepalived.log());
        assert!(has_vip(&self.cluster.host) && !has_vip(&self.other));
        let state = &self.cluster.director.status().unwrap().vrrp_instances[0].state;
        assert_eq!(state, "MASTER");
    }

    /// Waits until keepalived has the VIP and xdp-lb does not, and nothing changes for a while.
    fn keepalived_is_master(&self) {
        self.settles("keepalived", false, true);
        self.hear_adverts_of(OTHER, 4);
        assert!(!has_vip(&self.cluster.host) && has_vip(&self.other));
    }

    fn settles(&self, who: &str, here: bool, there: bool) {
        let what = format!("{who} alone has the VIP");
        let waited = wait::until(&what, LIMIT, || {
            let owners = (has_vip(&self.cluster.host), has_vip(&self.other));
            Ok((owners == (here, there)).then_some(()))
        });
        if let Err(late) = waited {
            panic!("{late}; keepalived:\n{}", self.keepalived.log());
        }
    }

    /// Waits until that many adverts of one director have crossed the switch.
    fn hear_adverts_of(&self, director: Ipv4Addr, count: u32) {
        let port = if director == OTHER {
            &self.other.name
        } else {
            &self.cluster.host.name
        };
        let mut command = Command::new("tcpdump");
        command.args([
            "-Z",
            "root",
            "-n",
            "-p",
            "-i",
            port,
            "-c",
            &count.to_string(),
        ]);
        command.arg(format!("ip proto 112 and src {director}"));
        let switch = self.cluster.lan.switch();
        let folder = self.cluster.folder();
        let heard = Process::start("adverts", switch, &mut command, folder).unwrap();
        heard.finish(LIMIT).unwrap();
    }
}

impl Drop for Pair {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it of tests that fail"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("keepalived's log:\n{}", self.keepalived.log());
        }
    }
}

fn instance(priority: u8, lines: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            virtual_ipaddress {{
                {VIP}/24
            }}
            {lines}
        }}\n"
    )
}

/// Version 3 by unicast, five adverts a second.
fn unicast(to: Ipv4Addr) -> String {
    format!("version 3\nadvert_int 0.2\nunicast_peer {{\n{to}\n}}")
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn has_vip(host: &Host) -> bool {
    host.has_address(&format!("{VIP}/24")).unwrap()
}

#[test]
fn keepalived_yields_to_a_better_xdp_lb_and_takes_over_when_that_stops_or_dies() {
    let Some(mut pair) = Pair::create("vb") else {
        return;
    };
    pair.start_keepalived(100, PASS);
    pair.keepalived
        .wait_log("Entering MASTER STATE", 1)
        .unwrap();
    pair.start(150, PASS);
    pair.xdp_lb_is_master();
    let log = pair.cluster.director.log();
    assert!(
        log.contains("VI_1: BACKUP → MASTER: priority 150 > 100 from 10.80.0.2"),
        "{log}"
    );

    let ended = pair.cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(ended.success(), "{ended}");
    let log = pair.cluster.director.log();
    assert!(log.contains("stopped, 10.80.0.2 took over"), "{log}");
    pair.keepalived_is_master();

    pair.cluster.director.start().unwrap();
    pair.xdp_lb_is_master();
    pair.cluster.director.end_by(Signal::SIGKILL).unwrap();
    pair.keepalived
        .wait_log("Entering MASTER STATE", 3)
        .unwrap();
    assert!(has_vip(&pair.cluster.host), "nobody took it away");

    // Another took over meanwhile: what was left goes before the agent listens.
    pair.cluster.director.start().unwrap();
    let log = pair.cluster.director.log();
    assert!(log.contains("its addresses are dropped"), "{log}");
    assert!(log.contains("VIPs here: none"), "{log}");
    pair.xdp_lb_is_master();
}

#[test]
fn xdp_lb_yields_to_a_better_keepalived_and_takes_over_when_that_stops_or_dies() {
    let Some(mut pair) = Pair::create("vw") else {
        return;
    };
    pair.start(100, PASS);
    pair.cluster
        .director
        .wait_log("BACKUP → MASTER: no advert for 3.6")
        .unwrap();
    pair.start_keepalived(150, PASS);
    pair.keepalived_is_master();
    let log = pair.cluster.director.log();
    assert!(
        log.contains("MASTER → BACKUP: priority 100 < 150 from 10.80.0.2"),
        "{log}"
    );

    pair.keepalived.end_by(Signal::SIGTERM).unwrap();
    pair.cluster
        .director
        .wait_log("BACKUP → MASTER: 10.80.0.2 gave up (priority 0)")
        .unwrap();
    pair.settles("xdp-lb", true, false);

    pair.start_keepalived(150, PASS);
    pair.keepalived_is_master();
    pair.keepalived.end_by(Signal::SIGKILL).unwrap();
    pair.cluster
        .director
        .wait_log("BACKUP → MASTER: no advert from 10.80.0.2")
        .unwrap();
    wait::until("xdp-lb has the VIP", LIMIT, || {
        Ok(has_vip(&pair.cluster.host).then_some(()))
    })
    .unwrap();
}

#[test]
fn version_3_by_unicast_is_understood_both_ways() {
    let Some(mut pair) = Pair::create("vu") else {
        return;
    };
    let (here, there) = (unicast(OTHER), unicast(DIRECTOR));
    pair.start_keepalived(100, &there);
    pair.start(150, &here);
    pair.xdp_lb_is_master();
    pair.cluster.director.end_by(Signal::SIGTERM).unwrap();
    pair.keepalived_is_master();
    pair.start(50, &here);
    pair.keepalived_is_master();
    pair.keepalived.end_by(Signal::SIGTERM).unwrap();
    pair.settles("xdp-lb", true, false);
}

#[test]
fn an_agent_that_restarts_in_time_stays_master() {
    let Some(mut pair) = Pair::create("vr") else {
        return;
    };
    pair.start(150, "advert_int 2");
    pair.cluster.director.wait_log("BACKUP → MASTER").unwrap();
    pair.start_keepalived(100, "advert_int 2");
    pair.xdp_lb_is_master();
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        pair.cluster.director.end_by(signal).unwrap();
        pair.cluster.director.start().unwrap();
        let log = pair.cluster.director.log();
        assert!(
            log.contains("INIT → MASTER: goes on for the agent"),
            "{log}"
        );
        pair.xdp_lb_is_master();
    }
    let log = pair.keepalived.log();
    assert!(!log.contains("Entering MASTER STATE"), "{log}");
}

#[test]
fn another_password_is_refused_and_named() {
    let Some(mut pair) = Pair::create("vp") else {
        return;
    };
    pair.start(150, PASS);
    pair.start_keepalived(100, &PASS.replace("1111", "2222"));
    pair.cluster
        .director
        .wait_log("refused an advert from 10.80.0.2")
        .unwrap();
    pair.settles("each", true, true);
}

#[test]
fn a_nopreempt_instance_leaves_a_worse_master_alone() {
    let Some(mut pair) = Pair::create("vn") else {
        return;
    };
    pair.start_keepalived(100, PASS);
    pair.keepalived
        .wait_log("Entering MASTER STATE", 1)
        .unwrap();
    pair.start(150, &format!("{PASS}\nnopreempt"));
    pair.keepalived_is_master();
    let log = pair.cluster.director.log();
    assert!(!log.contains("→ MASTER"), "{log}");
}

#[test]
fn a_vip_that_somebody_removes_is_back_at_once() {
    let Some(mut pair) = Pair::create("vz") else {
        return;
    };
    pair.start(255, PASS);
    assert!(
        has_vip(&pair.cluster.host),
        "an owner is ready with its VIP"
    );
    let netns = &pair.cluster.host.netns;
    netns
        .ip(&format!("address delete {VIP}/24 dev {INTERFACE}"))
        .unwrap();
    let ((), back) = wait::until("the VIP is back", LIMIT, || {
        Ok(has_vip(&pair.cluster.host).then_some(()))
    })
    .unwrap();
    assert!(
        back < Duration::from_secs(3),
        "not by the look every five seconds: {back:?}"
    );
    pair.cluster
        .director
        .wait_log("somebody removed 10.80.0.200")
        .unwrap();
}

#[test]
fn a_cut_cable_is_a_fault_and_its_repair_the_end_of_it() {
    let Some(mut pair) = Pair::create("vl") else {
        return;
    };
    pair.start(150, PASS);
    pair.cluster.director.wait_log("BACKUP → MASTER").unwrap();
    pair.start_keepalived(100, PASS);
    let (switch, port) = (pair.cluster.lan.switch(), &pair.cluster.host.name);
    switch.ip(&format!("link set dev {port} down")).unwrap();
    pair.cluster
        .director
        .wait_log("MASTER → FAULT: interface eth0 is down")
        .unwrap();
    pair.settles("keepalived", false, true);
    switch.ip(&format!("link set dev {port} up")).unwrap();
    pair.cluster
        .director
        .wait_log("FAULT → BACKUP: no fault is left")
        .unwrap();
    pair.xdp_lb_is_master();
}

#[test]
fn ipv6_routers_are_elected_and_take_their_addresses() {
    let Some(mut pair) = Pair::create("v6") else {
        return;
    };
    let text = |priority: u8| {
        instance(priority, "version 3\nadvert_int 0.5")
            .replace(&format!("{VIP}/24"), "2001:db8::200/64")
    };
    let has = |host: &Host| {
        let mut command = Command::new("ip");
        command.args(["-o", "-6", "address", "show", "dev", INTERFACE]);
        let addresses = host.netns.output(&mut command).unwrap();
        addresses.contains(" 2001:db8::200/64 ")
    };
    let settles = |pair: &Pair, owners: (bool, bool)| {
        let waited = wait::until("one has the address", LIMIT, || {
            let now = (has(&pair.cluster.host), has(&pair.other));
            Ok((now == owners).then_some(()))
        });
        waited
            .map_err(|late| late.context(pair.cluster.director.log()))
            .unwrap();
    };
    pair.keepalived.start(&text(100)).unwrap();
    settles(&pair, (false, true));
    pair.cluster.director.configure(&text(150)).unwrap();
    pair.cluster.director.start().unwrap();
    settles(&pair, (true, false));
    pair.cluster.director.end_by(Signal::SIGTERM).unwrap();
    settles(&pair, (false, true));
    assert!(pair.cluster.director.log().contains("took over"));
}

#[test]
fn a_reload_keeps_the_master_and_tells_others_its_new_priority() {
    let Some(mut pair) = Pair::create("vc") else {
        return;
    };
    pair.start(150, PASS);
    pair.cluster.director.wait_log("BACKUP → MASTER").unwrap();
    pair.start_keepalived(100, PASS);
    pair.xdp_lb_is_master();
    let director = &mut pair.cluster.director;
    director.configure(&instance(120, PASS)).unwrap();
    director.signal(Signal::SIGHUP).unwrap();
    director
        .wait_log("new configuration: priority 150 → 120")
        .unwrap();
    pair.xdp_lb_is_master();
    let director = &mut pair.cluster.director;
    assert!(!director.log().contains("MASTER →"), "{}", director.log());
    director.configure(&instance(50, PASS)).unwrap();
    director.signal(Signal::SIGHUP).unwrap();
    pair.keepalived_is_master();
}

#[test]
fn members_of_a_sync_group_move_together() {
    let Some(mut pair) = Pair::create("vg") else {
        return;
    };
    let text = |priority: u8, track: &str| {
        let other = instance(priority, &format!("{PASS}\n{track}"))
            .replace("VI_1", "VI_2")
            .replace("virtual_router_id 51", "virtual_router_id 52")
            .replace(&format!("{VIP}/24"), "10.80.0.201/24");
        let group = "vrrp_sync_group G {\ngroup {\nVI_1\nVI_2\n}\n}\n";
        format!("{}{other}{group}", instance(priority, PASS))
    };
    let netns = pair.cluster.host.netns.handle();
    netns
        .ip("link add name tracked type veth peer name peer0\nlink set dev peer0 up\nlink set dev tracked up")
        .unwrap();
    let track = "track_interface {\ntracked\n}";
    pair.keepalived.start(&text(100, "")).unwrap();
    pair.keepalived
        .wait_log("Entering MASTER STATE", 2)
        .unwrap();
    pair.cluster.director.configure(&text(150, track)).unwrap();
    pair.cluster.director.start().unwrap();
    pair.xdp_lb_is_master();
    netns.ip("link set dev tracked down").unwrap();
    pair.cluster
        .director
        .wait_log("VI_2: MASTER → FAULT: interface tracked is down")
        .unwrap();
    pair.cluster
        .director
        .wait_log("VI_1: MASTER → FAULT: VI_2 of sync group G has a fault")
        .unwrap();
    pair.keepalived_is_master();
    netns.ip("link set dev tracked up").unwrap();
    pair.xdp_lb_is_master();
}

#[test]
fn an_instance_that_a_reload_removes_is_handed_over() {
    const SECOND: &str = "10.80.0.201/24";
    let Some(mut pair) = Pair::create("vh") else {
        return;
    };
    let second = |priority: u8| {
        let first = instance(priority, PASS);
        let second = first.replace("VI_1", "VI_2").replace("id 51", "id 52");
        second.replace(&format!("{VIP}/24"), SECOND)
    };
    let both = |priority| instance(priority, PASS) + &second(priority);
    pair.keepalived.start(&both(100)).unwrap();
    pair.cluster.director.configure(&both(150)).unwrap();
    pair.cluster.director.start().unwrap();
    let owners = |pair: &Pair| {
        // Whoever takes over has it before the other lets it go.
        let here = pair.cluster.host.has_address(SECOND).unwrap();
        (here, pair.other.has_address(SECOND).unwrap())
    };
    let wait_for = |pair: &Pair, expected| {
        wait::until(&format!("{SECOND} moves"), LIMIT, || {
            Ok((owners(pair) == expected).then_some(()))
        })
        .unwrap();
    };
    wait_for(&pair, (true, false));
    pair.settles("xdp-lb", true, false);

    pair.cluster
        .director
        .configure(&instance(150, PASS))
        .unwrap();
    pair.cluster.director.signal(Signal::SIGHUP).unwrap();
    wait::until("the VIP moves", LIMIT, || {
        let owners = owners(&pair);
        assert_ne!(owners, (false, false), "nobody has it");
        Ok((owners == (false, true)).then_some(()))
    })
    .unwrap();
    let log = pair.cluster.director.log();
    assert!(
        log.contains("VI_2: MASTER → INIT: stopped, 10.80.0.2 took over"),
        "{log}"
    );
    pair.xdp_lb_is_master();

    // Without a successor it goes after a while all the same.
    pair.cluster.director.configure(&both(150)).unwrap();
    pair.cluster.director.signal(Signal::SIGHUP).unwrap();
    wait_for(&pair, (true, false));
    pair.keepalived.end_by(Signal::SIGTERM).unwrap();
    pair.cluster
        .director
        .configure(&instance(150, PASS))
        .unwrap();
    pair.cluster.director.signal(Signal::SIGHUP).unwrap();
    wait_for(&pair, (false, false));
    assert!(has_vip(&pair.cluster.host));
}

#[test]
fn with_no_accept_the_vip_takes_what_is_balanced_and_nothing_else() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("va", 2, &[]).unwrap();
    let servers = format!("lb_algo rr\n{}{}", real_server(1, 1), real_server(2, 1));
    let text = |lines| format!("{}{}", instance(150, lines), virtual_server(&servers));
    let rules = |cluster: &Cluster| {
        let mut command = Command::new("nft");
        let netns = &cluster.host.netns;
        netns.output(command.args(["list", "ruleset"])).unwrap()
    };
    let connect = |cluster: &Cluster, port| {
        let address = SocketAddr::from((VIP, port));
        let connected = cluster
            .client
            .netns
            .run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        connected.unwrap().map(drop).map_err(|reason| reason.kind())
    };
    cluster.director.configure(&text("no_accept")).unwrap();
    cluster.director.start_whole().unwrap();
    cluster.director.wait_log("BACKUP → MASTER").unwrap();
    wait::until("a balanced connection opens", LIMIT, || {
        Ok(connect(&cluster, 80).ok())
    })
    .unwrap();
    assert_eq!(connect(&cluster, 9), Err(ErrorKind::TimedOut));
    assert_eq!(connect(&cluster, 80), Ok(()));
    assert!(rules(&cluster).contains("ip daddr 10.80.0.200 drop"));

    // Somebody flushes the rules.
    let mut command = Command::new("nft");
    cluster
        .host
        .netns
        .output(command.args(["flush", "ruleset"]))
        .unwrap();
    cluster
        .director
        .wait_log("somebody removed the filter of packets to 10.80.0.200")
        .unwrap();
    assert_eq!(connect(&cluster, 9), Err(ErrorKind::TimedOut));

    // A successor of one that was killed knows of it.
    cluster.director.end_by(Signal::SIGKILL).unwrap();
    cluster.director.configure(&text("")).unwrap();
    cluster.director.start_whole().unwrap();
    wait::until("it takes packets", LIMIT, || {
        let refused = connect(&cluster, 9) == Err(ErrorKind::ConnectionRefused);
        Ok(refused.then_some(()))
    })
    .unwrap();
    assert_eq!(rules(&cluster), "");
    cluster.director.configure(&text("no_accept")).unwrap();
    cluster.director.signal(Signal::SIGHUP).unwrap();
    wait::until("it takes none", LIMIT, || {
        let silent = connect(&cluster, 9) == Err(ErrorKind::TimedOut);
        Ok(silent.then_some(()))
    })
    .unwrap();
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert_eq!(rules(&cluster), "");
}
