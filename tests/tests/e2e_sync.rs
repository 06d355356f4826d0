//! Two directors of a cluster that tell each other of their connections: what one balances the other
//! knows, a director that dies takes no connection along, and one that returns does not take over
//! before it has what its peer has.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use xdp_lb_tests::cluster::{CLIENT, PORT, RealServer, VIP, real_server, server_address};
use xdp_lb_tests::director::{Director, traces};
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::needs;
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::traffic::{Heart, beat_on};
use xdp_lb_tests::wait;
use xdp_lb_tests::xdp::{Pass, rig};

/// How long anything may take that takes milliseconds on a machine of its own.
const LIMIT: Duration = Duration::from_mins(1);
const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP), PORT);

/// How the directors find each other.
#[derive(Clone, Copy)]
enum By {
    /// `peer`.
    Unicast,
    /// `lvs_sync_daemon`.
    Multicast,
}

/// Two directors on a switch with a client and real servers.
struct Site {
    directors: Vec<Director>,
    _servers: Vec<RealServer>,
    _passes: Vec<Pass>,
    client: Host,
    hosts: Vec<Host>,
    lan: Lan,
    folder: TempDir,
}

fn address(director: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, 0, u8::try_from(director + 1).unwrap())
}

impl Site {
    fn create(tag: &str) -> Self {
        let prefix = unique_prefix(tag);
        let folder = tempfile::tempdir().unwrap();
        let lan = Lan::create(&prefix).unwrap();
        let client = lan.add_host("client", [&*format!("{CLIENT}/24")]).unwrap();
        let (mut hosts, mut passes, mut directors) = (vec![], vec![], vec![]);
        for number in 0..2 {
            let name = format!("lb{}", number + 1);
            let own = format!("{}/24", address(number));
            let host = lan.add_host(&name, [&*own]).unwrap();
            passes.push(Pass::attach(&rig().unwrap(), lan.switch(), &host.name).unwrap());
            let instance = format!("{prefix}{number}");
            directors.push(Director::new(&host.netns, &instance, folder.path(), &[]).unwrap());
            hosts.push(host);
        }
        let servers = (1..=3).map(|number| RealServer::start(number, &lan).unwrap());
        Self {
            directors,
            _servers: servers.collect(),
            _passes: passes,
            client,
            hosts,
            lan,
            folder,
        }
    }

    /// The file of a director: the first is the better one. The servers stand in another order in the
    /// second's, with another service before them: indexes differ, addresses do not.
    fn configure(&self, director: usize, by: By, lines: &str) {
        let key = self.folder.path().join("sync.key");
        if !key.exists() {
            fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
            fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        }
        let mut numbers = [1, 2, 3];
        let mut other = String::new();
        if director == 1 {
            numbers.reverse();
            other = format!(
                "virtual_server {VIP} 8080 {{\nlb_kind DR\nlb_algo rr\nprotocol TCP\nreal_server {} 8080 {{\n}}\n}}\n",
                server_address(2)
            );
        }
        let servers: String = numbers
            .iter()
            .map(|number| real_server(*number, 1))
            .collect();
        let priority = if director == 0 { 150 } else { 100 };
        let (daemon, peer) = match by {
            By::Unicast => (String::new(), format!("peer {}", address(1 - director))),
            By::Multicast => (
                format!("lvs_sync_daemon {INTERFACE} VI_1 port 8850 group 224.0.0.99"),
                String::new(),
            ),
        };
        let text = format!(
            "global_defs {{
                vrrp_garp_master_refresh 1
                {daemon}
            }}
            vrrp_instance VI_1 {{
                state BACKUP
                interface {INTERFACE}
                virtual_router_id 51
                priority {priority}
                advert_int 0.5
                version 3
                virtual_ipaddress {{
                    {VIP}/24
                }}
            }}
            {other}
            virtual_server {VIP} {PORT} {{
                lb_kind DR
                lb_algo rr
                protocol TCP
                {lines}
                {servers}
            }}
            xdp_lb {{
                sync {{
                    {peer}
                    key_file {}
                }}
            }}\n",
            key.display(),
        );
        self.directors[director].configure(&text).unwrap();
    }

    fn start(&mut self, director: usize) {
        self.directors[director].start_whole().unwrap();
    }

    fn is_master(&self, director: usize) -> bool {
        let list = self.directors[director].list().unwrap();
        list.services.iter().all(|service| service.active)
    }

    fn wait_master(&self, director: usize) {
        wait::until("it is master", LIMIT, || {
            Ok(self.is_master(director).then_some(()))
        })
        .unwrap();
    }

    /// Established connections and templates that a director knows.
    fn known(&self, director: usize) -> u64 {
        let list = self.directors[director].list().unwrap();
        list.real_servers().map(|server| server.active_conns).sum()
    }

    fn wait_known(&self, director: usize, connections: u64) {
        wait::until("it knows the connections", LIMIT, || {
            let known = self.known(director);
            Ok((known == connections).then_some(()))
        })
        .unwrap();
    }
}

