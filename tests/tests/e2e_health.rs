//! Real servers that fail, return, come late and change, as clients and operators see it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use xdp_lb_tests::cluster::{
    Cluster, PORT, RealServer, SERVICE, VIP, real_server, server_address, virtual_server,
    vrrp_instance,
};
use xdp_lb_tests::director::{Director, List};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::traffic::{Call, EchoServer, Heart, beat_on};
use xdp_lb_tests::{link, needs, wait};

/// Bound of what should take seconds at most.
const SOON: Duration = Duration::from_secs(30);

fn configuration(servers: &str) -> String {
    vrrp_instance("MASTER") + &virtual_server(&format!("lb_algo rr\n{servers}"))
}

fn is(number: u8, state: &str) -> impl Fn(&List) -> bool {
    move |list| {
        let server = list.real_server(server_address(number));
        server.is_ok_and(|server| server.state == state)
    }
}

/// Who answers the next connections.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn answering(cluster: &Cluster, connections: usize) -> Vec<String> {
    let call = |_| Call::open(&cluster.client.netns, SERVICE).unwrap().server;
    let mut servers: Vec<_> = (0..connections).map(call).collect();
    servers.sort_unstable();
    servers
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn checks(director: &Director, result: &str) -> f64 {
    let scrape = director.scrape().unwrap();
    let checks = scrape.one("xdp_lb_health_checks_total", &[("result", result)]);
    checks.unwrap_or(0.0)
}

#[test]
fn a_server_that_fails_gives_its_clients_away_and_returns() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ha", 2, &[]).unwrap();
    let servers = real_server(1, 1) + &real_server(2, 1);
    cluster
        .director
        .configure(&configuration(&servers))
        .unwrap();
    cluster.director.start_whole().unwrap();
    let hearts = Heart::start_many(6, &cluster.client.netns, SERVICE).unwrap();
    let (its, others): (Vec<_>, Vec<_>) =
        hearts.into_iter().partition(|heart| heart.server == "rs1");
    assert_eq!((its.len(), others.len()), (3, 3));
    assert!(checks(&cluster.director, "failure") < 1.0);

    // Its port is closed, but what is open goes on: as of a server that is stopped gracefully, or
    // hangs.
    cluster.servers[0].echo.close_port().unwrap();
    let list = cluster
        .director
        .wait_list("rs1 is down", is(1, "down"))
        .unwrap();
    let failed = list.real_server(server_address(1)).unwrap();
    assert_eq!(failed.reason.as_deref(), Some("connection refused"));
    // One failure is none yet: `retry 1`.
    assert!(checks(&cluster.director, "failure") >= 2.0);
    let log = cluster.director.log();
    assert!(
        log.contains("10.80.0.101:80 down: ") && log.contains("(2 of 2)"),
        "{log}"
    );

    // Its clients are told at once, by a reset, and not by a silence of minutes.
    let told = |heart: &Heart| heart.failure().is_some_and(|why| why.contains("reset"));
    wait::until("its connections are reset", SOON, || {
        Ok(its.iter().all(told).then_some(()))
    })
    .unwrap();
    assert!(cluster.director.packets("purged").unwrap() >= 3);
    assert_eq!(answering(&cluster, 4), ["rs2"; 4]);
    beat_on(&others, 10).unwrap();
    let table = cluster.director.ask(&["list"]).unwrap();
    assert!(!table.contains("10.80.0.101"), "{table}");

    cluster.servers[0].echo.open_port().unwrap();
    cluster
        .director
        .wait_list("rs1 is back", is(1, "up"))
        .unwrap();
    assert_eq!(answering(&cluster, 4), ["rs1", "rs1", "rs2", "rs2"]);
    beat_on(&others, 10).unwrap();
}

#[test]
fn without_any_server_clients_are_refused_at_once() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("hb", 1, &[]).unwrap();
    cluster
        .director
        .configure(&configuration(&real_server(1, 1)))
        .unwrap();
    cluster.director.start_whole().unwrap();
    assert_eq!(answering(&cluster, 1), ["rs1"]);
    cluster.servers[0].echo.close_port().unwrap();
    cluster
        .director
        .wait_list("rs1 is down", is(1, "down"))
        .unwrap();
    let refused = Call::open(&cluster.client.netns, SERVICE).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
    // A SYN that nobody answers is sent again: this one was not.
    assert_eq!(cluster.director.packets("tx_unreachable").unwrap(), 1);
    let status = cluster.director.ask(&["status"]).unwrap();
    assert!(status.contains("0 up, 0 degraded, 1 down"), "{status}");
}

