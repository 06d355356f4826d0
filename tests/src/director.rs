//! A small cluster around the real agent: a client, a director, two real servers that answer each line
//! with their own name, all on one LAN.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lan::{Host, Lan};
use crate::netns::{Netns, unique_prefix};
use crate::process::Process;
use crate::xdp::{Pass, rig};
use crate::{link, wait};

/// The virtual service.
pub const VIP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 168, 1, 200)), 80);

/// How long anything may take that is not about speed.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The agent's program: cargo builds it beside the tests.
pub fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let mut places = this.ancestors().map(|folder| folder.join("xdp-lb"));
    places
        .find(|path| path.is_file())
        .with_context(|| format!("no xdp-lb above {}: run `cargo xtask test`", this.display()))
}

/// A configuration with two real servers.
pub const CONFIG: &str = "\
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    virtual_ipaddress {
        192.168.1.200/24
    }
}
virtual_server 192.168.1.200 80 {
    lb_algo wrr
    lb_kind DR
    protocol TCP
    delay_loop 1
    connect_timeout 1
    retry 1
    delay_before_retry 1
    real_server 192.168.1.102 80 {
        weight 1
        TCP_CHECK {
        }
    }
    real_server 192.168.1.103 80 {
        weight 1
        TCP_CHECK {
        }
    }
}
";

/// The cluster. Dropping it ends and removes all of it.
#[derive(Debug)]
pub struct Cluster {
    /// The agent, while it runs.
    pub agent: Option<Process>,
    /// Where clients are.
    pub client: Host,
    /// Where the agent runs.
    pub director: Host,
    servers: [Host; 2],
    folder: tempfile::TempDir,
    instance: String,
    program: PathBuf,
    _pass: Pass,
    _lan: Lan,
}

impl Cluster {
    /// Hosts, and real servers that are set up and answer; no agent yet.
    pub fn create(tag: &str) -> Result<Self> {
        let prefix = unique_prefix(tag);
        let lan = Lan::create(&prefix)?;
        let host = |name, address| lan.add_host(name, [address]);
        let client = host("client", "192.168.1.50/24")?;
        let director = host("director", "192.168.1.100/24")?;
        let servers = [
            host("rs1", "192.168.1.102/24")?,
            host("rs2", "192.168.1.103/24")?,
        ];
        director.netns.ip("link set lo up")?;
        let program = binary()?;
        for server in &servers {
            let mut up = Command::new(&program);
            up.args(["realserver", "up", "--vip", "192.168.1.200"]);
            server.netns.output(&mut up)?;
        }
        Ok(Self {
            agent: None,
            _pass: Pass::attach(&rig()?, lan.switch(), &director.name)?,
            client,
            director,
            servers,
            folder: tempfile::tempdir()?,
            instance: prefix.trim_end_matches('-').to_owned(),
            program,
            _lan: lan,
        })
    }

    /// A real server's host, 1 or 2.
    pub fn server(&self, number: usize) -> Result<&Netns> {
        let host = number.checked_sub(1).and_then(|at| self.servers.get(at));
        Ok(&host.context("no such real server")?.netns)
    }

    /// Lets a real server answer each line with its number, for as long as the result lives.
    pub fn serve(&self, number: usize) -> Result<Process> {
        let script = format!(
            "import socketserver\n\
             class H(socketserver.StreamRequestHandler):\n\
             \x20   def handle(self):\n\
             \x20       for line in self.rfile:\n\
             \x20           self.wfile.write(b'{number}\\n')\n\
             class S(socketserver.ThreadingTCPServer):\n\
             \x20   allow_reuse_address = True\n\
             \x20   daemon_threads = True\n\
             \x20   request_queue_size = 64\n\
             S(('', 80), H).serve_forever()\n"
        );
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", &script]);
        let name = format!("server{number}");
        let process = Process::start(&name, self.server(number)?, &mut python, self.folder.path())?;
        let own = SocketAddr::from(([192, 168, 1, 101 + u8::try_from(number)?], 80));
        wait::until("the server to answer", LIMIT, || {
            Ok(self
                .client
                .netns
                .run(|| TcpStream::connect(own).is_ok())?
                .then_some(()))
        })?;
        Ok(process)
    }

