//! Virtual services beyond one address and port, as clients and operators see them: firewall marks by
//! real rules of iptables and nftables, groups of addresses, and any port.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use xdp_lb_tests::cluster::{Cluster, VIP, server_address};
use xdp_lb_tests::director::List;
use xdp_lb_tests::lan::{Host, INTERFACE};
use xdp_lb_tests::traffic::{Call, EchoServer};
use xdp_lb_tests::{needs, wait};

/// Bound of what should take seconds at most.
const SOON: Duration = Duration::from_secs(30);

/// More VIPs, behind the first.
const OTHERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 80, 0, 201), Ipv4Addr::new(10, 80, 0, 202)];

/// A cluster whose servers have all VIPs and listen on more ports, and a second client.
struct Site {
    cluster: Cluster,
    other_client: Host,
    _echoes: Vec<EchoServer>,
}

impl Site {
    fn create(tag: &str, ports: &[u16]) -> Result<Self> {
        let cluster = Cluster::create(tag, 2, &[])?;
        let other_client = cluster.lan.add_host("client2", ["10.80.0.11/24"])?;
        let mut echoes = Vec::new();
        for server in &cluster.servers {
            let netns = &server.host.netns;
            for vip in OTHERS {
                netns.ip(&format!("addr add {vip}/32 dev lo"))?;
            }
            for port in ports {
                let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port));
                echoes.push(EchoServer::start(&server.host.name, netns, any)?);
            }
        }
        Ok(Self {
            cluster,
            other_client,
            _echoes: echoes,
        })
    }

    /// Runs a command where the director is.
    fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        self.cluster.host.netns.output(&mut command)
    }

    /// Who answers the first client.
    fn call(&self, vip: Ipv4Addr, port: u16) -> Result<String> {
        let to = SocketAddr::from((vip, port));
        Ok(Call::open(&self.cluster.client.netns, to)?.server)
    }

    /// Who answers the second.
    fn other_call(&self, vip: Ipv4Addr, port: u16) -> Result<String> {
        let to = SocketAddr::from((vip, port));
        Ok(Call::open(&self.other_client.netns, to)?.server)
    }

    fn listed(&self) -> Result<String> {
        self.cluster.director.ask(&["list"])
    }
}

/// An instance that owns all VIPs at once.
fn instance() -> String {
    let others = OTHERS.map(|vip| format!("{vip}/24")).join("\n");
    format!(
        "vrrp_instance VI_1 {{
            state MASTER
            interface {INTERFACE}
            virtual_router_id 51
            priority 255
            advert_int 1
            virtual_ipaddress {{
                {VIP}/24
                {others}
            }}
        }}\n"
    )
}

/// A virtual server of both real servers, whose port 80 is checked.
fn service(head: &str, lines: &str) -> String {
    let server = |number| {
        format!(
            "real_server {} {{
                TCP_CHECK {{
                    connect_port 80
                    connect_timeout 3
                    delay_loop 1
                    retry 1
                    delay_before_retry 1
                    warmup 0
                }}
            }}\n",
            server_address(number)
        )
    };
    let servers = [1, 2].map(server).concat();
    format!("virtual_server {head} {{\nlb_algo rr\nlb_kind DR\n{lines}\n{servers}}}\n")
}

fn other(server: &str) -> &'static str {
    if server == "rs1" { "rs2" } else { "rs1" }
}

fn conns(list: &List) -> Vec<u64> {
    list.real_servers().map(|server| server.conns).collect()
}

