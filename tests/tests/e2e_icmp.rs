//! Path-MTU discovery: real servers behind the director hear of a narrow link on the way to a client.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use xdp_lb_tests::cluster::{Cluster, RealServer, VIP, server_address, vrrp_instance};
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{needs, wait};

const VIP_V6: &str = "2001:db8:80::200";
/// Where nginx listens; the echo servers of the cluster have port 80.
const PORT: u16 = 8080;
/// What the link to the client carries.
const NARROW: u16 = 1400;
const SIZE: u64 = 4 << 20;

/// Both families, two servers each.
fn configuration() -> String {
    let excluded = format!("}}\nvirtual_ipaddress_excluded {{\n{VIP_V6}/64\n}}\n}}\n");
    let instance = vrrp_instance("MASTER");
    let (addresses, _) = instance.rsplit_once('}').unwrap_or_default();
    let (addresses, _) = addresses.rsplit_once('}').unwrap_or_default();
    let server = |address: &str| format!("real_server {address} {PORT} {{\nweight 1\n}}\n");
    let service = |vip: &str, servers: [String; 2]| {
        let servers = servers.concat();
        format!(
            "virtual_server {vip} {PORT} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{servers}}}\n"
        )
    };
    let v4 = [1, 2].map(|number| server(&server_address(number).to_string()));
    let v6 = [1, 2].map(|number| server(&server_address_v6(number)));
    format!("{addresses}{excluded}") + &service(&VIP.to_string(), v4) + &service(VIP_V6, v6)
}

fn server_address_v6(number: u8) -> String {
    format!("2001:db8:80::10{number}")
}

/// A client behind a router whose link to it is narrow.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn far_client(cluster: &Cluster) -> (Lan, Host, Host) {
    let far = Lan::create(&unique_prefix("icf")).unwrap();
    let near = ["10.80.0.254/24", "2001:db8:80::254/64 nodad"];
    let router = cluster.lan.add_host("router", near).unwrap();
    let addresses = ["10.90.0.1/24", "2001:db8:90::1/64 nodad"];
    far.join(&router, "eth1", addresses).unwrap();
    router
        .netns
        .ip(&format!("link set dev eth1 mtu {NARROW}"))
        .unwrap();
    router
        .netns
        .run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        })
        .unwrap();
    let client = ["10.90.0.2/24", "2001:db8:90::2/64 nodad"];
    let client = far.add_host("far", client).unwrap();
    // The client thinks that it can be sent 1,500 octets.
    let routes = "route add default via 10.90.0.1\nroute add default via 2001:db8:90::1";
    client.netns.ip(routes).unwrap();
    (far, router, client)
}

/// nginx with a large file on a real server, which answers by the router.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn serve(number: u8, server: &RealServer, folder: &Path) -> Process {
    let netns = &server.host.netns;
    let lines = [
        format!(
            "address add {}/64 dev {INTERFACE} nodad",
            server_address_v6(number)
        ),
        format!("address add {VIP_V6}/128 dev lo nodad"),
        "route add 10.90.0.0/24 via 10.80.0.254".to_owned(),
        "route add 2001:db8:90::/64 via 2001:db8:80::254".to_owned(),
    ];
    netns.ip(&lines.join("\n")).unwrap();
    let home = folder.join(&server.host.name);
    std::fs::create_dir(&home).unwrap();
    let large = std::fs::File::create(home.join("large")).unwrap();
    large.set_len(SIZE).unwrap();
    let text = format!(
        "daemon off; master_process off; pid {home}/pid; error_log stderr;
         events {{}}
         http {{
             access_log off;
             client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
             uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
             server {{ listen {PORT}; listen [::]:{PORT}; root {home}; }}
         }}",
        home = home.display()
    );
    let file = home.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    Process::start("nginx", netns, command.arg("-c").arg(file), &home).unwrap()
}

/// The octets of the large file that come to the client.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn fetch(client: &Host, vip: IpAddr) -> String {
    let address = std::net::SocketAddr::new(vip, PORT);
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "-o", "/dev/null"]);
    command.args(["-w", "%{size_download}", &format!("http://{address}/large")]);
    client.netns.output(&mut command).unwrap()
}

#[test]
fn a_narrow_link_to_the_client_is_heard_of_by_the_real_server() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("ic", 2, &[]).unwrap();
    let lines = format!("address add 2001:db8:80::1/64 dev {INTERFACE} nodad");
    cluster.host.netns.ip(&lines).unwrap();
    let (_far, router, client) = far_client(&cluster);
    let numbered = (1..).zip(&cluster.servers);
    let _servers: Vec<_> = numbered
        .map(|(number, server)| serve(number, server, cluster.folder()))
        .collect();
    for server in &cluster.servers {
        let ready = || {
            let address = format!("http://{}:{PORT}/", server.address);
            let mut command = Command::new("curl");
            let answer = router.netns.output(command.args(["-sS", &address]));
            Ok(answer.is_ok().then_some(()))
        };
        wait::until("nginx to listen", Duration::from_secs(20), ready).unwrap();
    }
    cluster.director.configure(&configuration()).unwrap();
    cluster.director.start_whole().unwrap();

    let mut followed = 0;
    for vip in [VIP.into(), VIP_V6.parse().unwrap()] {
        let before = followed;
        // Once from each server: neither has heard of the narrow link yet.
        for _server in 0..2 {
            assert_eq!(fetch(&client, vip), SIZE.to_string());
            let now = cluster.director.packets("tx_icmp").unwrap();
            assert!(now > followed, "{vip}: no error came by the director");
            followed = now;
        }
        assert!(followed >= before + 2);
    }
    assert_eq!(cluster.director.packets("icmp_unknown").unwrap(), 0);
}