    /// Writes the configuration and returns its path.
    pub fn write(&self, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join("keepalived.conf");
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The agent's command line; `more` follows the instance name.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--instance", &self.instance]).args(more);
        command
    }

    /// Starts the agent on a configuration and waits until `status` answers.
    pub fn up(&mut self, config: &str) -> Result<()> {
        let path = self.write(config)?;
        let path = path.to_str().context("an odd path")?;
        let mut command = self.command(&["up", "-f", path]);
        let agent = Process::start("up", &self.director.netns, &mut command, self.folder.path())?;
        let agent = self.agent.insert(agent);
        let log = agent.log().to_owned();
        let answered = wait::until("the agent to answer", LIMIT, || {
            agent.expect_running()?;
            let mut status = Command::new(&self.program);
            status.args(["--instance", &self.instance, "status", "--json"]);
            Ok(self
                .director
                .netns
                .run(|| status.output())??
                .status
                .success()
                .then_some(()))
        });
        answered
            .map(drop)
            .with_context(|| fs::read_to_string(log).unwrap_or_default())
    }

    /// Runs the agent's command line to its end in the director's namespace.
    pub fn run(&self, more: &[&str]) -> Result<Output> {
        let mut command = self.command(more);
        Ok(self.director.netns.run(|| command.output())??)
    }

    /// What a verb prints as JSON.
    pub fn json(&self, verb: &str) -> Result<serde_json::Value> {
        let output = self.run(&[verb, "--json"])?;
        if !output.status.success() {
            bail!("{verb}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What there is on the machine because of the agent: addresses and XDP on its interface, its pins,
    /// its folder.
    pub fn traces(&self) -> Result<Vec<String>> {
        let netns = &self.director.netns;
        let addresses = link::addresses(netns, crate::lan::INTERFACE)?;
        let mut traces = vec![format!("{:?}", addresses.addr_info)];
        traces.push(format!(
            "{:?}",
            link::show(netns, crate::lan::INTERFACE)?.xdp.is_some()
        ));
        for root in ["/sys/fs/bpf/xdp-lb", "/run/xdp-lb"] {
            let path = Path::new(root).join(&self.instance);
            traces.extend(path.exists().then(|| path.display().to_string()));
        }
        Ok(traces)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.agent.take());
        for server in &self.servers {
            let mut down = Command::new(&self.program);
            // What it printed, or that the namespace is gone, interests nobody any more.
            drop(server.netns.output(down.args(["realserver", "down"])));
        }
        for root in ["/sys/fs/bpf/xdp-lb", "/run/xdp-lb"] {
            // Only what a failed test left; the agent removes its own.
            drop(fs::remove_dir_all(Path::new(root).join(&self.instance)));
        }
    }
}

/// A connection through the director that asks who answers.
#[derive(Debug)]
pub struct Heart {
    reader: BufReader<TcpStream>,
}

impl Heart {
    /// Connects to the VIP from a host.
    pub fn connect(from: &Host) -> Result<Self> {
        let stream = from
            .netns
            .run(|| TcpStream::connect_timeout(&VIP, LIMIT))??;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// Number of the real server that answers.
    pub fn beat(&mut self) -> Result<usize> {
        self.reader.get_mut().write_all(b"?\n")?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        Ok(line.trim().parse()?)
    }
}

/// Whether a TCP port can be bound in a namespace: what a second agent's metrics port cannot.
pub fn occupy(netns: &Netns, address: SocketAddr) -> Result<TcpListener> {
    Ok(netns.run(|| TcpListener::bind(address))??)
}
