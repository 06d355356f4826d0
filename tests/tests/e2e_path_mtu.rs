//! Path-MTU discovery through address translation and through tunnels, with real routers that have a narrow link:
//! one on the way to the client, of which the real server must hear; one on the way to a real server, of which
//! the client must.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use xdp_lb_tests::cluster::{
    Cluster, PORT, VIP, real_server, server_address, virtual_server, vrrp_instance,
};
use xdp_lb_tests::lan::{Host, Lan};
use xdp_lb_tests::needs;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::tunnel::{FarEnd, Wrap};
use xdp_lb_tests::xdp::{Pass, rig};

/// Where nginx listens if ports are translated.
const INNER_PORT: u16 = 8080;
/// The director's address on the servers' side.
const GATEWAY: &str = "10.81.0.1";
/// What narrow links carry.
const NARROW: u16 = 1400;
/// Octets of what is sent.
const SIZE: usize = 2 << 20;

/// A host that forwards between two switches, the second of which it has a narrow link to.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn router(name: &str, (near, at): (&Lan, &str), (far, there): (&Lan, &str)) -> Host {
    let host = near.add_host(name, [at]).unwrap();
    far.join(&host, "eth1", [there]).unwrap();
    let narrow = format!("link set dev eth1 mtu {NARROW}");
    host.netns.ip(&narrow).unwrap();
    let forward = || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    };
    host.netns.run(forward).unwrap();
    host
}

/// nginx on a host, which has a large file and takes others.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn serve(host: &Host, port: u16, folder: &Path) -> Process {
    let home = folder.join(&host.name);
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("large"), vec![b'x'; SIZE]).unwrap();
    let text = format!(
        "daemon off; master_process off; user root; pid {home}/pid; error_log stderr;
         events {{}}
         http {{
             access_log off; client_max_body_size 100m;
             client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
             uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
             server {{ listen {port}; root {home}; dav_methods PUT; }}
         }}",
        home = home.display()
    );
    let file = home.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(file);
    Process::start("nginx", &host.netns, &mut command, &home).unwrap()
}

/// What curl says of a request for the VIP.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn curl(client: &Netns, arguments: &[&str], path: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--max-time", "20", "-o", "/dev/null"]);
    command.args(arguments);
    command.arg(format!("http://{VIP}:{PORT}/{path}"));
    client.output(&mut command).unwrap()
}

/// The path MTU that a host knows of.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn knows(host: &Netns, to: &str) -> String {
    host.output(Command::new("ip").args(["route", "get", to]))
        .unwrap()
}

/// One service, of one real server.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn start(cluster: &mut Cluster, server: Ipv4Addr) {
    let address = format!("{} {PORT}", server_address(1));
    let server = real_server(1, 1).replace(&address, &format!("{server} {INNER_PORT}"));
    let service = virtual_server(&format!("lb_algo rr\n{server}"));
    let service = service.replace("lb_kind DR", "lb_kind NAT");
    let text = vrrp_instance("MASTER") + &service;
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();
}

/// A cluster with a network behind the director.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn with_inside(tag: &str) -> (Cluster, Lan, Pass) {
    let cluster = Cluster::create(tag, 0, &[]).unwrap();
    let inside = Lan::create(&unique_prefix(&format!("{tag}i"))).unwrap();
    let gateway = format!("{GATEWAY}/24");
    inside.join(&cluster.host, "eth1", [&*gateway]).unwrap();
    let pass = Pass::attach(&rig().unwrap(), inside.switch(), &cluster.host.name).unwrap();
    (cluster, inside, pass)
}

#[test]
fn a_translated_server_hears_of_a_narrow_link_to_its_client() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, inside, _pass) = with_inside("tra");
    let server = inside.add_host("rs1", ["10.81.0.101/24"]).unwrap();
    let default = format!("route add default via {GATEWAY}");
    server.netns.ip(&default).unwrap();
    let _nginx = serve(&server, INNER_PORT, cluster.folder());
    let outside = Lan::create(&unique_prefix("trao")).unwrap();
    let near = (&cluster.lan, "10.80.0.254/24");
    let _router = router("router", near, (&outside, "10.90.0.1/24"));
    let client = outside.add_host("far", ["10.90.0.2/24"]).unwrap();
    client.netns.ip("route add default via 10.90.0.1").unwrap();
    start(&mut cluster, Ipv4Addr::new(10, 81, 0, 101));

    let size = curl(&client.netns, &["-w", "%{size_download}"], "large");
    assert_eq!(size, SIZE.to_string());
    let told = cluster.director.packets("redirect_icmp").unwrap();
    assert!(told > 0, "no error came by the director");
    let route = knows(&server.netns, "10.90.0.2");
    assert!(route.contains(&format!("mtu {NARROW}")), "{route}");
}

