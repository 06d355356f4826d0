//! What the director answers itself, as the kernels of real clients take it: a refused connection, a hop on
//! the way, an MTU.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use xdp_lb_tests::cluster::{
    Cluster, SERVICE, VIP, real_server, server_address, virtual_server, vrrp_instance,
};
use xdp_lb_tests::director::{Director, List};
use xdp_lb_tests::needs;
use xdp_lb_tests::netns::Netns;
use xdp_lb_tests::tunnel::{FarEnd, Wrap};

/// Long enough for a busy machine, and far below the seconds after which a SYN is sent again and again.
const AT_ONCE: Duration = Duration::from_secs(15);
/// A service without a server.
const EMPTY: u16 = 81;

fn services() -> String {
    let none = |protocol: &str| {
        format!(
            "virtual_server {VIP} {EMPTY} {{\nlb_algo rr\nlb_kind DR\nprotocol {protocol}\nreal_server {} \
             {EMPTY} {{\nweight 0\n}}\n}}\n",
            server_address(1)
        )
    };
    let served = virtual_server(&format!("lb_algo rr\n{}", real_server(1, 1)));
    vrrp_instance("MASTER") + &served + &none("TCP") + &none("UDP")
}

/// Starts it, and waits until it balances what it can.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn begin(director: &mut Director) {
    director.start().unwrap();
    let is_ready = |list: &List| {
        let served = list
            .services
            .iter()
            .filter(|own| own.port == SERVICE.port());
        let mut servers = served.flat_map(|own| &own.real_servers);
        list.services.iter().all(|own| own.active) && servers.all(|server| server.state == "up")
    };
    director.wait_list("the servers are up", is_ready).unwrap();
}

fn empty() -> SocketAddr {
    SocketAddr::new(VIP.into(), EMPTY)
}

/// How TCP and UDP clients of the empty service end, and how long the first waited.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn refusals(client: &Netns) -> (ErrorKind, ErrorKind, Duration) {
    let asked = client.run(|| {
        let started = Instant::now();
        let tcp = TcpStream::connect_timeout(&empty(), Duration::from_secs(60)).unwrap_err();
        let waited = started.elapsed();
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        udp.connect(empty()).unwrap();
        udp.set_read_timeout(Some(AT_ONCE)).unwrap();
        udp.send(b"anybody?").unwrap();
        let udp = udp.recv(&mut [0; 9]).unwrap_err();
        (tcp.kind(), udp.kind(), waited)
    });
    asked.unwrap()
}

#[test]
fn clients_of_a_service_without_a_server_are_refused_at_once() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("aa", 1, &[]).unwrap();
    cluster.director.configure(&services()).unwrap();
    begin(&mut cluster.director);
    let client = cluster.client.netns.handle();
    let refused = ErrorKind::ConnectionRefused;
    let (tcp, udp, waited) = refusals(&client);
    assert_eq!((tcp, udp), (refused, refused));
    assert!(waited < AT_ONCE, "{waited:?}");
    // Each was told at once: nothing was sent again.
    assert_eq!(cluster.director.packets("tx_unreachable").unwrap(), 2);
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", &format!("http://{}/", empty())]);
    let said = client.output(&mut curl).unwrap_err();
    let said = format!("{said:#}");
    assert!(
        said.contains("Couldn't connect") || said.contains("refused"),
        "{said}"
    );
    assert_eq!(cluster.director.packets("tx_unreachable").unwrap(), 3);

    let text = services() + "xdp_lb {\nempty_pool reset\n}\n";
    cluster.director.configure(&text).unwrap();
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    begin(&mut cluster.director);
    let (tcp, udp, _) = refusals(&client);
    assert_eq!((tcp, udp), (refused, refused));
    assert_eq!(cluster.director.packets("tx_reset").unwrap(), 1);
}

/// As traceroute does it.
#[test]
fn a_probe_without_a_hop_left_is_answered_by_the_vip() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ab", 1, &[]).unwrap();
    cluster.director.configure(&services()).unwrap();
    begin(&mut cluster.director);
    let heard = cluster.client.netns.run(|| {
        let mut errors = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        errors.set_read_timeout(Some(AT_ONCE)).unwrap();
        let probe = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        probe.set_ttl_v4(1).unwrap();
        probe.set_nonblocking(true).unwrap();
        // It goes on in the background.
        probe.connect(&SERVICE.into()).unwrap_err();
        let mut packet = [0; 1500];
        let length = errors.read(&mut packet).unwrap();
        packet[..length].to_vec()
    });
    let heard = heard.unwrap();
    let sliced = etherparse::SlicedPacket::from_ip(&heard).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("{heard:?}");
    };
    assert_eq!(ip.header().source_addr(), VIP);
    let Some(etherparse::TransportSlice::Icmpv4(icmp)) = &sliced.transport else {
        panic!("{heard:?}");
    };
    assert_eq!((icmp.type_u8(), icmp.code_u8()), (11, 0));
    assert!(cluster.director.packets("tx_time_exceeded").unwrap() >= 1);
}

/// The tunnel takes 20 octets: what is sent by the MTU of the client's own link does not fit.
#[test]
fn a_client_learns_the_mtu_of_a_tunnel() {
    const SIZE: usize = 300_000;
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ac", 1, &[]).unwrap();
    let tunnel = real_server(1, 1).replacen("weight", "lvs_method TUN\nweight", 1);
    let service = virtual_server(&format!("lb_algo rr\n{tunnel}"));
    let text = vrrp_instance("MASTER") + &service;
    let _end = FarEnd::open(&cluster.servers[0].host.netns, Wrap::Ipip).unwrap();
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();
    let client = cluster.client.netns.handle();
    let echoed = client.run(|| {
        let stream = TcpStream::connect_timeout(&SERVICE, AT_ONCE).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut talking = stream.try_clone().unwrap();
        let talker = std::thread::spawn(move || talking.write_all(&vec![b'x'; SIZE]));
        let mut heard = vec![0; "rs1\n".len() + SIZE];
        let read = { &stream }.read_exact(&mut heard);
        talker.join().unwrap().unwrap();
        read.map(|()| heard)
    });
    let echoed = echoed.unwrap().unwrap();
    assert!(echoed.ends_with(b"xxxx") && echoed.starts_with(b"rs1\n"));
    assert!(cluster.director.packets("tx_too_big").unwrap() >= 1);
    assert_eq!(cluster.director.packets("too_big").unwrap(), 0);
    let mut route = Command::new("ip");
    let route = client.output(route.args(["route", "get", &IpAddr::from(VIP).to_string()]));
    let route = route.unwrap();
    assert!(route.contains("mtu 1480"), "{route}");
}
