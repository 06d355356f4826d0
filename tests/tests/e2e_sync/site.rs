//! Two directors on a switch with a client and real servers.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use xdp_lb_tests::cluster::{CLIENT, PORT, RealServer, VIP, real_server, server_address};
use xdp_lb_tests::director::Director;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::wait;
use xdp_lb_tests::xdp::{Pass, rig};

/// How long anything may take that takes milliseconds on a machine of its own.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);
pub(crate) const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP), PORT);

/// How the directors find each other.
#[derive(Clone, Copy)]
pub(crate) enum By {
    /// `peer`.
    Unicast,
    /// `lvs_sync_daemon`.
    Multicast,
}

/// Two directors on a switch with a client and real servers.
pub(crate) struct Site {
    pub(crate) directors: Vec<Director>,
    pub(crate) servers: Vec<RealServer>,
    _passes: Vec<Pass>,
    pub(crate) client: Host,
    pub(crate) hosts: Vec<Host>,
    pub(crate) lan: Lan,
    pub(crate) folder: TempDir,
}

/// The address of a director, counted from 0.
pub(crate) fn address(director: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, 0, u8::try_from(director + 1).unwrap())
}

impl Site {
    pub(crate) fn create(tag: &str) -> Self {
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
            servers: servers.collect(),
            _passes: passes,
            client,
            hosts,
            lan,
            folder,
        }
    }

    /// The file of a director: the first is the better one. The servers stand in another order in the
    /// second's, with another service before them: indexes differ, addresses do not.
    pub(crate) fn configure(&self, director: usize, by: By, lines: &str) {
        let text = self.file(director, by, lines);
        self.directors[director].configure(&text).unwrap();
    }

    /// The text of that file.
    pub(crate) fn file(&self, director: usize, by: By, lines: &str) -> String {
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
        format!(
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
            self.key().display(),
        )
    }

    /// The file with the secret.
    pub(crate) fn key(&self) -> PathBuf {
        let key = self.folder.path().join("sync.key");
        if !key.exists() {
            fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
            fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        }
        key
    }

    pub(crate) fn start(&mut self, director: usize) {
        self.directors[director].start_whole().unwrap();
    }

    pub(crate) fn is_master(&self, director: usize) -> bool {
        let list = self.directors[director].list().unwrap();
        list.services.iter().all(|service| service.active)
    }

    pub(crate) fn wait_master(&self, director: usize) {
        wait::until("it is master", LIMIT, || {
            Ok(self.is_master(director).then_some(()))
        })
        .unwrap();
    }

    /// Established connections and templates that a director knows.
    pub(crate) fn known(&self, director: usize) -> u64 {
        let list = self.directors[director].list().unwrap();
        list.real_servers().map(|server| server.active_conns).sum()
    }

    /// Waits until both directors have heard everything from each other.
    pub(crate) fn wait_synced(&self) {
        for director in &self.directors {
            wait::until("both are up to date", LIMIT, || {
                let is = sync(director)["up_to_date"] == true;
                Ok(is.then_some(()))
            })
            .unwrap();
        }
    }

    pub(crate) fn wait_known(&self, director: usize, connections: u64) {
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
                if let Ok(status) = director.status() {
                    let mut packets = status.packets;
                    packets.retain(|exit| exit.packets > 0);
                    eprintln!("its packets: {packets:?}");
                }
            }
        }
    }
}

/// The state of sync as `xdp-lb sync --json` shows it.
pub(crate) fn sync(director: &Director) -> serde_json::Value {
    let text = director.ask(&["sync", "--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    shown["sync"].clone()
}