#[test]
fn a_client_hears_of_a_narrow_link_to_its_translated_server() {
    if !needs::root().unwrap() {
        return;
    }
    let (mut cluster, inside, _pass) = with_inside("trb");
    let deep = Lan::create(&unique_prefix("trbd")).unwrap();
    let near = (&inside, "10.81.0.254/24");
    let router = router("router", near, (&deep, "10.82.0.1/24"));
    let default = format!("route add default via {GATEWAY}");
    router.netns.ip(&default).unwrap();
    let way = "route add 10.82.0.0/24 via 10.81.0.254";
    cluster.host.netns.ip(way).unwrap();
    let server = deep.add_host("rs1", ["10.82.0.101/24"]).unwrap();
    server.netns.ip("route add default via 10.82.0.1").unwrap();
    let _nginx = serve(&server, INNER_PORT, cluster.folder());
    start(&mut cluster, Ipv4Addr::new(10, 82, 0, 101));

    let file = cluster.folder().join("up");
    std::fs::write(&file, vec![b'y'; SIZE]).unwrap();
    let client = &cluster.client.netns;
    curl(client, &["-T", &file.display().to_string()], "came");
    let came = std::fs::read(cluster.folder().join("rs1/came")).unwrap();
    assert!(came == vec![b'y'; SIZE], "{} octets came", came.len());
    let route = knows(client, &VIP.to_string());
    assert!(route.contains(&format!("mtu {NARROW}")), "{route}");
}

/// A client sends a large file to a real server in a tunnel, which is behind a router with a narrow link. The
/// director forwards nothing itself, so that its kernel knows no way back to the client.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn through_a_tunnel(tag: &str, (method, wrap): (&str, Wrap), address: &str, headers: u16) {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create(tag, 0, &[]).unwrap();
    let deep = Lan::create(&unique_prefix(&format!("{tag}d"))).unwrap();
    let near = (&cluster.lan, "10.80.0.254/24");
    let router = router("router", near, (&deep, "10.82.0.1/24"));
    let lines = [
        "address add 2001:db8:80::fe/64 dev eth0 nodad",
        "address add 2001:db8:82::1/64 dev eth1 nodad",
    ];
    router.netns.ip(&lines.join("\n")).unwrap();
    let lines = [
        "address add 2001:db8:80::1/64 dev eth0 nodad",
        "route add 10.82.0.0/24 via 10.80.0.254",
        "route add 2001:db8:82::/64 via 2001:db8:80::fe",
    ];
    cluster.host.netns.ip(&lines.join("\n")).unwrap();
    let addresses = ["10.82.0.101/24", "2001:db8:82::101/64 nodad"];
    let server = deep.add_host("rs1", addresses).unwrap();
    let lines = [
        &*format!("address add {VIP}/32 dev lo"),
        "route add default via 10.82.0.1",
        "route add default via 2001:db8:82::1",
    ];
    server.netns.ip(&lines.join("\n")).unwrap();
    let _nginx = serve(&server, PORT, cluster.folder());
    let end = FarEnd::open(&server.netns, wrap).unwrap();
    let service = format!(
        "virtual_server {VIP} {PORT} {{\nlb_algo rr\nlb_kind TUN\nprotocol TCP\n
         real_server {address} {PORT} {{\nweight 1\nlvs_method TUN {method}\n}}\n}}\n"
    );
    let text = vrrp_instance("MASTER") + &service;
    cluster.director.configure(&text).unwrap();
    cluster.director.start_whole().unwrap();

    let file = cluster.folder().join("up");
    std::fs::write(&file, vec![b'y'; SIZE]).unwrap();
    let client = &cluster.client.netns;
    curl(client, &["-T", &file.display().to_string()], "came");
    let came = std::fs::read(cluster.folder().join("rs1/came")).unwrap();
    assert!(came == vec![b'y'; SIZE], "{} octets came", came.len());
    assert!(end.packets() > 1000, "{} by the tunnel", end.packets());
    let route = knows(client, &VIP.to_string());
    let left = NARROW - headers;
    assert!(route.contains(&format!("mtu {left} ")), "{route}");
    let told = cluster.director.packets("tx_reply").unwrap();
    assert!(told > 0, "no error came by the director");
}

#[test]
fn a_client_hears_of_a_narrow_link_to_its_server_in_a_tunnel() {
    through_a_tunnel("trc", ("type ipip", Wrap::Ipip), "10.82.0.101", 20);
}

#[test]
fn a_client_hears_of_a_narrow_link_to_its_server_behind_gue() {
    let gue = ("type gue port 6080", Wrap::Gue(6080));
    through_a_tunnel("trd", gue, "10.82.0.101", 32);
}

#[test]
fn a_client_hears_of_a_narrow_link_to_its_server_in_a_tunnel_of_ipv6() {
    let ipip = ("type ipip", Wrap::IpipV6);
    through_a_tunnel("tre", ipip, "2001:db8:82::101", 40);
}
