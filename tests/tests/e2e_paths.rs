//! The ways a packet can take: in the driver or in the stack, out of the port it came in by or out of
//! another, to another host or to the director itself, and past a director that owns nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;

use xdp_lb_tests::capture::{Capture, Way};
use xdp_lb_tests::cluster::{
    Cluster, PORT, RealServer, SERVICE, VIP, real_server, server_address, virtual_server,
    vrrp_instance,
};
use xdp_lb_tests::director::Director;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::traffic::{self, EchoServer, Heart, UdpClient, UdpServer, beat_on, wait_ended};
use xdp_lb_tests::xdp::{Pass, rig};
use xdp_lb_tests::{link, needs};

fn configuration(state: &str) -> String {
    let servers = real_server(1, 1) + &real_server(2, 1);
    vrrp_instance(state) + &virtual_server(&format!("lb_algo rr\n{servers}"))
}

/// Packets of one verdict (`tx`, `redirect`), by how their way was found.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn sent(director: &Director, verdict: &str) -> BTreeMap<String, u64> {
    let packets = director.status().unwrap().packets.into_iter();
    let sent = packets.filter(|exit| exit.reason.starts_with(&format!("{verdict}_")));
    sent.filter(|exit| exit.packets > 0)
        .map(|exit| (exit.reason, exit.packets))
        .collect()
}

/// Waits for the next connections, one by one, and says something on each: who answers?
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn answering(client: &Netns, connections: usize) -> Vec<String> {
    traffic::answering(client, SERVICE, connections).unwrap()
}

#[test]
fn generic_mode_balances_too() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pa", 2, &["--xdp-mode", "generic"]).unwrap();
    let director = &mut cluster.director;
    director.configure(&configuration("MASTER")).unwrap();
    director.start_whole().unwrap();
    let program = link::show(&cluster.host.netns, INTERFACE).unwrap().xdp;
    assert_eq!(program.map(link::LinkXdp::name), Some("generic"));
    assert_eq!(director.status().unwrap().interfaces[0].mode, "generic");
    assert_eq!(
        answering(&cluster.client.netns, 4),
        ["rs1", "rs1", "rs2", "rs2"]
    );
    let sent = sent(director, "tx");
    assert_eq!(sent["tx_scheduled"], 4);
    assert!(sent["tx_connection"] >= 4 * 6, "{sent:?}");
}

/// The director has a second port, and the real servers are behind it. They answer by their own way
/// to the clients.
#[test]
fn servers_behind_another_port_are_reached_by_redirect() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pb", 0, &[]).unwrap();
    let back = Lan::create(&unique_prefix("pbb")).unwrap();
    back.join(&cluster.host, "eth1", ["10.81.0.1/24"]).unwrap();
    let _pass = Pass::attach(&rig().unwrap(), back.switch(), &cluster.host.name).unwrap();
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
    let behind = configuration("MASTER").replace("10.80.0.10", "10.81.0.10");
    cluster.director.configure(&behind).unwrap();
    cluster.director.start_whole().unwrap();

    let interfaces = cluster.director.status().unwrap().interfaces;
    let names: Vec<_> = interfaces.iter().map(|i| (&*i.name, &*i.mode)).collect();
    assert_eq!(names, [("eth0", "native"), ("eth1", "native")]);
    let client = &cluster.client.netns;
    let hearts = Heart::start_many(4, client, SERVICE).unwrap();
    assert_eq!(answering(client, 4), ["rs1", "rs1", "rs2", "rs2"]);
    beat_on(&hearts, 10).unwrap();
    let redirected = sent(&cluster.director, "redirect");
    assert_eq!(redirected["redirect_scheduled"], 8);
    assert!(redirected["redirect_connection"] >= 8 * 6, "{redirected:?}");
    assert_eq!(sent(&cluster.director, "tx"), BTreeMap::new());
    assert!(
        !redirected.contains_key("redirect_failed"),
        "{redirected:?}"
    );
    drop(servers);
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn without_reverse_path_filter() {
    for place in ["all", "eth0", "eth1"] {
        let path = format!("/proc/sys/net/ipv4/conf/{place}/rp_filter");
        std::fs::write(path, "0").unwrap();
    }
}

