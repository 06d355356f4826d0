//! Frames that are not what most are: fragments of large datagrams, jumbo frames; and interfaces of which
//! there are several, with several queues.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use xdp_lb_tests::cluster::{Cluster, VIP, server_address, vrrp_instance};
use xdp_lb_tests::lan::{INTERFACE, Lan};
use xdp_lb_tests::link;
use xdp_lb_tests::needs;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::traffic::{UdpClient, UdpServer};
use xdp_lb_tests::xdp::{Pass, rig};

const VIP_V6: &str = "2001:db8:80::200";
const PORT: u16 = 5000;

fn server_address_v6(number: u8) -> String {
    format!("2001:db8:80::10{number}")
}

/// UDP services of both families, two servers each.
fn datagrams() -> String {
    let server = |address: &str| format!("real_server {address} {PORT} {{\nweight 1\n}}\n");
    let service = |vip: &str, servers: [String; 2]| {
        let servers = servers.concat();
        format!(
            "virtual_server {vip} {PORT} {{\nlb_algo rr\nlb_kind DR\nprotocol UDP\n{servers}}}\n"
        )
    };
    let v4 = [1, 2].map(|number| server(&server_address(number).to_string()));
    let v6 = [1, 2].map(|number| server(&server_address_v6(number)));
    vrrp_instance("MASTER") + &service(&VIP.to_string(), v4) + &service(VIP_V6, v6)
}

#[test]
fn datagrams_in_fragments_reach_one_server_whole() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("fr", 2, &[]).unwrap();
    // The director answers for the IPv6 VIP, which is in no instance, as a router would.
    let lines = |address: &str| format!("address add {address} dev {INTERFACE} nodad");
    let director = [lines("2001:db8:80::1/64"), lines(&format!("{VIP_V6}/64"))];
    cluster.host.netns.ip(&director.join("\n")).unwrap();
    let client = &cluster.client.netns;
    client.ip(&lines("2001:db8:80::2/64")).unwrap();
    let vips: [SocketAddr; 2] = [
        (VIP, PORT).into(),
        (VIP_V6.parse::<std::net::Ipv6Addr>().unwrap(), PORT).into(),
    ];
    let mut answering = Vec::new();
    for (number, server) in (1..).zip(&cluster.servers) {
        let own = lines(&format!("{}/64", server_address_v6(number)));
        let vip = format!("address add {VIP_V6}/128 dev lo nodad");
        server.host.netns.ip(&format!("{own}\n{vip}")).unwrap();
        for vip in vips {
            let name = &server.host.name;
            answering.push(UdpServer::start(name, &server.host.netns, vip).unwrap());
        }
    }
    cluster.director.configure(&datagrams()).unwrap();
    cluster.director.start_whole().unwrap();

    let mut before = 0;
    for vip in vips {
        let mut servers = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let flow = UdpClient::open(client, vip).unwrap();
            let server = flow.ask("small").unwrap();
            for octets in [1500, 4000, 20_000, 60_000] {
                assert_eq!(flow.ask(&"x".repeat(octets)).unwrap(), server, "{octets}");
            }
            servers.insert(server);
            let large = UdpClient::open(client, vip).unwrap();
            servers.insert(large.ask(&"y".repeat(9000)).unwrap());
        }
        assert_eq!(servers.len(), 2, "{vip}: {servers:?}");
        let followed = cluster.director.packets("tx_fragment").unwrap();
        // Of 60,000 octets alone there are 40 later fragments.
        assert!(followed >= before + 4 * 60, "{vip}: {followed}");
        before = followed;
    }
    assert_eq!(cluster.director.packets("fragment").unwrap(), 0);
}

/// What a client sends.
const OCTETS: usize = 32 << 20;

/// A TCP server on the VIP that counts what each of so many clients sends, and answers with the sum.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn count(netns: &Netns, clients: usize) -> JoinHandle<()> {
    let address = SocketAddr::from((VIP, PORT));
    let listener = netns.run(|| TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..clients {
            let (mut stream, _) = listener.accept().unwrap();
            let mut sum = 0_usize;
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    length => sum += length,
                }
            }
            write!(stream, "{sum}").unwrap();
        }
    })
}

