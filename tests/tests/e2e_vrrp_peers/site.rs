//! Hosts on a switch with a director of either kind on each.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use xdp_lb_tests::adverts::{Advert, Adverts};
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::peer::{Peer, Program};
use xdp_lb_tests::{director, needs, wait};

/// The virtual address.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 200);

/// What a change of masters may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// The address of a director, counted from 0.
pub(crate) fn address(director: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 82, 0, u8::try_from(director).unwrap() + 1)
}

/// What a director is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    XdpLb,
    Keepalived,
}

/// Directors that do not run yet. The parts go in the order in which they stand here.
pub(crate) struct Site {
    pub(crate) adverts: Adverts,
    pub(crate) peers: Vec<Peer>,
    files: Vec<PathBuf>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) client: Host,
    pub(crate) lan: Lan,
    pub(crate) folder: TempDir,
}

impl Site {
    /// `None` where the suite cannot run.
    pub(crate) fn create(tag: &str, kinds: &[Kind]) -> Option<Self> {
        if !needs::root().unwrap() {
            return None;
        }
        let prefix = unique_prefix(tag);
        let folder = tempfile::tempdir().unwrap();
        let lan = Lan::create(&prefix).unwrap();
        let client = lan.add_host("client", ["10.82.0.100/24"]).unwrap();
        let mut site = Self {
            adverts: Adverts::tap(lan.switch()).unwrap(),
            peers: Vec::new(),
            files: Vec::new(),
            hosts: Vec::new(),
            client,
            lan,
            folder,
        };
        for (number, kind) in kinds.iter().enumerate() {
            let own = format!("{}/24", address(number));
            let host = site.lan.add_host(&format!("dir{number}"), [&*own]);
            site.hosts.push(host.unwrap());
            let file = site.folder.path().join(format!("director{number}.conf"));
            let program = match kind {
                Kind::XdpLb => Program::XdpLb(director::program().unwrap()),
                Kind::Keepalived => Program::Keepalived,
            };
            let instance = format!("{prefix}d{number}");
            let peer = Peer::new(program, &instance, &file, site.folder.path());
            site.peers.push(peer);
            site.files.push(file);
        }
        Some(site)
    }

    pub(crate) fn configure(&self, director: usize, text: &str) {
        fs::write(&self.files[director], text).unwrap();
    }

    pub(crate) fn start(&mut self, director: usize) {
        self.peers[director]
            .start(&self.hosts[director].netns)
            .unwrap();
    }

    pub(crate) fn start_with(&mut self, director: usize, text: &str) {
        self.configure(director, text);
        self.start(director);
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(&mut self, director: usize) {
        self.peers[director].terminate().unwrap();
        self.peers[director].wait().unwrap();
    }

    pub(crate) fn has(&self, director: usize, vip: Ipv4Addr) -> bool {
        let vip = format!("{vip}/24");
        self.hosts[director].has_address(&vip).unwrap()
    }

    /// Waits until one director alone has a VIP, and has said so for a while, alone.
    pub(crate) fn is_master(&self, director: usize, vip: Ipv4Addr) {
        let all = 0..self.hosts.len();
        let what = format!("dir{director} alone has {vip}");
        let begun = Instant::now();
        let alone = || {
            let owners: Vec<_> = all.clone().filter(|n| self.has(*n, vip)).collect();
            Ok((owners == [director]).then_some(()))
        };
        let waited = wait::until(&what, LIMIT, alone);
        waited.map_err(|late| late.context(self.logs())).unwrap();
        let calm = Duration::from_secs(2);
        let waited = self.adverts.wait_only(address(director), calm, LIMIT);
        waited.map_err(|late| late.context(self.logs())).unwrap();
        assert!(alone().unwrap().is_some(), "{what}: not for long");
        assert!(!self.heard(address(director), begun).is_empty());
    }

    /// Adverts of a director since an instant, but those that give up.
    pub(crate) fn heard(&self, source: Ipv4Addr, since: Instant) -> Vec<Advert> {
        let mut heard = self.adverts.since(since);
        heard.retain(|advert| advert.source == source && advert.priority > 0);
        heard
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        let each = self.peers.iter().zip(&self.hosts);
        let each = each.map(|(peer, host)| {
            let kind = peer.program.name();
            format!("{} ({kind}):\n{}", host.name, peer.log_tail(60))
        });
        each.collect::<Vec<_>>().join("\n")
    }
}

/// A `vrrp_instance` with one VIP.
pub(crate) fn instance(name: &str, vrid: u8, priority: u8, vip: Ipv4Addr, lines: &str) -> String {
    format!(
        "vrrp_instance {name} {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id {vrid}
            priority {priority}
            virtual_ipaddress {{
                {vip}/24
            }}
            {lines}
        }}\n"
    )
}
