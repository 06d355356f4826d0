//! Virtual MACs: addresses that move with their MAC between `xdp-lb up` and real keepalived.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use xdp_lb_tests::cluster::{Cluster, DIRECTOR, SERVICE, VIP, real_server, virtual_server};
use xdp_lb_tests::keepalived::Keepalived;
use xdp_lb_tests::lan::{Host, INTERFACE};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{needs, wait};

/// The other director's address.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
/// The virtual MAC of router 51.
const VMAC: &str = "00:00:5e:00:01:33";
/// Its interface.
const LINK: &str = "vrrp.51";
/// What a change of masters may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn instance(priority: u8, lines: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            advert_int 1
            use_vmac
            virtual_ipaddress {{
                {VIP}/24
            }}
            {lines}
        }}\n"
    )
}

fn whole(priority: u8, lines: &str) -> String {
    let servers = format!("lb_algo rr\n{}{}", real_server(1, 1), real_server(2, 1));
    format!("{}{}", instance(priority, lines), virtual_server(&servers))
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn run(host: &Host, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    host.netns.output(command.args(words)).unwrap()
}

/// The VIP stands on the interface with the virtual MAC.
fn has_vip(host: &Host) -> bool {
    run(host, "ip -o addr")
        .lines()
        .any(|line| line.contains(LINK) && line.contains(&format!("inet {VIP}/24 ")))
}

/// What the client sends to for the VIP.
fn known_mac(client: &Host) -> String {
    let line = run(client, &format!("ip neigh show {VIP} dev {INTERFACE}"));
    let mac = line.split_whitespace().skip_while(|word| *word != "lladdr");
    mac.skip(1).take(1).collect()
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn answers(cluster: &Cluster) {
    let closed = SocketAddr::from((VIP, 9));
    wait::until("the owner of the VIP answers", LIMIT, || {
        let netns = &cluster.client.netns;
        let connected =
            netns.run(|| TcpStream::connect_timeout(&closed, Duration::from_secs(1)))?;
        let refused = connected.is_err_and(|reason| reason.kind() == ErrorKind::ConnectionRefused);
        Ok(refused.then_some(()))
    })
    .unwrap();
    assert_eq!(known_mac(&cluster.client), VMAC);
}

#[expect(clippy::panic, reason = "part of a test")]
fn settles(cluster: &Cluster, other: &Host, here: bool, keepalived: &Keepalived) {
    let what = if here { "xdp-lb" } else { "keepalived" };
    let waited = wait::until(&format!("{what} alone has the VIP"), LIMIT, || {
        let owners = (has_vip(&cluster.host), has_vip(other));
        Ok((owners == (here, !here)).then_some(()))
    });
    if let Err(late) = waited {
        let shown = run(&cluster.host, "ip -d addr");
        panic!("{late}\n{shown}\nkeepalived:\n{}", keepalived.log());
    }
    answers(cluster);
    hear_adverts(cluster, if here { DIRECTOR } else { OTHER }, 3);
    assert_eq!((has_vip(&cluster.host), has_vip(other)), (here, !here));
    // One that has ended says nothing.
    if let Ok(status) = cluster.director.status() {
        let state = &status.vrrp_instances[0].state;
        assert_eq!(state == "MASTER", here, "{state}");
    }
    assert_eq!(known_mac(&cluster.client), VMAC);
}

/// Waits until that many adverts have crossed the switch from an address and the virtual MAC.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn hear_adverts(cluster: &Cluster, director: Ipv4Addr, count: u32) {
    let mut command = Command::new("tcpdump");
    command.args(["-Z", "root", "-n", "-e", "-p", "-i", &cluster.client.name]);
    command.args(["-c", &count.to_string()]);
    command.arg(format!(
        "ip proto 112 and src {director} and ether src {VMAC}"
    ));
    let switch = cluster.lan.switch();
    let heard = Process::start("adverts", switch, &mut command, cluster.folder()).unwrap();
    heard.finish(LIMIT).unwrap();
}

/// Every real server is reached through the VIP, by the program.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn balances(cluster: &Cluster) {
    let before = cluster.director.packets("tx_scheduled").unwrap();
    for _ in 0..4 {
        let connected = cluster
            .client
            .netns
            .run(|| TcpStream::connect_timeout(&SERVICE, Duration::from_secs(5)));
        connected.unwrap().unwrap();
    }
    let after = cluster.director.packets("tx_scheduled").unwrap();
    assert_eq!(after - before, 4, "by the XDP program");
}

