//! A director to measure: the production program with production tables, driven without packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramFd, Xdp};
use xdp_lb::config::model::{Endpoint, Family, Persistence, Protocol, Scheduler, ServiceKey};
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::ebpf::{Ebpf, Options};
use xdp_lb::plan::desired::{Desired, Method, Port, Reach, Server, Service};
use xdp_lb::plan::diff::diff;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::generator::{By, Rig};

use super::frames;

/// The virtual IP, and its sister.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 200);
pub(crate) const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 200);

/// MAC of the interface that frames come in by.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Frames of a test run come in by the loopback interface.
const IFINDEX: u32 = 1;

/// The lease of the service; nobody writes heartbeats here after the start.
const LEASE: Duration = Duration::from_hours(24);

/// Real servers.
const SERVERS: u8 = 16;

/// What the service is like.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) family: Family,
    pub(crate) scheduler: Scheduler,
    pub(crate) sticky: bool,
    pub(crate) method: Method,
    /// Connections that the table is made for.
    pub(crate) connections: u32,
}

impl Kind {
    /// Direct routing of IPv4 by weighted round robin, as most clusters have it.
    pub(crate) const USUAL: Self = Self {
        family: Family::V4,
        scheduler: Scheduler::WeightedRoundRobin,
        sticky: false,
        method: Method::Direct,
        connections: 1 << 20,
    };
}

/// A program with tables.
pub(crate) struct Director {
    ebpf: Option<Ebpf>,
    name: String,
    kind: Kind,
}

impl Director {
    /// One service with sixteen real servers.
    pub(crate) fn open(kind: Kind) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{number}", std::process::id());
        let mut options = Options::new(&name, xdp_lb::sys::clock::kernel()?);
        options.connections = kind.connections;
        options.templates = kind.connections;
        let mut director = Self {
            ebpf: None,
            name,
            kind,
        };
        let ebpf = director.ebpf.insert(Ebpf::open(&options)?);
        for change in diff(&Desired::default(), &desired(kind)) {
            ebpf.apply(&change)?;
        }
        Ok(director)
    }

    fn close(&mut self) -> Result<()> {
        self.ebpf
            .take()
            .map_or(Ok(()), Ebpf::remove)
            .context("cannot remove the pins")
    }

    fn ebpf(&mut self) -> Result<&mut Ebpf> {
        self.ebpf.as_mut().context("closed")
    }

    /// The program.
    pub(crate) fn program(&mut self) -> Result<&ProgramFd> {
        let object = self.ebpf()?.object();
        let program = object
            .program("xdp_lb")
            .context("no program in the object")?;
        Ok(<&Xdp>::try_from(program)?.fd()?)
    }

    /// Opens connections and confirms them.
    pub(crate) fn establish(&mut self, rig: &mut Rig, flows: u32) -> Result<()> {
        rig.aim(self.program()?)?;
        let by = match self.kind.family {
            Family::V4 => By::Whole,
            Family::V6 => By::V6,
        };
        rig.run(frames::syn(by), flows, flows)?;
        rig.run(frames::ack(by), flows, flows)?;
        let known = self.left_by(Some(Reason::TxConnection))?;
        if known < u64::from(flows) {
            bail!("only {known} of {flows} connections were established");
        }
        Ok(())
    }

    /// Packets that left by a reason.
    pub(crate) fn left_by(&mut self, reason: Option<Reason>) -> Result<u64> {
        let Some(reason) = reason else { return Ok(0) };
        let counters = self.ebpf()?.counters()?;
        Ok(counters.packets.get(&reason).copied().unwrap_or(0))
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

fn desired(kind: Kind) -> Desired {
    let (vip, prefix_len) = match kind.family {
        Family::V4 => (VIP.into(), 32),
        Family::V6 => (VIP_V6.into(), 128),
    };
    let key = ServiceKey::Endpoint(Endpoint {
        vip,
        port: 80,
        protocol: Protocol::Tcp,
    });
    let persistence = kind.sticky.then_some(Persistence {
        timeout: Duration::from_hours(1),
        prefix_len,
    });
    let service = Service {
        active: true,
        lease: Some(LEASE),
        scheduler: kind.scheduler,
        persistence,
        one_packet: false,
        servers: (1..=SERVERS)
            .rev()
            .map(|number| server(kind, number))
            .collect(),
        peers: BTreeMap::new(),
        virtual_mac: None,
        entrances: BTreeSet::new(),
    };
    let mac = Mac::from_octets(MAC);
    Desired {
        ports: [(
            IFINDEX,
            Port {
                mac,
                mtu: 1500,
                vlan: None,
            },
        )]
        .into(),
        services: [(key, service)].into(),
        ..Desired::default()
    }
}

fn server(kind: Kind, number: u8) -> Server {
    let address: IpAddr = match kind.family {
        Family::V4 => Ipv4Addr::new(192, 168, 1, 100 + number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 1, number.into()).into(),
    };
    let reach = Reach::Direct {
        ifindex: IFINDEX,
        source_mac: Mac::from_octets(MAC),
        mac: Mac::from_octets([2, 0, 0, 0, 1, number]),
        on_link: true,
    };
    Server {
        address: SocketAddr::new(address, 80),
        // A server that overflows takes as many connections as it weighs.
        weight: match kind.scheduler {
            Scheduler::Overflow => 1 << 20,
            _ => 1,
        },
        limit: None,
        serving: true,
        releases_clients: false,
        method: kind.method,
        reach: Some(reach),
    }
}
