//! Interfaces of every kind that this kernel has: where the program works, in which mode, and what is said
//! where it works otherwise than was asked for, or not at all.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use xdp_lb_tests::cluster::{
    Cluster, DIRECTOR, RealServer, SERVICE, real_server, server_address, virtual_server,
    vrrp_instance,
};
use xdp_lb_tests::director::{Status, program, traces};
use xdp_lb_tests::lan::{INTERFACE, Lan};
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::traffic::answering;
use xdp_lb_tests::xdp::{Pass, rig};
use xdp_lb_tests::{needs, wait};

/// What a command may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

fn services() -> String {
    let servers = real_server(1, 1) + &real_server(2, 1);
    virtual_server(&format!("lb_algo rr\n{servers}"))
}

/// The service, with its VIP on this interface.
fn on(interface: &str) -> String {
    let own = format!("interface {interface}");
    vrrp_instance("MASTER").replace(&format!("interface {INTERFACE}"), &own) + &services()
}

/// Mode and remark of each interface that the program is on.
fn seats(status: &Status) -> Vec<(&str, &str, &str)> {
    let interfaces = status.interfaces.iter();
    let seats = interfaces.map(|i| (&*i.name, &*i.mode, i.remark.as_deref().unwrap_or_default()));
    seats.collect()
}

/// Whether the service answers as it should: twice each server, in turn.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn assert_balanced(cluster: &Cluster) {
    let told = answering(&cluster.client.netns, SERVICE, 4).unwrap();
    assert_eq!(told, ["rs1", "rs1", "rs2", "rs2"]);
}

/// Runs a command to its end: its code and what it said on both streams.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn run(netns: &Netns, folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program().unwrap());
    command.args(arguments);
    let mut process = Process::start("command", netns, &mut command, folder).unwrap();
    let status = process.wait(LIMIT).unwrap();
    let said = std::fs::read_to_string(process.log()).unwrap();
    (status.code(), process.stdout().unwrap() + &said)
}

/// On an interface that no packet can be balanced on nothing is begun, and `check` knows it before.
#[test]
fn interfaces_of_no_use_are_refused_before_anything_is_touched() {
    if !needs::root().unwrap() {
        return;
    }
    let prefix = unique_prefix("au");
    let netns = Netns::create(&format!("{prefix}host")).unwrap();
    netns
        .ip("link add name ifb7 type ifb\ntuntap add dev tun0 mode tun\nlink set dev lo up")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let instance = prefix.trim_end_matches('-');
    let file = folder.path().join("file.conf");
    let name = file.to_str().unwrap();
    let cases = [
        ("lo", "lo: it is the loopback"),
        ("ifb7", "ifb7: nothing ever comes in"),
        ("tun0", "tun0: its packets have no Ethernet headers"),
    ];
    for (interface, why) in cases {
        let why = format!("no packet can be balanced on {why}");
        std::fs::write(&file, on(interface)).unwrap();
        let up = ["up", "-f", name, "--instance", instance];
        let (code, said) = run(&netns, folder.path(), &up);
        let whole = format!("vrrp_instance VI_1: {why}");
        assert!(code == Some(1) && said.contains(&whole), "{code:?} {said}");
        let [pins, _] = traces(instance);
        assert!(!pins.exists(), "{interface}");
        let (code, said) = run(&netns, folder.path(), &["check", "-f", name]);
        let whole = format!("error[useless-interface]: {why}");
        assert!(code == Some(1) && said.contains(&whole), "{code:?} {said}");
        let (code, said) = run(&netns, folder.path(), &["check", "--no-host", "-f", name]);
        assert_eq!(code, Some(0), "{said}");

        std::fs::write(&file, vrrp_instance("MASTER").replace(INTERFACE, interface)).unwrap();
        let (code, said) = run(&netns, folder.path(), &["check", "-f", name]);
        assert_eq!(code, Some(0), "without virtual servers: {said}");
    }
}

