//! The directors' files: pure.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use xdp_lb_tests::lan::INTERFACE;

/// The VIP of all services.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 200);
/// The directors: the first is the better one.
pub(super) const DIRECTORS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 70, 0, 1), Ipv4Addr::new(10, 70, 0, 2)];
/// WebSockets, through nginx.
pub(super) const WEB: u16 = 80;
/// Connections to a few servers, with persistence.
pub(super) const FEW: u16 = 7001;
/// Connections to a hundred servers.
pub(super) const MANY: u16 = 7002;
/// Addresses that serve [`MANY`]; they lie on [`HOSTS`] hosts, so that a connection that another host
/// answers shows.
const HUNDRED: u8 = 100;
/// Hosts that serve from the begin; one more is added later. So many that each has five of the hundred
/// addresses: the tables hold eight addresses of one MAC in a service, and more leave it unserved.
pub(super) const HOSTS: u8 = 20;

/// keepalived's interval of adverts, s: a backup takes over from a dead master after 3.6 s.
pub(super) const SLOW: &str = "1";
/// The interval while a master is killed, s, so that the backup takes over after 0.72 s: a longer silence
/// would break connections whatever the backup knows of them.
pub(super) const FAST: &str = "0.2";

/// What changes in the files while connections stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Real servers of the services with few of them, by number from 1, and their weights.
    pub(super) few: Vec<(u8, u32)>,
    /// The one of the hundred that stands for the one of this number; it is the second on its host.
    pub(super) replaced: Option<u8>,
    /// Seconds from one advert of the master to the next.
    pub(super) adverts: &'static str,
    /// Entries that the connection table is made for.
    pub(super) entries: u32,
    /// Whether the directors tell each other of connections.
    pub(super) sync: bool,
}

impl Files {
    /// The files at the begin.
    pub(super) fn new(sync: bool) -> Self {
        Self {
            few: (1..=HOSTS).map(|number| (number, 1)).collect(),
            replaced: None,
            adverts: SLOW,
            entries: 65_536,
            sync,
        }
    }

    /// The file of a director.
    pub(super) fn text(&self, director: usize, key: &Path) -> String {
        let (priority, peer) = if director == 0 {
            (150, DIRECTORS[1])
        } else {
            (100, DIRECTORS[0])
        };
        let sync = if self.sync {
            format!(
                "    sync {{\n        peer {peer}\n        key_file {}\n    }}\n",
                key.display()
            )
        } else {
            String::new()
        };
        let few: Vec<_> = self
            .few
            .iter()
            .map(|(number, weight)| (host_address(*number), *weight))
            .collect();
        let many: Vec<_> = (1..=HUNDRED)
            .map(|number| (self.one_of_many(number), 1))
            .collect();
        [
            format!(
                "global_defs {{\n    vrrp_version 3\n}}\n\
                 xdp_lb {{\n    connections {}\n{sync}}}\n\
                 vrrp_instance VI_1 {{\n    state BACKUP\n    interface {INTERFACE}\n    \
                 virtual_router_id 51\n    priority {priority}\n    advert_int {}\n    \
                 virtual_ipaddress {{\n        {VIP}/16\n    }}\n}}\n",
                self.entries, self.adverts
            ),
            service(WEB, "persistence_timeout 600", &few),
            service(FEW, "persistence_timeout 600", &few),
            service(MANY, "", &many),
        ]
        .concat()
    }

    /// The address of one of the hundred.
    pub(super) fn one_of_many(&self, number: u8) -> Ipv4Addr {
        let third = if self.replaced == Some(number) { 3 } else { 2 };
        one_address(third, number)
    }
}

/// One of the hundred (2), or what replaces it (3).
pub(super) const fn one_address(third: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 70, third, number)
}

/// The address of a host with servers.
pub(super) const fn host_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 70, 1, number)
}

/// The addresses of the hundred that a host has, and those that may replace them.
pub(super) fn shares(host: u8) -> Vec<Ipv4Addr> {
    let its = (1..=HUNDRED).filter(|number| (number - 1) % HOSTS + 1 == host);
    its.flat_map(|number| [2, 3].map(|third| Ipv4Addr::new(10, 70, third, number)))
        .collect()
}

fn service(port: u16, line: &str, servers: &[(Ipv4Addr, u32)]) -> String {
    let mut text = format!(
        "virtual_server {VIP} {port} {{\n    delay_loop 1\n    lb_algo wrr\n    lb_kind DR\n    \
         protocol TCP\n    {line}\n"
    );
    for (address, weight) in servers {
        // Writing to a string does not fail. Slow to fail: this machine has other things to do.
        let _always = write!(
            text,
            "    real_server {address} {port} {{\n        weight {weight}\n        TCP_CHECK {{\n            \
             connect_timeout 3\n            retry 1\n            delay_before_retry 1\n        }}\n    }}\n"
        );
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_in_the_file_is_what_was_changed() {
        let key = Path::new("/key");
        let before = Files::new(true);
        let mut after = before.clone();
        after.replaced = Some(17);
        let lines = |files: &Files| -> Vec<String> {
            files.text(0, key).lines().map(str::to_owned).collect()
        };
        let (before, after) = (lines(&before), lines(&after));
        let changed: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
        assert_eq!(before.len(), after.len());
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert!(changed[0].1.contains("10.70.3.17"));
        assert!(!Files::new(false).text(1, key).contains("sync"));
    }

    #[test]
    fn every_one_of_the_hundred_lies_on_one_host() {
        let all: Vec<_> = (1..=HOSTS).flat_map(shares).collect();
        assert_eq!(all.len(), 200);
        assert!(all.contains(&Files::new(true).one_of_many(100)));
    }
}