/// A director that is a real server too, and its peer's: two machines do everything, as in seed 001.
struct Peer {
    director: Director,
    _echo: EchoServer,
    _pass: Pass,
    host: Host,
}

impl Peer {
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    fn new(number: u8, lan: &Lan, prefix: &str, folder: &std::path::Path) -> Self {
        let address = format!("{}/24", server_address(number));
        let host = lan.add_host(&format!("rs{number}"), [&*address]).unwrap();
        let pass = Pass::attach(&rig().unwrap(), lan.switch(), &host.name).unwrap();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let echo = EchoServer::start(&host.name, &host.netns, any).unwrap();
        let instance = format!("{prefix}{number}");
        let director = Director::new(&host.netns, &instance, folder, &[]).unwrap();
        // Two VRIDs: neither hears the other, as in two halves of a network.
        let apart = format!("virtual_router_id {number}");
        let text = configuration("MASTER").replace("virtual_router_id 51", &apart);
        director.configure(&text).unwrap();
        Self {
            director,
            _echo: echo,
            _pass: pass,
            host,
        }
    }

    /// A client of this one: whoever else says that the VIP is there is not believed.
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    fn client(&self, number: u8, lan: &Lan) -> Host {
        let address = format!("10.80.0.{}/24", 10 + number);
        let host = lan
            .add_host(&format!("client{number}"), [&*address])
            .unwrap();
        let entry = format!(
            "neighbour replace {VIP} lladdr {} dev {INTERFACE} nud permanent",
            self.host.mac
        );
        host.netns.ip(&entry).unwrap();
        host
    }
}

/// Both directors are MASTER for the VIP at once, and each is a real server of the other.
#[test]
fn in_a_split_brain_every_request_is_answered_once() {
    if !needs::root().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = unique_prefix("pc");
    let lan = Lan::create(&prefix).unwrap();
    let mut peers = [1, 2].map(|number| Peer::new(number, &lan, &prefix, folder.path()));
    let clients = [&peers[0], &peers[1]].map(|peer| peer.client(peer_number(peer), &lan));
    for peer in &mut peers {
        peer.director.start_whole().unwrap();
    }
    let local = peers[0].director.list().unwrap();
    let forwards = local.real_servers().map(|server| server.forward.as_str());
    assert_eq!(forwards.collect::<Vec<_>>(), ["local", "dr"]);

    let count = |port: &str, way| {
        let name = format!("{port}-{way:?}");
        let at = (lan.switch(), port);
        Capture::start(
            (&name, folder.path()),
            at,
            way,
            &format!("tcp and dst host {VIP}"),
        )
        .unwrap()
    };
    let from_clients = clients
        .each_ref()
        .map(|client| count(&client.name, Way::FromHost));
    let from_peers = peers
        .each_ref()
        .map(|peer| count(&peer.host.name, Way::FromHost));
    for client in &clients {
        // Half by the director's own server, half by its peer's.
        let half = [["rs1"; 10], ["rs2"; 10]].concat();
        assert_eq!(answering(&client.netns, 20), half);
    }
    let vip = SocketAddrV4::new(VIP, PORT);
    let hosts = clients.iter().chain(peers.iter().map(|peer| &peer.host));
    hosts.for_each(|host| wait_ended(&host.netns, vip).unwrap());
    let finish = |captures: [Capture; 2]| captures.map(|capture| capture.finish().unwrap());
    let asked: u64 = finish(from_clients).iter().sum();
    let forwarded = finish(from_peers);

    // What went from one to the other stayed there.
    let [first, second] = peers.each_ref().map(|peer| {
        let tx: u64 = sent(&peer.director, "tx").values().sum();
        let already = peer.director.packets("already_balanced").unwrap();
        (tx, already, peer.director.packets("local").unwrap())
    });
    assert_eq!((first.0, second.0), (forwarded[0], forwarded[1]));
    assert_eq!((first.1, second.1), (forwarded[1], forwarded[0]));
    // Every packet of a client was seen once, and half of the connections went on.
    assert_eq!(first.0 + first.2 + second.0 + second.2, asked);
    assert!(
        forwarded[0] >= 10 * 7 && forwarded[1] >= 10 * 7,
        "{forwarded:?}"
    );
}

