//! All of it over IPv6: the clients, the virtual address, the directors' talk.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;

use nix::sys::signal::Signal;
use xdp_lb_tests::director::program;
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::needs;
use xdp_lb_tests::traffic::{Call, EchoServer, Heart, beat_on};
use xdp_lb_tests::wait;

use crate::site::{LIMIT, Site, sync};

/// Not that of the IPv4 servers, which listen on any address.
const PORT: u16 = 8080;
const VIP: Ipv6Addr = at(0x200);
const CLIENT: Ipv6Addr = at(0x10);

const fn at(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, host)
}

/// The address of a director, counted from 0.
fn director(number: u16) -> Ipv6Addr {
    at(number + 1)
}

/// The address of a real server, counted from 1.
fn server(number: u16) -> Ipv6Addr {
    at(0x100 + number)
}

/// Gives every host its addresses, and the servers the VIP and something that listens.
fn prepare(site: &Site) -> Vec<EchoServer> {
    let own = |address| format!("address add {address}/64 dev {INTERFACE} nodad");
    site.client.netns.ip(&own(CLIENT)).unwrap();
    for (number, host) in (0..).zip(&site.hosts) {
        host.netns.ip(&own(director(number))).unwrap();
    }
    let servers = (1..).zip(&site.servers);
    let servers = servers.map(|(number, of)| {
        let vip = format!("address add {VIP}/128 dev lo nodad");
        let lines = format!("{}\n{vip}", own(server(number)));
        of.host.netns.ip(&lines).unwrap();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
        EchoServer::start(&of.host.name, &of.host.netns, any).unwrap()
    });
    servers.collect()
}

/// `vips` are those of the instance, `global` the lines of `global_defs`.
fn configure(site: &Site, number: u16, (vips, global): (&str, &str)) {
    let servers = (1..=3).map(|server| {
        let address = self::server(server);
        format!("real_server {address} {PORT} {{\nTCP_CHECK {{\nwarmup 0\n}}\n}}\n")
    });
    // The group, where the file has one.
    let peer = if global.is_empty() {
        format!("peer [{}]", director(1 - number))
    } else {
        String::new()
    };
    let text = format!(
        "global_defs {{
            {global}
        }}
        vrrp_instance VI_6 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 56
            priority {}
            advert_int 0.5
            version 3
            virtual_ipaddress {{
                {vips}
            }}
        }}
        virtual_server {VIP} {PORT} {{
            lb_kind DR
            lb_algo rr
            protocol TCP
            persistence_timeout 600
            {}
        }}
        xdp_lb {{
            sync {{
                {peer}
                key_file {}
            }}
        }}\n",
        150 - number * 50,
        servers.collect::<String>(),
        site.key().display(),
    );
    let director = &site.directors[usize::from(number)];
    director.configure(&text).unwrap();
}

/// The real server that a director's tables have the client stick to.
fn sticks_to(site: &Site, number: usize) -> Option<String> {
    let (client, service) = (CLIENT.to_string(), SocketAddr::from((VIP, PORT)));
    let mut command = Command::new(program().unwrap());
    command.args(["trace", &client, &service.to_string(), "--json"]);
    command.args(["--instance", &site.directors[number].instance]);
    // It fails on a backup, which balances nothing, and shows what that knows all the same.
    let run = || command.output().unwrap();
    let text = site.hosts[number].netns.run(run).unwrap().stdout;
    let trace: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let server = trace["template"]["real_server"].as_str()?;
    Some(server.to_owned())
}

#[test]
fn connections_and_templates_of_ipv6_survive_a_failover() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("s6");
    let _servers = prepare(&site);
    let service = SocketAddr::from((VIP, PORT));
    for number in 0..2 {
        configure(&site, number, (&format!("{VIP}/64"), ""));
        site.start(number.into());
    }
    site.wait_master(0);
    site.wait_synced();
    let peers = sync(&site.directors[1])["peers"].clone();
    assert_eq!(peers[0]["address"], "[fd80::1]:8848", "{peers}");

    let client = site.client.netns.handle();
    let hearts = Heart::start_many(30, &client, service).unwrap();
    beat_on(&hearts, 3).unwrap();
    let chosen = hearts[0].server.clone();
    assert!(hearts.iter().all(|heart| heart.server == chosen));
    for number in 0..2 {
        site.wait_known(number, 30);
        wait::until("the template is known", LIMIT, || {
            Ok(sticks_to(&site, number).map(|_| ()))
        })
        .unwrap();
    }
    assert_eq!(sticks_to(&site, 0), sticks_to(&site, 1));

    // The master dies, and its host with it.
    site.directors[0].end_by(Signal::SIGKILL).unwrap();
    site.lan.set_cable(&site.hosts[0].name, false).unwrap();
    site.wait_master(1);
    beat_on(&hearts, 5).unwrap();
    // Round-robin would take turns.
    for _ in 0..4 {
        let call = Call::open(&client, service).unwrap();
        assert_eq!(call.server, chosen);
    }
}

/// Peers are known by where their datagrams come from, and with IPv6 the first VIP is one of the link.
#[test]
fn a_master_speaks_to_the_group_from_its_own_address() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sg");
    let _servers = prepare(&site);
    let virtual_one = "fe80::5:200";
    let vips = format!("{virtual_one}/64 preferred_lft forever\n{VIP}/64");
    let global = format!("lvs_sync_daemon {INTERFACE} VI_6 port 8850 group ff02::99");
    for number in 0..2 {
        configure(&site, number, (&vips, &global));
        site.start(number.into());
    }
    site.wait_master(0);
    let client = site.client.netns.handle();
    let service = SocketAddr::from((VIP, PORT));
    let hearts = Heart::start_many(10, &client, service).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(1, 10);
    let peers = sync(&site.directors[1])["peers"].clone();
    let peers = peers.as_array().unwrap();
    let is_virtual = |peer: &&serde_json::Value| {
        let address = peer["address"].as_str().unwrap();
        address.contains(virtual_one)
    };
    assert_eq!(peers.len(), 1, "{peers:?}");
    assert_eq!(peers.iter().find(is_virtual), None);
}
