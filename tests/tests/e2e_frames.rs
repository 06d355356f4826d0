//! Frames that are not what most are: fragments of large datagrams.

use std::net::SocketAddr;

use xdp_lb_tests::cluster::{Cluster, VIP, server_address, vrrp_instance};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::needs;
use xdp_lb_tests::traffic::{UdpClient, UdpServer};

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
