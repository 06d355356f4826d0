//! A director with 20,000 real servers, and what happens to them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use xdp_lb_tests::director::Director;
use xdp_lb_tests::metrics::Scrape;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::cpu_time;

use crate::farm::{Farm, Witness};

const SERVICES: u32 = 2_000;
const PER_SERVICE: u32 = 10;
/// All real servers.
pub(crate) const SERVERS: u32 = SERVICES * PER_SERVICE;
/// `delay_loop`.
pub(crate) const PERIOD: Duration = Duration::from_secs(6);
const PORT: u16 = 80;

pub(crate) struct Site {
    pub(crate) director: Director,
    servers: Netns,
    /// The networks whose servers do not serve, with the lengths of their prefixes.
    gone: Vec<(Ipv4Addr, u32)>,
    _farm: Farm,
    _inside: Netns,
    folder: TempDir,
}

/// What of the agent is counted by the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU time so far.
    pub(crate) cpu: Duration,
    /// Memory in its address space that is present, and the part of it that is no table or file.
    pub(crate) resident_mb: f64,
    pub(crate) anonymous_mb: f64,
}

impl Site {
    /// Starts it and waits until the agent serves.
    pub(crate) fn start() -> Result<Self> {
        let prefix = unique_prefix("control");
        let inside = Netns::create(&format!("{prefix}-lb"))?;
        let servers = Netns::create(&format!("{prefix}-rs"))?;
        inside.ip(&format!(
            "link set lo up\n\
             link add name eth0 type veth peer name eth0 netns {}\n\
             address add 10.40.0.1/24 dev eth0\n\
             link set eth0 up",
            servers.name()
        ))?;
        servers.ip("link set lo up\n\
             address add 10.40.0.2/24 dev eth0\n\
             link set eth0 up\n\
             route add local 10.50.0.0/16 dev lo")?;
        inside.ip("route add 10.50.0.0/16 via 10.40.0.2")?;
        // Dead servers are told of, however many there are, and the listener misses nobody.
        servers.run(|| {
            set("ipv4/icmp_ratelimit", "0")?;
            set("core/somaxconn", "65535")?;
            set("ipv4/tcp_max_syn_backlog", "65535")
        })??;
        let farm = Farm::start(&servers, PORT)?;
        let folder = tempfile::tempdir()?;
        let mut director = Director::new(&inside, &prefix, folder.path(), &[])?;
        director.configure(&configuration())?;
        director.set_as_unit();
        director.start()?;
        Ok(Self {
            director,
            servers,
            gone: Vec::new(),
            _farm: farm,
            _inside: inside,
            folder,
        })
    }

    /// The router in front of a server says that it is gone.
    pub(crate) fn kill(&mut self, number: u32) -> Result<()> {
        self.reject(server(number), 32)
    }

    /// The same of a network.
    pub(crate) fn reject(&mut self, network: Ipv4Addr, length: u32) -> Result<()> {
        self.lose("unreachable", network, length)
    }

    /// Whatever goes to a network is lost.
    pub(crate) fn silence(&mut self, network: Ipv4Addr, length: u32) -> Result<()> {
        self.lose("blackhole", network, length)
    }

    fn lose(&mut self, how: &str, network: Ipv4Addr, length: u32) -> Result<()> {
        let line = format!("route add {how} {network}/{length} table local");
        self.servers.ip(&line)?;
        self.gone.push((network, length));
        Ok(())
    }

    /// Begins to note who is asked.
    pub(crate) fn witness(&self) -> Result<Witness<'_>> {
        Witness::start(&self.servers, self.folder.path())
    }

    /// Whether a server serves, so that its checks follow each other in their period: one that is gone
    /// is asked again only when the check has timed out, whenever what says so is lost.
    pub(crate) fn serves(&self) -> impl Fn(Ipv4Addr) -> bool + use<> {
        let gone = self.gone.clone();
        move |server| {
            gone.iter().all(|&(network, length)| {
                let differs = u32::from(server) ^ u32::from(network);
                differs.leading_zeros() < length
            })
        }
    }

    pub(crate) fn usage(&mut self) -> Result<Usage> {
        usage(self.director.pid()?)
    }

    pub(crate) fn scrape(&self) -> Result<Scrape> {
        self.director.scrape()
    }
}

/// Sets what the kernel keeps for the network namespace of this thread.
fn set(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).context(path)
}

fn usage(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).context(path)
    };
    let status = read("status")?;
    let megabytes = |name: &str| -> Result<f64> {
        let line = status.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: f64 = value.with_context(|| format!("no {name}"))?.parse()?;
        Ok(kilobytes / 1024.0)
    };
    Ok(Usage {
        cpu: cpu_time(pid, None)?,
        resident_mb: megabytes("VmRSS:")?,
        anonymous_mb: megabytes("RssAnon:")?,
    })
}

fn server(number: u32) -> Ipv4Addr {
    let base = u32::from(Ipv4Addr::new(10, 50, 0, 1));
    Ipv4Addr::from(base + number)
}

fn configuration() -> String {
    let mut text = "global_defs {\n    router_id CONTROL\n}\n".to_owned();
    for service in 0..SERVICES {
        let vip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 60, 0, 1)) + service);
        let mut add = |line: &str| {
            let written = writeln!(text, "{line}");
            debug_assert!(written.is_ok(), "writing to a string");
        };
        add(&format!("virtual_server {vip} {PORT} {{"));
        add(&format!("    delay_loop {}", PERIOD.as_secs()));
        add("    lb_algo wrr\n    lb_kind DR\n    protocol TCP");
        for number in service * PER_SERVICE..(service + 1) * PER_SERVICE {
            add(&format!("    real_server {} {PORT} {{", server(number)));
            add("        TCP_CHECK {\n            connect_timeout 3\n            retry 1");
            add("            delay_before_retry 1\n        }\n    }");
        }
        add("}");
    }
    text
}