/// The card is a port of a bridge, and the addresses are on that.
#[test]
fn on_a_bridge_it_works_in_the_stack_and_says_so() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ab", 2, &[]).unwrap();
    let netns = &cluster.host.netns;
    netns
        .ip(&format!(
            "link add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             address del {DIRECTOR}/24 dev {INTERFACE}\n\
             link set dev {INTERFACE} master br0\n\
             link set dev br0 up\n\
             address add {DIRECTOR}/24 dev br0"
        ))
        .unwrap();
    let said = "br0 is a bridge, and only generic XDP works on those";
    cluster.director.configure(&on("br0")).unwrap();
    let file = cluster.director.file();
    let check = ["check", "-f", file.to_str().unwrap()];
    let (code, checked) = run(&cluster.host.netns, cluster.folder(), &check);
    let note = format!("note[only-generic]: {said}");
    assert!(code == Some(0) && checked.contains(&note), "{checked}");

    cluster.director.start_whole().unwrap();
    assert_balanced(&cluster);
    let status = cluster.director.status().unwrap();
    let [(name, mode, remark)] = seats(&status)[..] else {
        panic!("{status:?}");
    };
    assert_eq!((name, mode), ("br0", "generic"));
    assert!(remark.starts_with(said), "{remark}");
    assert!(cluster.director.log().contains(said));
    let screen = cluster.director.ask(&["status"]).unwrap();
    assert!(screen.contains(said), "{screen}");
    let way = ["trace", "10.80.0.10", &SERVICE.to_string()];
    let trace = cluster.director.ask(&way).unwrap();
    assert!(trace.contains(said), "{trace}");
}

#[test]
fn on_a_macvlan_it_works_in_the_stack_and_says_so() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("am", 2, &[]).unwrap();
    let netns = &cluster.host.netns;
    netns
        .ip(&format!(
            "link add name mv0 link {INTERFACE} type macvlan mode bridge\n\
             address del {DIRECTOR}/24 dev {INTERFACE}\n\
             link set dev mv0 up\n\
             address add {DIRECTOR}/24 dev mv0"
        ))
        .unwrap();
    // Else the card answers for the addresses, too, and by its own MAC.
    let silence = || std::fs::write("/proc/sys/net/ipv4/conf/eth0/arp_ignore", "1");
    netns.run(silence).unwrap().unwrap();
    cluster.director.configure(&on("mv0")).unwrap();
    cluster.director.start_whole().unwrap();
    assert_balanced(&cluster);
    let status = cluster.director.status().unwrap();
    let [(name, mode, remark)] = seats(&status)[..] else {
        panic!("{status:?}");
    };
    assert_eq!((name, mode), ("mv0", "generic"));
    assert!(remark.starts_with("mv0 is a macvlan, and only"), "{remark}");
}

/// Clients are on one cable; the real servers on another, which is a port of a bridge.
struct BehindBridge {
    cluster: Cluster,
    servers: Vec<RealServer>,
    _pass: Pass,
    _back: Lan,
}

