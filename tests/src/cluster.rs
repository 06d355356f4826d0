//! One switch with a client, a director and real servers on it, for suites that need no more.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::director::{Director, program};
use crate::lan::{Host, INTERFACE, Lan};
use crate::netns::{Netns, unique_prefix};
use crate::traffic::EchoServer;
use crate::xdp::{Pass, rig};

/// The virtual address of the service.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 200);

/// Where the service is, and where its real servers listen.
pub const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP), PORT);

/// Its port.
pub const PORT: u16 = 80;

/// The director's own address.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 10);

/// The address of a real server, counted from 1.
pub const fn server_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, 0, 100 + number)
}

/// A cluster whose director does not run yet. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Cluster {
    /// The director.
    pub director: Director,
    /// The real servers `rs1`, `rs2`, …
    pub servers: Vec<RealServer>,
    pass: Option<Pass>,
    /// The client.
    pub client: Host,
    /// The director's host.
    pub host: Host,
    /// The switch.
    pub lan: Lan,
    folder: TempDir,
}

impl Cluster {
    /// Makes the hosts and starts the servers. `tag` is unique among tests that run at once, and begins
    /// every name; `arguments` are added to the director's `xdp-lb up`.
    pub fn create(tag: &str, servers: u8, arguments: &[&str]) -> Result<Self> {
        let prefix = unique_prefix(tag);
        let folder = tempfile::tempdir()?;
        let lan = Lan::create(&prefix)?;
        let client = lan.add_host("client", [&*format!("{CLIENT}/24")])?;
        let host = lan.add_host("director", [&*format!("{DIRECTOR}/24")])?;
        let pass = Pass::attach(&rig()?, lan.switch(), &host.name)?;
        let servers = (1..=servers).map(|number| RealServer::start(number, &lan));
        let servers = servers.collect::<Result<_>>()?;
        let instance = prefix.trim_end_matches('-');
        let director = Director::new(&host.netns, instance, folder.path(), arguments)?;
        Ok(Self {
            director,
            servers,
            pass: Some(pass),
            client,
            host,
            lan,
            folder,
        })
    }

    /// Takes the program off the other end of the director's cable: what native XDP sends is lost then.
    pub fn take_program_off(&mut self) {
        self.pass = None;
    }

    /// Where programs of the suite may write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Cluster {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it of tests that fail"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the director's log:\n{}", self.director.log());
        }
    }
}

/// A real server: [`VIP`] on `lo` by `xdp-lb realserver up`, a TCP server on every address.
#[derive(Debug)]
pub struct RealServer {
    /// Its TCP server, named like the host.
    pub echo: EchoServer,
    vip: SilentVip,
    /// Its host.
    pub host: Host,
    /// The address that the director knows it by.
    pub address: Ipv4Addr,
}

impl RealServer {
    /// Plugs number `number` into a switch and starts it.
    pub fn start(number: u8, lan: &Lan) -> Result<Self> {
        let address = server_address(number);
        let host = lan.add_host(&format!("rs{number}"), [&*format!("{address}/24")])?;
        Self::serve(host, address)
    }

    /// Makes a host a real server.
    pub fn serve(host: Host, address: Ipv4Addr) -> Result<Self> {
        let vip = SilentVip::up(&host.netns)?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let echo = EchoServer::start(&host.name, &host.netns, any)?;
        Ok(Self {
            echo,
            vip,
            host,
            address,
        })
    }

    /// Whether `xdp-lb realserver status` finds everything right.
    pub fn status(&self) -> Result<String> {
        self.vip.run("status")
    }
}

/// What `xdp-lb realserver up` did, undone on drop.
#[derive(Debug)]
struct SilentVip {
    program: PathBuf,
    netns: Netns,
}

impl SilentVip {
    fn up(netns: &Netns) -> Result<Self> {
        let vip = Self {
            program: program()?,
            netns: netns.handle(),
        };
        vip.run("up")?;
        Ok(vip)
    }

    fn run(&self, verb: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["realserver", verb, "--vip", &VIP.to_string()]);
        self.netns.output(&mut command)
    }
}

impl Drop for SilentVip {
    fn drop(&mut self) {
        // Nobody is left to tell.
        drop(self.run("down"));
    }
}

/// A `vrrp_instance` for [`VIP`], as the file of seed 004 has it, in `state`. As MASTER it is the owner
/// of the VIP, so that nobody waits for an election.
pub fn vrrp_instance(state: &str) -> String {
    let priority = if state == "MASTER" { 255 } else { 100 };
    format!(
        "vrrp_instance VI_1 {{
            state {state}
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            advert_int 1
            virtual_ipaddress {{
                {VIP}/24
            }}
        }}\n"
    )
}

/// A `virtual_server` at [`SERVICE`] with direct routing; `lines` are the rest of its block.
pub fn virtual_server(lines: &str) -> String {
    format!("virtual_server {VIP} {PORT} {{\nlb_kind DR\nprotocol TCP\n{lines}\n}}\n")
}

/// A `real_server` with this weight, and a check that notices within a second.
pub fn real_server(number: u8, weight: u32) -> String {
    format!(
        "real_server {} {PORT} {{
            weight {weight}
            TCP_CHECK {{
                connect_timeout 3
                delay_loop 1
                retry 1
                delay_before_retry 1
                warmup 0
            }}
        }}\n",
        server_address(number)
    )
}
