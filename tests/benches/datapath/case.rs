//! A director to measure: the production program with production tables, driven without packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramFd, Xdp};
use xdp_lb::config::model::{Endpoint, Persistence, Protocol, Scheduler, ServiceKey};
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::ebpf::{Ebpf, Options};
use xdp_lb::plan::desired::{Desired, Method, Port, Reach, Server, Service};
use xdp_lb::plan::diff::diff;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;

use super::rig::{Frame, Rig};

/// The virtual IP.
pub(crate) const VIP: [u8; 4] = [192, 168, 1, 200];

/// MAC of the interface that frames come in by.
pub(crate) const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Frames of a test run come in by the loopback interface.
const IFINDEX: u32 = 1;

/// The lease of the service; nobody writes heartbeats here after the start.
const LEASE: Duration = Duration::from_hours(24);

/// Real servers.
const SERVERS: u8 = 16;

/// A program with tables.
pub(crate) struct Director {
    ebpf: Option<Ebpf>,
    name: String,
    sticky: bool,
}

impl Director {
    /// One service with sixteen real servers.
    pub(crate) fn open(name: &str, sticky: bool) -> Result<Self> {
        let name = format!("bench-{}-{name}", std::process::id());
        let mut director = Self {
            ebpf: None,
            name,
            sticky,
        };
        director.forget()?;
        Ok(director)
    }

    /// Starts over with empty tables.
    pub(crate) fn forget(&mut self) -> Result<()> {
        self.close()?;
        let mut options = Options::new(&self.name, xdp_lb::sys::clock::kernel()?);
        options.templates = options.connections;
        let ebpf = self.ebpf.insert(Ebpf::open(&options)?);
        for change in diff(&Desired::default(), &desired(self.sticky)) {
            ebpf.apply(&change)?;
        }
        Ok(())
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
        rig.run(Frame::syn(), flows, flows)?;
        rig.run(Frame::ack(), flows, flows)?;
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

fn desired(sticky: bool) -> Desired {
    let key = ServiceKey::Endpoint(Endpoint {
        vip: IpAddr::from(VIP),
        port: 80,
        protocol: Protocol::Tcp,
    });
    let persistence = sticky.then_some(Persistence {
        timeout: Duration::from_hours(1),
        prefix_len: 32,
    });
    let service = Service {
        active: true,
        lease: Some(LEASE),
        scheduler: Scheduler::WeightedRoundRobin,
        persistence,
        one_packet: false,
        servers: (1..=SERVERS).rev().map(server).collect(),
        peers: BTreeMap::new(),
        virtual_mac: None,
        entrances: BTreeSet::new(),
    };
    let mac = Mac::from_octets(DIRECTOR_MAC);
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

fn server(number: u8) -> Server {
    let address = SocketAddr::from((Ipv4Addr::new(192, 168, 1, 100 + number), 80));
    let reach = Reach::Direct {
        ifindex: IFINDEX,
        source_mac: Mac::from_octets(DIRECTOR_MAC),
        mac: Mac::from_octets([2, 0, 0, 0, 1, number]),
        on_link: true,
    };
    Server {
        address,
        weight: 1,
        limit: None,
        serving: true,
        releases_clients: false,
        method: Method::Direct,
        reach: Some(reach),
    }
}