impl Drop for Site {
    #[expect(
        clippy::print_stderr,
        reason = "the harness shows it of tests that fail"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for director in &self.directors {
                eprintln!("the log of {}:\n{}", director.instance, director.log());
            }
        }
    }
}

/// The whole story, in the order in which it happens to a cluster.
#[test]
fn connections_survive_the_death_of_a_director_and_its_return() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sy");
    site.configure(0, By::Unicast, "persistence_timeout 50");
    site.configure(1, By::Unicast, "persistence_timeout 50");
    site.start(0);
    site.wait_master(0);
    site.start(1);
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(60, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(0, 60);
    site.wait_known(1, 60);

    // The master dies, and its host with it: nothing of it answers any more.
    site.directors[0].end_by(Signal::SIGKILL).unwrap();
    site.lan.set_cable(&site.hosts[0].name, false).unwrap();
    site.wait_master(1);
    beat_on(&hearts, 5).unwrap();
    let more = Heart::start_many(40, &client, SERVICE).unwrap();
    beat_on(&more, 3).unwrap();
    site.wait_known(1, 100);

    // It returns, knowing nothing, and takes over once it knows everything.
    for trace in traces(&site.directors[0].instance) {
        fs::remove_dir_all(trace).unwrap();
    }
    site.lan.set_cable(&site.hosts[0].name, true).unwrap();
    site.start(0);
    site.wait_master(0);
    site.wait_known(0, 100);
    let log = site.directors[0].log();
    let synced = log.find("has come, ").expect("it says so");
    let master = log.find("→ MASTER").expect("it took over");
    assert!(synced < master, "{log}");
    beat_on(&hearts, 5).unwrap();
    beat_on(&more, 5).unwrap();
}

/// The state of sync as `xdp-lb sync --json` shows it.
fn sync(director: &Director) -> serde_json::Value {
    let text = director.ask(&["sync", "--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    shown["sync"].clone()
}

/// Sends the first director datagrams that look right and are not signed.
fn forge(from: &Host, count: usize) {
    let send = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..count {
            let mut datagram = vec![0; 200];
            datagram[..4].copy_from_slice(b"XLBS");
            datagram[4..6].copy_from_slice(&[xdp_lb::sync::wire::VERSION, 2]);
            datagram[8] = u8::try_from(number % 256).unwrap();
            socket.send_to(&datagram, (address(0), 8848)).unwrap();
        }
    };
    from.netns.run(send).unwrap();
}

/// What operators say on one director counts on both; who has no key is not heard; and both say what they
/// see.
#[test]
fn orders_travel_and_outsiders_are_not_heard() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sx");
    site.configure(0, By::Unicast, "");
    site.configure(1, By::Unicast, "");
    site.start(0);
    site.start(1);
    for number in 0..2 {
        wait::until("both are up to date", LIMIT, || {
            let is = sync(&site.directors[number])["up_to_date"] == true;
            Ok(is.then_some(()))
        })
        .unwrap();
    }
    let service = SERVICE.to_string();
    let server = format!("{}:{PORT}", server_address(3));
    site.directors[1]
        .ask(&["drain", &service, &server])
        .unwrap();
    for director in &site.directors {
        let is_drained = |list: &xdp_lb_tests::director::List| {
            let servers = list.real_servers();
            let mut drained =
                servers.filter(|of| of.address == server_address(3) && of.weight == 0);
            drained.next().is_some()
        };
        director
            .wait_list("the server is drained", is_drained)
            .unwrap();
    }
    // An outsider that is no peer, and one that uses a peer's address and has no key.
    let before = site.known(0);
    forge(&site.client, 500);
    forge(&site.hosts[1], 500);
    wait::until("they are counted", LIMIT, || {
        let refused = sync(&site.directors[0])["refused"].clone();
        let are = refused["stranger"] == 500 && refused["digest"] == 500;
        Ok(are.then_some(()))
    })
    .unwrap();
    assert_eq!(site.known(0), before);
    let log = site.directors[0].log();
    assert_eq!(log.matches("is refused").count(), 2, "{log}");
    // The second director has a service that the first does not have.
    let shown = site.directors[1].ask(&["sync"]).unwrap();
    assert!(shown.contains("not in the peer's file"), "{shown}");
    let status = site.directors[1].ask(&["status"]).unwrap();
    assert!(
        status.contains("stands differently in the file of 10.80.0.1"),
        "{status}"
    );
}

/// As a keepalived.conf has it: an interface and a group, and nobody by name.
#[test]
fn directors_find_each_other_on_the_group_of_lvs_sync_daemon() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sm");
    for number in 0..2 {
        site.configure(number, By::Multicast, "");
        site.start(number);
    }
    site.wait_master(0);
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(30, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(1, 30);
    let peers = sync(&site.directors[1])["peers"].clone();
    assert_eq!(peers[0]["address"], "10.80.0.1:8850", "{peers}");
    site.directors[0].end_by(Signal::SIGTERM).unwrap();
    site.wait_master(1);
    beat_on(&hearts, 3).unwrap();
}