impl BehindBridge {
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    fn create(tag: &str, arguments: &[&str]) -> Self {
        let cluster = Cluster::create(tag, 0, arguments).unwrap();
        let back = Lan::create(&unique_prefix(&format!("{tag}b"))).unwrap();
        back.join(&cluster.host, "eth1", []).unwrap();
        let pass = Pass::attach(&rig().unwrap(), back.switch(), &cluster.host.name).unwrap();
        cluster
            .host
            .netns
            .ip(
                "link add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                 link set dev eth1 master br0\n\
                 link set dev br0 up\n\
                 address add 10.81.0.1/24 dev br0",
            )
            .unwrap();
        let server = |number: u8| {
            let address = Ipv4Addr::new(10, 81, 0, 100 + number);
            let name = format!("rs{number}");
            let host = back.add_host(&name, [&*format!("{address}/24")]).unwrap();
            let front = format!("{}/24", server_address(number));
            cluster.lan.join(&host, "eth1", [&*front]).unwrap();
            // What comes in by one port and is answered by the other is meant so.
            host.netns.run(without_reverse_path_filter).unwrap();
            RealServer::serve(host, address).unwrap()
        };
        let servers: Vec<_> = (1..=2).map(server).collect();
        let text = on(INTERFACE).replace("10.80.0.10", "10.81.0.10");
        let text = text + &format!("xdp_lb {{\ninterface {INTERFACE}\n}}\n");
        cluster.director.configure(&text).unwrap();
        Self {
            cluster,
            servers,
            _pass: pass,
            _back: back,
        }
    }
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn without_reverse_path_filter() {
    for place in ["all", "eth0", "eth1"] {
        let path = format!("/proc/sys/net/ipv4/conf/{place}/rp_filter");
        std::fs::write(path, "0").unwrap();
    }
}

/// Native XDP would lose every packet, and nobody would say so.
#[test]
fn real_servers_behind_a_bridge_are_reached_from_the_stack() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = BehindBridge::create("ar", &[]);
    site.cluster.director.start_whole().unwrap();
    assert_balanced(&site.cluster);
    let status = site.cluster.director.status().unwrap();
    let [(name, mode, remark)] = seats(&status)[..] else {
        panic!("{status:?}");
    };
    assert_eq!((name, mode), (INTERFACE, "generic"));
    assert!(
        remark.contains("send nothing by br0: it is a bridge"),
        "{remark}"
    );
    drop(site.servers);
}

/// Somebody wants it native all the same: it is said what comes of it, and it does.
#[test]
fn native_mode_loses_what_leaves_by_a_bridge_and_says_so() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = BehindBridge::create("an", &["--xdp-mode", "native"]);
    let director = &mut site.cluster.director;
    director.start_whole().unwrap();
    let said = "packets that leave by br0 are lost, because it is a bridge";
    director.wait_log(said).unwrap();
    let status = director.status().unwrap();
    let [(_, "native", remark)] = seats(&status)[..] else {
        panic!("{status:?}");
    };
    assert!(remark.contains(said), "{remark}");
    let connect = || TcpStream::connect_timeout(&SERVICE, Duration::from_secs(2));
    site.cluster.client.netns.run(connect).unwrap().unwrap_err();
    let sent = site.cluster.director.packets("redirect_scheduled").unwrap();
    assert!(sent > 0, "the kernel takes them and drops them");
    drop(site.servers);
}

/// A container's usual interface: nobody at the other end reads what native XDP sends.
#[test]
fn on_a_veth_whose_other_end_takes_nothing_it_works_in_the_stack() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("av", 2, &[]).unwrap();
    cluster.take_program_off();
    cluster.director.configure(&on(INTERFACE)).unwrap();
    cluster.director.start_whole().unwrap();
    assert_balanced(&cluster);
    let status = cluster.director.status().unwrap();
    let [(_, mode, remark)] = seats(&status)[..] else {
        panic!("{status:?}");
    };
    assert_eq!(mode, "generic");
    assert!(
        remark.contains("its other end has no XDP program and maybe no GRO"),
        "{remark}"
    );
}

#[test]
fn the_other_end_of_a_veth_is_looked_at_again() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("aw", 2, &["--xdp-mode", "native"]).unwrap();
    cluster.director.configure(&on(INTERFACE)).unwrap();
    cluster.director.start_whole().unwrap();
    assert_balanced(&cluster);
    assert_eq!(
        seats(&cluster.director.status().unwrap()),
        [(INTERFACE, "native", "")]
    );
    cluster.take_program_off();
    let said = format!("{INTERFACE}: packets that leave by {INTERFACE} may be lost");
    cluster.director.wait_log(&said).unwrap();
    let _pass = Pass::attach(&rig().unwrap(), cluster.lan.switch(), &cluster.host.name).unwrap();
    let director = &cluster.director;
    wait::until("nothing is wrong any more", LIMIT, || {
        let is_well = seats(&director.status()?) == [(INTERFACE, "native", "")];
        Ok(is_well.then_some(()))
    })
    .unwrap();
    assert_balanced(&cluster);
}