#[test]
fn http_and_https_by_one_mark_stick_together_and_rules_are_read_again_by_a_reload() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sm", &[443, 8080]).unwrap();
    let rule = |ports: &str| {
        format!(
            "iptables -t mangle -A PREROUTING -d {VIP} -p tcp -m multiport --dports {ports} \
             -j MARK --set-mark 1"
        )
    };
    let text = instance() + &service("fwmark 1", "persistence_timeout 300");
    site.cluster.director.configure(&text).unwrap();
    let file = site.cluster.director.file();
    let program = xdp_lb_tests::director::program().unwrap();
    let check = format!("{} check -f {}", program.display(), file.display());
    let refused = format!("{:#}", site.run(&check).unwrap_err());
    assert!(refused.contains("error[unknown-mark]"), "{refused}");
    let place = format!("{}:13:1", file.display());
    assert!(refused.contains(&place), "{refused}");

    site.run(&rule("80,443")).unwrap();
    site.run(&check).unwrap();
    site.cluster.director.start_whole().unwrap();
    let first = site.call(VIP, 80).unwrap();
    let others = site.other_call(VIP, 443).unwrap();
    assert_eq!(others, other(&first), "the two take turns");
    for port in [443, 80, 443] {
        assert_eq!(site.call(VIP, port).unwrap(), first);
        assert_eq!(site.other_call(VIP, port).unwrap(), others);
    }
    let listed = site.listed().unwrap();
    assert!(listed.contains("\nFWM  1 rr persistent 300\n"), "{listed}");
    assert!(listed.contains("  -> 10.80.0.101:0 "), "{listed}");
    assert_eq!(conns(&site.cluster.director.list().unwrap()), [4, 4]);

    // No rule marks it: it is the kernel's, which has nobody there.
    site.call(VIP, 8080).unwrap_err();
    site.run(&rule("8080")).unwrap();
    site.call(VIP, 8080).unwrap_err();
    let told = site.cluster.director.ask(&["reload"]).unwrap();
    assert!(
        told.contains("the mark 1 is that of tcp/10.80.0.200:80, "),
        "{told}"
    );
    assert_eq!(site.call(VIP, 8080).unwrap(), first, "and it sticks, too");

    // Without its rules the file cannot be used, and what runs goes on.
    site.run("iptables -t mangle -F PREROUTING").unwrap();
    let refused = format!("{:#}", site.cluster.director.ask(&["reload"]).unwrap_err());
    assert!(refused.contains("[unknown-mark]"), "{refused}");
    assert_eq!(site.call(VIP, 443).unwrap(), first);

    let number = if first == "rs1" { 1 } else { 2 };
    let server = server_address(number).to_string();
    let told = site
        .cluster
        .director
        .ask(&["drain", "fwmark:1", &server])
        .unwrap();
    assert!(told.contains(":0 of fwmark/1 is drained"), "{told}");
    let told = site
        .cluster
        .director
        .ask(&["undrain", "FWM  1", &server])
        .unwrap();
    assert!(told.contains("has the weight of the file"), "{told}");
}

#[test]
fn rules_of_nftables_are_read_and_those_that_cannot_be_kept_are_named() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sn", &[443]).unwrap();
    let other_vip = OTHERS[0];
    let rules = site.cluster.folder().join("rules.nft");
    let text = format!(
        "table inet lvs {{
            set shop {{
                type ipv4_addr
                elements = {{ {VIP}, {other_vip} }}
            }}
            chain marks {{
                type filter hook prerouting priority mangle
                ip daddr @shop tcp dport {{ 80, 443 }} counter meta mark set 7
                ip saddr 10.80.0.11 ip daddr {VIP} tcp dport 8080 meta mark set 7
            }}
        }}\n"
    );
    std::fs::write(&rules, text).unwrap();
    site.run(&format!("nft -f {}", rules.display())).unwrap();
    let text = instance() + &service("fwmark 7", "persistence_timeout 300");
    site.cluster.director.configure(&text).unwrap();
    site.cluster.director.start_whole().unwrap();
    let log = site.cluster.director.log();
    assert!(log.contains("it has 'ip saddr'"), "{log}");
    let first = site.call(VIP, 80).unwrap();
    // Another VIP, another port, one client.
    assert_eq!(site.call(other_vip, 443).unwrap(), first);
    assert_eq!(site.other_call(other_vip, 443).unwrap(), other(&first));
    let entrances = site.cluster.director.ask(&["list", "--json"]).unwrap();
    assert!(entrances.contains("tcp/10.80.0.201:443"), "{entrances}");
    assert!(!entrances.contains("8080"), "{entrances}");
}

