//! Two directors on a switch with a few real servers, and somebody who hears their adverts.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use xdp_lb_tests::adverts::Adverts;
use xdp_lb_tests::director::Director;
use xdp_lb_tests::generator::PORT;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::process::{cpu_time, threads};

/// The virtual address of the service.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 200);

/// The cluster's secret.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The first director, which has the connections, and its peer.
pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

/// What the thread of state sync is called.
pub(crate) const SYNC: &str = "sync";

/// Between adverts.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// What an election may take, before the bench is given up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Real servers: hosts of their own, so that the MAC of a frame says where it goes.
const SERVERS: u8 = 4;

/// Everything. Its parts go in the order in which they stand here.
pub(crate) struct Site {
    pub(crate) directors: Vec<Director>,
    /// Who says to be master.
    pub(crate) adverts: Adverts,
    /// The directors' hosts.
    pub(crate) hosts: Vec<Host>,
    _servers: Vec<Host>,
    _lan: Lan,
    _folder: TempDir,
}

/// The address of a director.
pub(crate) fn address(director: usize) -> Ipv4Addr {
    let number = u8::try_from(director).unwrap_or(u8::MAX - 1);
    Ipv4Addr::new(10, 80, 0, number + 1)
}

fn server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, 0, 100 + number)
}

impl Site {
    /// Neither director runs yet.
    pub(crate) fn create(tag: &str, priorities: [u8; 2]) -> Result<Self> {
        let prefix = unique_prefix(tag);
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("sync.key");
        fs::write(&key, SECRET)?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        let lan = Lan::create(&prefix)?;
        let plug =
            |name: &str, address: Ipv4Addr| lan.add_host(name, [format!("{address}/24").as_str()]);
        let servers = (1..=SERVERS).map(|number| plug(&format!("rs{number}"), server(number)));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let listener = servers.first().context("no real server")?;
        let adverts = Adverts::start(&listener.netns, server(1))?;
        let (mut hosts, mut directors) = (Vec::new(), Vec::new());
        for (number, priority) in priorities.into_iter().enumerate() {
            let host = plug(&format!("lb{number}"), address(number))?;
            let instance = format!("{prefix}{number}");
            let mut director = Director::new(&host.netns, &instance, folder.path(), &[])?;
            director.set_as_unit();
            let lines = format!(
                "sync {{\npeer {}\nkey_file {}\n}}",
                address(1 - number),
                key.display()
            );
            director.configure(&configuration(number, priority, &lines))?;
            hosts.push(host);
            directors.push(director);
        }
        Ok(Self {
            directors,
            adverts,
            hosts,
            _servers: servers,
            _lan: lan,
            _folder: folder,
        })
    }

    /// Starts the first director alone, and waits until it is the master.
    pub(crate) fn start_first(&mut self) -> Result<()> {
        let start = Instant::now();
        let director = self.director(A)?;
        director.start_whole()?;
        let is_active =
            |list: &xdp_lb_tests::director::List| list.services.iter().all(|of| of.active);
        director.wait_list("it is the master", is_active)?;
        self.adverts.wait_master(address(A), start, PATIENCE)?;
        Ok(())
    }

    pub(crate) fn director(&mut self, number: usize) -> Result<&mut Director> {
        self.directors.get_mut(number).context("no such director")
    }

    pub(crate) fn instance(&self, number: usize) -> Result<String> {
        let director = self.directors.get(number).context("no such director")?;
        Ok(director.instance.clone())
    }

    pub(crate) fn host(&self, number: usize) -> Result<&Host> {
        self.hosts.get(number).context("no such director")
    }

    /// CPU time that the agent of a director has used, and its thread of state sync.
    pub(crate) fn usage(&mut self, number: usize) -> Result<[Duration; 2]> {
        let pid = self.director(number)?.pid()?;
        let thread = sync_thread(pid)?;
        Ok([cpu_time(pid, None)?, cpu_time(pid, Some(thread))?])
    }
}

/// The thread of state sync of an agent.
pub(crate) fn sync_thread(pid: u32) -> Result<u32> {
    let mut all = threads(pid)?.into_iter();
    let thread = all.find(|(_, name)| name == SYNC);
    Ok(thread.context("the agent has no thread of state sync")?.0)
}

/// The second director names the servers in another order: their indexes differ, their addresses do not.
fn configuration(director: usize, priority: u8, sync: &str) -> String {
    let mut numbers: Vec<u8> = (1..=SERVERS).collect();
    if director == B {
        numbers.reverse();
    }
    let mut servers = String::new();
    for number in numbers {
        let written = writeln!(servers, "real_server {} {PORT} {{\n}}", server(number));
        debug_assert!(written.is_ok(), "writing to a string");
    }
    let interval = INTERVAL.as_secs();
    format!(
        "vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            advert_int {interval}
            virtual_ipaddress {{
                {VIP}/24
            }}
        }}
        virtual_server {VIP} {PORT} {{
            lb_kind DR
            lb_algo wrr
            protocol TCP
            {servers}
        }}
        xdp_lb {{
            {sync}
        }}\n"
    )
}