/// Sends so many octets to the VIP; how many came.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn send(netns: &Netns, octets: usize) -> String {
    let address = SocketAddr::from((VIP, PORT));
    let mut stream = netns.run(|| TcpStream::connect(address)).unwrap().unwrap();
    let limit = Some(std::time::Duration::from_mins(1));
    stream.set_read_timeout(limit).unwrap();
    stream.set_write_timeout(limit).unwrap();
    stream.write_all(&vec![7; octets]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn tcp(servers: &str) -> String {
    format!("virtual_server {VIP} {PORT} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{servers}}}\n")
}

fn server(address: &str) -> String {
    format!("real_server {address} {PORT} {{\nweight 1\n}}\n")
}

/// A page holds no such frame: the driver hands it over in several buffers.
#[test]
fn jumbo_frames_go_through_native_xdp() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ju", 1, &["--xdp-mode", "native"]).unwrap();
    let switch = cluster.lan.switch();
    for host in [&cluster.client, &cluster.host, &cluster.servers[0].host] {
        let jumbo = |device: &str| format!("link set dev {device} mtu 9000");
        host.netns.ip(&jumbo(INTERFACE)).unwrap();
        switch.ip(&jumbo(&host.name)).unwrap();
    }
    let file = vrrp_instance("MASTER") + &tcp(&server(&server_address(1).to_string()));
    cluster.director.configure(&file).unwrap();
    cluster.director.start_whole().unwrap();
    let xdp = link::show(&cluster.host.netns, INTERFACE).unwrap().xdp;
    assert_eq!(xdp.unwrap().name(), "native");

    let server = count(&cluster.servers[0].host.netns, 1);
    assert_eq!(send(&cluster.client.netns, OCTETS), OCTETS.to_string());
    server.join().unwrap();
    let packets = cluster.director.packets("tx_connection").unwrap();
    // In frames of 1,500 octets there would be 23,000.
    assert!(packets < 12_000, "{packets} packets");
}

/// By which the server behind the second interface answers.
const INTERFACE_OF_ANSWERS: &str = "eth1";

/// A second switch, the director on it by `eth1`, and a real server that answers by the first one; all
/// of its interfaces have four queues.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn second_network(cluster: &Cluster) -> (Lan, Netns, [Pass; 2]) {
    let prefix = unique_prefix("mqo");
    let other = Lan::create(&prefix).unwrap();
    let host = &cluster.host.netns;
    let far = Netns::create(&format!("{prefix}far")).unwrap();
    for (name, netns, interface) in [("director", host, "eth1"), ("far", &far, INTERFACE)] {
        let lines = format!(
            "link add name {name} numtxqueues 4 numrxqueues 4 type veth \
             peer name {interface} numtxqueues 4 numrxqueues 4 netns {}\n\
             link set dev {name} master br0 up",
            netns.name()
        );
        other.switch().ip(&lines).unwrap();
        netns.ip(&format!("link set dev {interface} up")).unwrap();
        link::finish_frames_when_sending(netns, interface).unwrap();
    }
    let passes = ["director", "far"]
        .map(|port| Pass::attach(&rig().unwrap(), other.switch(), port).unwrap());
    host.ip("address add 10.81.0.1/24 dev eth1").unwrap();
    // It answers clients by the first switch, without the director.
    let near_end = ("client2", INTERFACE_OF_ANSWERS);
    let answers = cluster.lan.switch();
    link::add_bridged_veth((answers, "br0", near_end.0), (&far, near_end.1)).unwrap();
    link::finish_frames_when_sending(&far, near_end.1).unwrap();
    let lines = [
        format!("address add 10.81.0.101/24 dev {INTERFACE}"),
        format!("address add 10.80.0.150/24 dev {INTERFACE_OF_ANSWERS}"),
        "link set dev lo up".to_owned(),
        format!("address add {VIP}/32 dev lo"),
    ];
    far.ip(&lines.join("\n")).unwrap();
    let settings = [
        ("rp_filter", "0"),
        ("arp_ignore", "1"),
        ("arp_announce", "2"),
    ];
    let set = || {
        for (name, value) in settings {
            for device in ["all", INTERFACE, INTERFACE_OF_ANSWERS] {
                let file = format!("/proc/sys/net/ipv4/conf/{device}/{name}");
                std::fs::write(file, value).unwrap();
            }
        }
    };
    far.run(set).unwrap();
    (other, far, passes)
}

/// The director has a second interface, with four queues, that leads to one of the servers.
#[test]
fn several_interfaces_and_several_queues_forward_to_each_other() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("mq", 1, &["--xdp-mode", "native"]).unwrap();
    let (_other, far, _passes) = second_network(&cluster);
    let host = &cluster.host.netns;

    let servers = server(&server_address(1).to_string()) + &server("10.81.0.101");
    let both = format!("xdp_lb {{\ninterface {INTERFACE} eth1\n}}\n");
    let file = both + &vrrp_instance("MASTER") + &tcp(&servers);
    cluster.director.configure(&file).unwrap();
    cluster.director.start_whole().unwrap();
    for interface in [INTERFACE, "eth1"] {
        let xdp = link::show(host, interface).unwrap().xdp;
        assert_eq!(xdp.unwrap().name(), "native", "{interface}");
    }

    let near = count(&cluster.servers[0].host.netns, 8);
    let distant = count(&far, 8);
    for _ in 0..16 {
        let octets = OCTETS / 64;
        assert_eq!(send(&cluster.client.netns, octets), octets.to_string());
    }
    near.join().unwrap();
    distant.join().unwrap();
    let packets = |reason| cluster.director.packets(reason).unwrap();
    assert_eq!(packets("tx_scheduled"), 8);
    assert_eq!(packets("redirect_scheduled"), 8);
    assert!(packets("redirect_connection") > 8);
    assert_eq!(packets("redirect_failed"), 0);
}