#[test]
fn the_addresses_of_a_group_have_a_schedule_each_and_their_servers_together() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sg", &[443]).unwrap();
    let [second, third] = OTHERS;
    let group = format!("virtual_server_group web {{\n{VIP} 80\n{second}-202 443\n}}\n");
    let text = instance() + &group + &service("group web", "protocol TCP");
    site.cluster.director.configure(&text).unwrap();
    site.cluster.director.start_whole().unwrap();
    let order: Vec<_> = [VIP, VIP].map(|vip| site.call(vip, 80).unwrap()).into();
    assert_eq!(order[1], other(&order[0]));
    // Each begins its own round.
    for vip in [second, third] {
        assert_eq!(site.call(vip, 443).unwrap(), order[0]);
    }
    site.call(second, 80).unwrap_err();
    let listed = site.listed().unwrap();
    for line in [
        "TCP  10.80.0.200:80 rr",
        "TCP  10.80.0.201:443 rr",
        "TCP  10.80.0.202:443 rr",
    ] {
        assert!(listed.contains(&format!("{line}\n")), "{listed}");
    }
    assert!(listed.contains("  -> 10.80.0.101:443 "), "{listed}");

    // The one check of rs1 fails: it is out of all three.
    site.cluster.servers[0].echo.close_port().unwrap();
    let is_down = |list: &List| {
        let of_first = list.real_servers();
        let mut of_first = of_first.filter(|server| server.address == server_address(1));
        of_first.all(|server| server.state == "down")
    };
    site.cluster
        .director
        .wait_list("rs1 is down everywhere", is_down)
        .unwrap();
    for (vip, port) in [(VIP, 80), (second, 443), (third, 443)] {
        for _ in 0..2 {
            assert_eq!(site.call(vip, port).unwrap(), "rs2");
        }
    }
    // An address names the group.
    let told = site
        .cluster
        .director
        .ask(&["drain", "10.80.0.202:443", "10.80.0.102"])
        .unwrap();
    assert!(told.contains("of tcp/group:web is drained"), "{told}");
    site.call(VIP, 80).unwrap_err();
}

#[test]
fn a_service_on_any_port_takes_all_ports_of_a_client_to_one_server() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sp", &[21, 50_000]).unwrap();
    let text = instance() + &service(&format!("{VIP} 0"), "protocol TCP\npersistence_timeout 300");
    site.cluster.director.configure(&text).unwrap();
    site.cluster.director.start_whole().unwrap();
    let control = site.call(VIP, 21).unwrap();
    assert_eq!(site.call(VIP, 50_000).unwrap(), control);
    let others = site.other_call(VIP, 50_000).unwrap();
    assert_eq!(others, other(&control));
    assert_eq!(site.other_call(VIP, 21).unwrap(), others);
    let listed = site.listed().unwrap();
    assert!(
        listed.contains("\nTCP  10.80.0.200:0 rr persistent 300\n"),
        "{listed}"
    );
    // A client that is drained away from goes on: all its ports, as under IPVS.
    let number = if control == "rs1" { 1 } else { 2 };
    let server = server_address(number).to_string();
    let drain = ["drain", "10.80.0.200:0", &server];
    site.cluster.director.ask(&drain).unwrap();
    assert_eq!(site.call(VIP, 21).unwrap(), control);
    // One that fails loses them.
    let failed = &mut site.cluster.servers[usize::from(number) - 1].echo;
    failed.close_port().unwrap();
    wait::until("the client goes to the other", SOON, || {
        let server = site.call(VIP, 21).ok();
        Ok(server.filter(|server| *server != control))
    })
    .unwrap();
    assert_eq!(site.call(VIP, 50_000).unwrap(), others);
}