#[test]
fn the_virtual_mac_moves_between_xdp_lb_and_keepalived_and_clients_notice_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("vm", 2, &[]).unwrap();
    let other = cluster.lan.add_host("other", [&*format!("{OTHER}/24")]);
    let other = other.unwrap();
    let mut keepalived = Keepalived::new("keepalived", &other.netns, cluster.folder());
    let before = settings(&cluster.host);
    // keepalived's own interface would ask for the client's MAC with the VIP as its address.
    let announce = "/proc/sys/net/ipv4/conf/eth0/arp_announce";
    let set = other.netns.run(|| std::fs::write(announce, "2"));
    set.unwrap().unwrap();

    keepalived.start(&instance(100, "")).unwrap();
    keepalived.wait_log("Entering MASTER STATE", 1).unwrap();
    answers(&cluster);
    cluster.director.configure(&whole(150, "")).unwrap();
    cluster.director.start_whole().unwrap();
    settles(&cluster, &other, true, &keepalived);
    balances(&cluster);

    let ended = cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(ended.success(), "{ended}");
    assert!(
        cluster
            .director
            .log()
            .contains("stopped, 10.80.0.2 took over")
    );
    let links = run(&cluster.host, "ip -o link");
    assert!(!links.contains(LINK), "{links}");
    assert_eq!(settings(&cluster.host), before);
    settles(&cluster, &other, false, &keepalived);

    cluster.director.configure(&whole(50, "")).unwrap();
    cluster.director.start_whole().unwrap();
    settles(&cluster, &other, false, &keepalived);
    keepalived.end_by(Signal::SIGKILL).unwrap();
    // What a dead director leaves would answer for the VIP.
    run(&other, &format!("ip link del {LINK}"));
    settles(&cluster, &other, true, &keepalived);
    balances(&cluster);

    // Somebody removes the interface: it is back, with the VIP.
    run(&cluster.host, &format!("ip link del {LINK}"));
    cluster
        .director
        .wait_log("somebody removed interface vrrp.51")
        .unwrap();
    settles(&cluster, &other, true, &keepalived);
    balances(&cluster);

    // One that is killed is succeeded, and what it changed is put back by its successor.
    cluster.director.end_by(Signal::SIGKILL).unwrap();
    cluster.director.start_whole().unwrap();
    settles(&cluster, &other, true, &keepalived);
    balances(&cluster);
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    assert!(!run(&cluster.host, "ip -o link").contains(LINK));
    assert_eq!(settings(&cluster.host), before);
}

#[test]
fn adverts_of_the_interface_below_are_understood_both_ways() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("vx", 0, &[]).unwrap();
    let other = cluster.lan.add_host("other", [&*format!("{OTHER}/24")]);
    let other = other.unwrap();
    let mut keepalived = Keepalived::new("keepalived", &other.netns, cluster.folder());
    let base = "vmac_xmit_base";
    // (A keepalived with it does not hear adverts from its virtual MAC, those of another keepalived included.)
    for (ours, theirs) in [(base, ""), (base, base)] {
        keepalived.start(&instance(100, theirs)).unwrap();
        keepalived.wait_log("Entering MASTER STATE", 1).unwrap();
        cluster.director.configure(&instance(150, ours)).unwrap();
        cluster.director.start().unwrap();
        keepalived.wait_log("Entering BACKUP STATE", 2).unwrap();
        cluster.director.wait_log("BACKUP → MASTER").unwrap();
        cluster.director.end_by(Signal::SIGTERM).unwrap();
        let log = cluster.director.log();
        assert!(log.contains("stopped, 10.80.0.2 took over"), "{log}");
        keepalived.end_by(Signal::SIGTERM).unwrap();
    }
}

#[test]
fn ipv6_routers_have_a_virtual_mac_of_their_own() {
    if !needs::root().unwrap() {
        return;
    }
    let instance = |priority: u8| {
        format!(
            "vrrp_instance VI_6 {{
                state BACKUP
                interface {INTERFACE}
                virtual_router_id 51
                priority {priority}
                version 3
                advert_int 0.5
                use_vmac
                virtual_ipaddress {{
                    fe80::200/64
                    fd80::200/64
                }}
            }}\n"
        )
    };
    let mut cluster = Cluster::create("vs", 0, &[]).unwrap();
    let other = cluster.lan.add_host("other", [&*format!("{OTHER}/24")]);
    let other = other.unwrap();
    let mut keepalived = Keepalived::new("keepalived", &other.netns, cluster.folder());
    let owners = || {
        [&cluster.host, &other].map(|host| {
            let shown = run(host, "ip -o -6 addr");
            let on = |line: &str| line.contains(LINK) && line.contains("fd80::200/64");
            shown.lines().any(on)
        })
    };
    let settles = |expected: [bool; 2]| {
        wait::until("the VIPs move", LIMIT, || {
            Ok((owners() == expected).then_some(()))
        })
        .unwrap();
    };
    keepalived.start(&instance(100)).unwrap();
    settles([false, true]);
    cluster.director.configure(&instance(150)).unwrap();
    cluster.director.start().unwrap();
    settles([true, false]);
    let mut command = Command::new("tcpdump");
    command.args(["-Z", "root", "-n", "-e", "-p", "-c", "3", "-i"]);
    command.args([
        &cluster.client.name,
        "ip6 proto 112 and ether src 00:00:5e:00:02:33",
    ]);
    let switch = cluster.lan.switch();
    let heard = Process::start("adverts", switch, &mut command, cluster.folder()).unwrap();
    heard.finish(LIMIT).unwrap();
    assert_eq!(owners(), [true, false]);
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    let log = cluster.director.log();
    assert!(log.contains(" took over"), "{log}");
    settles([false, true]);
    assert!(!run(&cluster.host, "ip -o link").contains(LINK));
}

/// The kernel's settings that a virtual MAC has to do with.
fn settings(host: &Host) -> String {
    run(
        host,
        "grep -r . /proc/sys/net/ipv4/conf/eth0/arp_ignore /proc/sys/net/ipv4/conf/eth0/arp_filter \
         /proc/sys/net/ipv4/conf/eth0/arp_announce \
         /proc/sys/net/ipv4/conf/eth0/rp_filter /proc/sys/net/ipv4/conf/all/rp_filter",
    )
}