#[test]
fn a_server_that_is_not_there_yet_comes_in_when_it_appears() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("hc", 1, &[]).unwrap();
    // Nothing checks the second: only its MAC is missing.
    let late = format!("real_server {} {PORT} {{ weight 1 }}\n", server_address(2));
    let servers = real_server(1, 1) + &late.replace("{ weight 1 }", "{\nweight 1\n}");
    cluster
        .director
        .configure(&configuration(&servers))
        .unwrap();
    cluster.director.start().unwrap();
    let pid = cluster.director.pid().unwrap();
    let list = cluster
        .director
        .wait_list("rs1 is up", is(1, "up"))
        .unwrap();
    let absent = list.real_server(server_address(2)).unwrap();
    assert_eq!((&*absent.state, &absent.mac), ("down", &None));
    assert_eq!(
        absent.reason.as_deref(),
        Some("no MAC address: neighbour not resolved")
    );
    assert_eq!(answering(&cluster, 4), ["rs1"; 4]);

    let late = RealServer::start(2, &cluster.lan).unwrap();
    let list = cluster
        .director
        .wait_list("rs2 is up", is(2, "up"))
        .unwrap();
    let present = list.real_server(server_address(2)).unwrap();
    assert_eq!(
        (&present.mac, &present.reason),
        (&Some(late.host.mac.clone()), &None)
    );
    assert_eq!(answering(&cluster, 4), ["rs1", "rs1", "rs2", "rs2"]);
    assert_eq!(cluster.director.pid().unwrap(), pid);
    // Its connections end before it does.
    cluster.servers.push(late);
}

#[test]
fn connections_follow_a_server_to_its_new_mac() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("hd", 1, &[]).unwrap();
    cluster
        .director
        .configure(&configuration(&real_server(1, 1)))
        .unwrap();
    cluster.director.start_whole().unwrap();
    let heart = Heart::start(&cluster.client.netns, SERVICE).unwrap();
    beat_on([&heart], 10).unwrap();

    // As when a virtual machine moves, or a bond fails over: the host says so itself.
    let new = "02:00:00:00:81:01";
    let server = &cluster.servers[0].host.netns;
    server
        .run(|| {
            std::fs::write(
                format!("/proc/sys/net/ipv4/conf/{INTERFACE}/arp_notify"),
                "1",
            )
        })
        .unwrap()
        .unwrap();
    server
        .ip(&format!("link set dev {INTERFACE} address {new}"))
        .unwrap();
    let has_new = |list: &List| {
        let server = list.real_server(server_address(1));
        server.is_ok_and(|server| server.mac.as_deref() == Some(new) && server.state == "up")
    };
    cluster
        .director
        .wait_list("the new MAC is in use", has_new)
        .unwrap();
    beat_on([&heart], 10).unwrap();
    assert_eq!(answering(&cluster, 2), ["rs1"; 2]);
    assert_eq!(link::show(server, INTERFACE).unwrap().address, new);
    assert_eq!(cluster.director.packets("purged").unwrap(), 0);
}

#[test]
fn a_server_that_only_times_out_fails_too() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("he", 2, &[]).unwrap();
    let quick = |number| real_server(number, 1).replace("connect_timeout 3", "connect_timeout 1");
    cluster
        .director
        .configure(&configuration(&(quick(1) + &quick(2))))
        .unwrap();
    cluster.director.start_whole().unwrap();
    // A port that swallows every packet, as a firewall's.
    let server = &cluster.servers[0];
    let own = SocketAddr::from((server.address, PORT));
    let blackhole = format!("rule add from {} to {} blackhole", own.ip(), "10.80.0.1");
    server.host.netns.ip(&blackhole).unwrap();
    cluster
        .director
        .wait_list("rs1 is down", is(1, "down"))
        .unwrap();
    let log = cluster.director.log();
    assert!(
        log.contains("connect timed out after 1 s (2 of 2)"),
        "{log}"
    );
    assert!(checks(&cluster.director, "timeout") >= 2.0);
    assert_eq!(answering(&cluster, 3), ["rs2"; 3]);
}

