//! The kinds of forwarding beside direct routing, with real clients and servers: tunnels to servers that
//! answer by themselves, and address translation, where they answer through the director.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

use xdp_lb_tests::cluster::{
    Cluster, PORT, SERVICE, VIP, real_server, server_address, virtual_server, vrrp_instance,
};
use xdp_lb_tests::director::Director;
use xdp_lb_tests::lan::{Host, Lan};
use xdp_lb_tests::needs;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::traffic::{Call, Heart, beat_on};
use xdp_lb_tests::tunnel::{FarEnd, Wrap};
use xdp_lb_tests::xdp::{Pass, rig};

const GUE_PORT: u16 = 6080;
/// Where nginx listens on the real servers.
const INNER_PORT: u16 = 8080;
/// The director's address on the servers' side: their gateway.
const GATEWAY: &str = "10.81.0.1";
/// Octets of the file that is downloaded.
const FILE: usize = 3_000_000;

/// Packets by reason, those that there were.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn exits(director: &Director) -> BTreeMap<String, u64> {
    let packets = director.status().unwrap().packets.into_iter();
    let any = packets.filter(|exit| exit.packets > 0);
    any.map(|exit| (exit.reason, exit.packets)).collect()
}

/// Opens connections one by one and says something on each: who answers?
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn answering(client: &Netns, connections: usize) -> Vec<String> {
    let call = |_| {
        let mut call = Call::open(client, SERVICE).unwrap();
        for number in 0..5 {
            call.beat(number).unwrap();
        }
        call.server
    };
    let mut servers: Vec<_> = (0..connections).map(call).collect();
    servers.sort_unstable();
    servers
}

/// Four servers of one service, each reached in another way.
#[test]
fn servers_behind_tunnels_of_every_type_serve_beside_one_without() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ka", 4, &[]).unwrap();
    let by = |number: u8, method: &str| {
        let method = format!("lvs_method {method}\nweight");
        real_server(number, 1).replacen("weight", &method, 1)
    };
    let servers = by(1, "TUN")
        + &by(2, &format!("TUN type gue port {GUE_PORT} csum"))
        + &by(3, "TUN type gre csum")
        + &real_server(4, 1);
    let service = virtual_server(&format!("lb_algo rr\n{servers}"));
    let text = vrrp_instance("MASTER") + &service;
    let wraps = [Wrap::Ipip, Wrap::Gue(GUE_PORT), Wrap::Gre];
    let ends = cluster.servers.iter().zip(wraps);
    let ends: Vec<_> = ends
        .map(|(server, wrap)| FarEnd::open(&server.host.netns, wrap).unwrap())
        .collect();
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();

    let list = cluster.director.list().unwrap();
    let forward = |n| &*list.real_server(server_address(n)).unwrap().forward;
    assert_eq!([1, 2, 3, 4].map(forward), ["tun", "tun", "tun", "dr"]);
    let client = &cluster.client.netns;
    assert_eq!(
        answering(client, 8),
        ["rs1", "rs1", "rs2", "rs2", "rs3", "rs3", "rs4", "rs4"]
    );
    let hearts = Heart::start_many(4, client, SERVICE).unwrap();
    beat_on(&hearts, 10).unwrap();
    for (end, wrap) in ends.iter().zip(wraps) {
        // Two calls of seven packets and more, and a heart.
        assert!(end.packets() >= 2 * 7 + 10, "{wrap:?}: {}", end.packets());
    }
    let exits = exits(&cluster.director);
    assert_eq!(exits["tx_scheduled"], 12, "{exits:?}");
    assert!(!exits.contains_key("too_big"), "{exits:?}");
}

/// nginx on a host of the servers' network, whose way to everybody leads through the director.
struct Web {
    _nginx: Process,
    host: Host,
}

impl Web {
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn start(number: u8, lan: &Lan, folder: &std::path::Path) -> Self {
        let name = format!("rs{number}");
        let address = format!("{}/24", inner(number));
        let host = lan.add_host(&name, [&*address]).unwrap();
        let default = format!("route add default via {GATEWAY}");
        host.netns.ip(&default).unwrap();
        let root = folder.join(&name);
        std::fs::create_dir_all(root.join("www")).unwrap();
        std::fs::write(root.join("www/name"), &name).unwrap();
        std::fs::write(root.join("www/file"), vec![b'x'; FILE]).unwrap();
        let path = |file: &str| root.join(file).display().to_string();
        let text = format!(
            "daemon off;\nmaster_process off;\nuser root;\npid {};\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log {} combined;\nserver {{\nlisten {INNER_PORT};\nroot {};\n}}\n}}\n",
            path("pid"),
            path("access"),
            path("www"),
        );
        std::fs::write(root.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-p", &path(""), "-c", &path("nginx.conf")]);
        let nginx = Process::start(&name, &host.netns, &mut command, folder).unwrap();
        Self {
            _nginx: nginx,
            host,
        }
    }
}

const fn inner(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 81, 0, 100 + number)
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn curl(client: &Netns, path: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "20"]);
    command.arg(format!("http://{VIP}:{PORT}/{path}"));
    client.output(&mut command).unwrap()
}

/// The classic: servers of a private network, another port, and the director for a gateway.
#[test]
fn addresses_are_translated_for_servers_behind_the_director() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("kb", 0, &[]).unwrap();
    let back = Lan::create(&unique_prefix("kbb")).unwrap();
    let gateway = format!("{GATEWAY}/24");
    back.join(&cluster.host, "eth1", [&*gateway]).unwrap();
    let _pass = Pass::attach(&rig().unwrap(), back.switch(), &cluster.host.name).unwrap();
    let folder = cluster.folder().to_owned();
    let servers: Vec<_> = (1..=2).map(|n| Web::start(n, &back, &folder)).collect();
    let server = |n| {
        let address = format!("{} {PORT}", server_address(n));
        real_server(n, 1).replace(&address, &format!("{} {INNER_PORT}", inner(n)))
    };
    let service = virtual_server(&format!("lb_algo rr\n{}", server(1) + &server(2)));
    let service = service.replace("lb_kind DR", "lb_kind NAT");
    let text = vrrp_instance("MASTER") + &service;
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();

    let list = cluster.director.list().unwrap();
    let forwards: Vec<_> = list.real_servers().map(|s| (&*s.forward, s.port)).collect();
    assert_eq!(forwards, [("nat", INNER_PORT); 2]);
    let client = &cluster.client.netns;
    let mut names: Vec<_> = (0..10).map(|_| curl(client, "name")).collect();
    names.sort_unstable();
    assert_eq!(names, [["rs1"; 5], ["rs2"; 5]].concat());
    // Many full segments, all of them through the director.
    for _ in 0..2 {
        assert_eq!(curl(client, "file").len(), FILE);
    }
    // The servers see the client itself.
    let log = std::fs::read_to_string(folder.join("rs1/access")).unwrap();
    assert!(log.starts_with("10.80.0.10 "), "{log}");
    let exits = exits(&cluster.director);
    assert_eq!(exits["redirect_scheduled"], 12, "{exits:?}");
    assert!(exits["redirect_reply"] > 2 * 1000, "{exits:?}");
    for fault in ["no_reply_way", "no_reply_route", "other_host", "too_big"] {
        assert!(!exits.contains_key(fault), "{exits:?}");
    }
    // What the servers ask for on their own is routed, or not, as the director's kernel likes.
    let pong = servers[0]
        .host
        .netns
        .output(Command::new("ping").args(["-c1", "-W2", GATEWAY]));
    assert!(pong.is_ok(), "{pong:?}");
}