fn peer_number(peer: &Peer) -> u8 {
    if peer.host.name == "rs1" { 1 } else { 2 }
}

#[test]
fn udp_is_balanced_flow_by_flow() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pd", 2, &[]).unwrap();
    let plain = |number: u8| {
        let address = server_address(number);
        format!("real_server {address} 53 {{\nweight 1\n}}\n")
    };
    let service = format!("lb_algo rr\n{}", plain(1) + &plain(2));
    let service = virtual_server(&service)
        .replace("protocol TCP", "protocol UDP")
        .replace(&format!("{VIP} {PORT}"), &format!("{VIP} 53"));
    cluster
        .director
        .configure(&(vrrp_instance("MASTER") + &service))
        .unwrap();
    cluster.director.start_whole().unwrap();
    let to = SocketAddr::from((VIP, 53));
    let start = |server: &RealServer| UdpServer::start(&server.host.name, &server.host.netns, to);
    let _servers = cluster
        .servers
        .iter()
        .map(start)
        .collect::<Result<Vec<_>, _>>()
        .unwrap();

    let open = |_| UdpClient::open(&cluster.client.netns, to).unwrap();
    let clients: Vec<_> = (0..6).map(open).collect();
    let first: Vec<_> = clients
        .iter()
        .map(|c| c.ask("who are you?").unwrap())
        .collect();
    let of_first = first.iter().filter(|server| *server == "rs1").count();
    assert_eq!(of_first, 3, "{first:?}");
    for round in 0..5 {
        let again = clients
            .iter()
            .map(|c| c.ask(&format!("round {round}")).unwrap());
        assert_eq!(again.collect::<Vec<_>>(), first, "round {round}");
    }
    let sent = sent(&cluster.director, "tx");
    assert_eq!(sent["tx_scheduled"], 6);
    assert!(sent["tx_connection"] >= 6 * 5, "{sent:?}");
    let list = cluster.director.list().unwrap();
    assert_eq!(
        (&*list.services[0].protocol, list.services[0].port),
        ("udp", 53)
    );
}

#[test]
fn a_backup_leaves_every_packet_to_its_stack() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("pe", 2, &[]).unwrap();
    // It waits three intervals for a master.
    let text = configuration("BACKUP").replace("advert_int 1", "advert_int 255");
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();
    assert_eq!(
        cluster.director.status().unwrap().vrrp_instances[0].state,
        "BACKUP"
    );
    assert!(!cluster.director.list().unwrap().services[0].active);
    assert!(
        cluster
            .director
            .log()
            .contains("VI_1: INIT → BACKUP: started")
    );
    let addresses = cluster
        .host
        .netns
        .output(Command::new("ip").args(["address", "show"]));
    assert!(!addresses.unwrap().contains(&VIP.to_string()));

    // Somebody on this host serves the VIP himself, and a client comes to him.
    cluster
        .host
        .netns
        .ip(&format!("address add {VIP}/32 dev lo"))
        .unwrap();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let _own = EchoServer::start("own", &cluster.host.netns, any).unwrap();
    let entry = format!(
        "neighbour replace {VIP} lladdr {} dev {INTERFACE} nud permanent",
        cluster.host.mac
    );
    cluster.client.netns.ip(&entry).unwrap();
    assert_eq!(answering(&cluster.client.netns, 3), ["own"; 3]);
    assert!(cluster.director.packets("not_active").unwrap() >= 3 * 7);
    assert_eq!(sent(&cluster.director, "tx"), BTreeMap::new());
}