/// A VIP and a server in one prefix of IPv6.
const VIP6: Ipv6Addr = at(0x200);
const SERVER6: Ipv6Addr = at(0x101);
/// Not that of the IPv4 server, which listens on any address.
const PORT6: u16 = 8080;
/// A server in a subnet of [`VIP`] that the director's own address is not in.
const NEXT_TO_VIP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 201);

const fn at(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, host)
}

/// A director on [`VIP6`]`/64`, with these options, and on [`VIP`]`/29`.
fn shared_prefixes(options: &str) -> String {
    let check = "TCP_CHECK {
        connect_timeout 3
        delay_loop 1
        retry 0
        warmup 0
    }";
    format!(
        "vrrp_instance VI_1 {{
            state MASTER
            interface {INTERFACE}
            virtual_router_id 51
            priority 255
            virtual_ipaddress {{
                {VIP}/29
            }}
            virtual_ipaddress_excluded {{
                {VIP6}/64 {options}
            }}
        }}
        virtual_server {VIP6} {PORT6} {{
            lb_kind DR
            protocol TCP
            real_server {SERVER6} {PORT6} {{
                {check}
            }}
        }}\n"
    ) + &virtual_server(&format!(
        "real_server {NEXT_TO_VIP} {PORT} {{
            {check}
        }}"
    ))
}

/// Where the director's own packets to an address come from, as the kernel has it.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn comes_from(cluster: &Cluster, to: &str) -> String {
    let mut command = Command::new("ip");
    command.args(["route", "get", to]);
    let route = cluster.host.netns.output(&mut command).unwrap();
    let source = route.split_once(" src ").map(|(_, rest)| rest);
    let source = source.and_then(|rest| rest.split_whitespace().next());
    source.unwrap().to_owned()
}

/// Real servers have the VIP themselves: an answer to it would never leave them.
#[test]
fn checks_leave_from_the_directors_own_address_and_not_from_a_vip_of_the_same_prefix() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("hv", 1, &[]).unwrap();
    let own = format!("address add {}/64 dev {INTERFACE} nodad", at(1));
    cluster.host.netns.ip(&own).unwrap();
    let server = &cluster.servers[0].host;
    let lines = format!(
        "address add {SERVER6}/64 dev {INTERFACE} nodad
        address add {VIP6}/128 dev lo nodad
        address add {NEXT_TO_VIP}/24 dev {INTERFACE}"
    );
    server.netns.ip(&lines).unwrap();
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT6));
    let _echo = EchoServer::start(&server.name, &server.netns, any).unwrap();

    let director = &mut cluster.director;
    director.configure(&shared_prefixes("")).unwrap();
    director.start_whole().unwrap();
    settled(&cluster);
    // The one can be helped in the address itself, the other cannot.
    assert_eq!(
        comes_from(&cluster, &SERVER6.to_string()),
        at(1).to_string()
    );
    assert_eq!(
        comes_from(&cluster, &NEXT_TO_VIP.to_string()),
        VIP.to_string()
    );

    // What the file says holds, and checks avoid the address all the same.
    let director = &mut cluster.director;
    director
        .configure(&shared_prefixes("preferred_lft forever"))
        .unwrap();
    director.signal(Signal::SIGHUP).unwrap();
    let server6 = SERVER6.to_string();
    wait::until("the VIP is preferred", SOON, || {
        Ok((comes_from(&cluster, &server6) == VIP6.to_string()).then_some(()))
    })
    .unwrap();
    settled(&cluster);
}

/// Waits for checks that began from now on, and for none that fails.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn settled(cluster: &Cluster) {
    let (passed, timed_out) = (
        checks(&cluster.director, "success"),
        checks(&cluster.director, "timeout"),
    );
    // Two servers, each once a second: longer than a check takes that nobody answers.
    wait::until("every server is checked again", SOON, || {
        let now = checks(&cluster.director, "success");
        Ok((now >= passed + 12.0).then_some(()))
    })
    .unwrap();
    let since = checks(&cluster.director, "timeout") - timed_out;
    assert!(since < 1.0, "{since} timed out");
    let list = cluster.director.list().unwrap();
    assert!(list.real_servers().all(|server| server.state == "up"));
}
