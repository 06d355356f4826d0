//! A pair of directors on a switch, a real server behind them, and a client that never stops asking.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use xdp_lb_tests::adverts::Adverts;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::peer::{Peer, Program};
use xdp_lb_tests::stream::{Echo, Stream};
use xdp_lb_tests::xdp::{Pass, rig};

const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 81, 0, 200), 7);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 3);
/// Master and backup, while all is well.
pub(crate) const DIRECTORS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 81, 0, 1), Ipv4Addr::new(10, 81, 0, 2)];
const PRIORITIES: [u8; 2] = [150, 100];

/// Who answers: the first director's host, the second's, the real server.
const MARKS: [u8; 3] = [1, 2, 3];

/// What a take-over may take, before the run is given up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// How the directors speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Version 2, an advert each second.
    V2,
    /// Version 3, ten a second.
    V3,
}

/// Both, the fast one first.
pub(crate) const VERSIONS: [Version; 2] = [Version::V3, Version::V2];

impl Version {
    /// For the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2 1 s",
            Self::V3 => "v3 0.1 s",
        }
    }

    /// Time between adverts.
    pub(crate) const fn interval(self) -> Duration {
        match self {
            Self::V2 => Duration::from_secs(1),
            Self::V3 => Duration::from_millis(100),
        }
    }

    /// The backup's skew time: RFC 3768, 6.1, and RFC 9568, 6.1, which is the same at 1 s.
    pub(crate) fn skew(self) -> Duration {
        self.interval() * (256 - u32::from(PRIORITIES[1])) / 256
    }

    /// From the last advert to the backup's first.
    pub(crate) fn down_timer(self) -> Duration {
        self.interval() * 3 + self.skew()
    }
}

/// Everything. Its parts go in the order in which they stand here.
pub(crate) struct Site {
    /// What the client gets.
    pub(crate) stream: Stream,
    /// Who says to be master.
    pub(crate) adverts: Adverts,
    /// The directors' programs.
    pub(crate) peers: [Peer; 2],
    _echoes: Vec<Echo>,
    _passes: Vec<Pass>,
    /// The directors' hosts.
    pub(crate) hosts: [Host; 2],
    _others: [Host; 2],
    /// The switch.
    pub(crate) lan: Lan,
    pub(crate) version: Version,
    _folder: TempDir,
}

impl Site {
    /// Puts it up and waits until the first director is the master.
    pub(crate) fn start(tag: &str, programs: &[Program; 2], version: Version) -> Result<Self> {
        let prefix = unique_prefix(tag);
        let folder = tempfile::tempdir()?;
        let lan = Lan::create(&prefix)?;
        let host =
            |name: &str, address: Ipv4Addr| lan.add_host(name, [format!("{address}/24").as_str()]);
        let hosts = [host("dir1", DIRECTORS[0])?, host("dir2", DIRECTORS[1])?];
        let client = host("client", CLIENT)?;
        let server = host("rs", SERVER)?;
        // As `xdp-lb realserver up` does it: the VIP is there, and nobody hears of it.
        server
            .netns
            .ip(&format!("address add {}/32 dev lo", VIP.ip()))?;
        quiet(&server)?;
        let answering = [&hosts[0].netns, &hosts[1].netns, &server.netns];
        let echo = |(netns, mark)| Echo::start(netns, VIP, mark);
        let echoes: Vec<_> = answering.into_iter().zip(MARKS).map(echo).collect();
        let rig = rig()?;
        let passes = hosts
            .each_ref()
            .map(|host| Pass::attach(&rig, lan.switch(), &host.name));
        let peers = [0, 1].map(|number: usize| -> Result<Peer> {
            let file = folder.path().join(format!("director{}.conf", number + 1));
            std::fs::write(&file, configuration(number, version))?;
            let instance = format!("{prefix}d{}", number + 1);
            let program = programs[number].clone();
            Ok(Peer::new(program, &instance, &file, folder.path()))
        });
        let [first, second] = peers;
        let mut site = Self {
            stream: Stream::start(&client.netns, CLIENT, VIP)?,
            adverts: Adverts::start(&client.netns, CLIENT)?,
            peers: [first?, second?],
            _echoes: echoes.into_iter().collect::<Result<_>>()?,
            _passes: passes.into_iter().collect::<Result<_>>()?,
            hosts,
            _others: [client, server],
            lan,
            version,
            _folder: folder,
        };
        site.peers[0].start(&site.hosts[0].netns)?;
        site.peers[1].start(&site.hosts[1].netns)?;
        site.wait_whole().with_context(|| site.logs())?;
        site.check_who_answers().with_context(|| site.logs())?;
        Ok(site)
    }

    /// xdp-lb is measured with its program at work, not with an echo of the host behind it.
    fn check_who_answers(&self) -> Result<()> {
        let expected = match self.peers[0].program {
            Program::Keepalived => MARKS[0],
            Program::XdpLb(_) => MARKS[2],
        };
        let last = self.stream.since(Instant::now()).pop();
        let mark = last.map(|answer| answer.mark);
        ensure!(
            mark == Some(expected),
            "answers have mark {mark:?} instead of {expected}"
        );
        Ok(())
    }

    /// Waits until the first director alone is the master and answers, and nobody is in the middle of
    /// something.
    pub(crate) fn wait_whole(&self) -> Result<()> {
        let calm = self.version.interval() * 3;
        self.adverts.wait_only(DIRECTORS[0], calm, PATIENCE)?;
        self.stream
            .wait_steady(calm.min(Duration::from_millis(500)), PATIENCE)
    }

    /// Waits until the second director is the master, and returns the time between the first's last
    /// advert and its own first.
    pub(crate) fn wait_taken_over(&self, event: Instant) -> Result<Duration> {
        let taken = self.adverts.wait_master(DIRECTORS[1], event, PATIENCE)?;
        let last = self.adverts.last_of(DIRECTORS[0], taken);
        let last = last.context("the first director was never master")?;
        Ok(taken - last.at)
    }

    /// How often the second director became master since an instant. One advert of it alone is the last of
    /// a master that yields.
    pub(crate) fn take_overs(&self, start: Instant) -> usize {
        let mut adverts = self.adverts.since(start);
        adverts.retain(|advert| advert.priority > 0);
        let is_second = adverts.iter().map(|advert| advert.source == DIRECTORS[1]);
        let is_second: Vec<_> = std::iter::once(false).chain(is_second).collect();
        let taken = is_second
            .windows(3)
            .filter(|three| **three == [false, true, true]);
        taken.count()
    }

    /// Starts the first director again.
    pub(crate) fn restart_first(&mut self) -> Result<()> {
        self.peers[0].start(&self.hosts[0].netns)?;
        self.wait_whole()
    }

    /// Takes the VIP from the first director's host, as someone must after its program was killed.
    pub(crate) fn clean_first(&self) {
        let line = format!("address del {}/24 dev {INTERFACE}", VIP.ip());
        // A program that cleans up after itself has done so.
        self.hosts[0].netns.ip(&line).ok();
    }

    /// The ends of both logs, for an error.
    pub(crate) fn logs(&self) -> String {
        let each = self.peers.iter().zip(&self.hosts);
        let each = each.map(|(peer, host)| {
            format!(
                "{} ({}):\n{}",
                host.name,
                peer.program.name(),
                peer.log_tail(30)
            )
        });
        each.collect::<Vec<_>>().join("\n")
    }
}

fn quiet(server: &Host) -> Result<()> {
    let write = || {
        for (name, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/all/{name}"), value)?;
        }
        std::io::Result::Ok(())
    };
    server.netns.run(write)?.context("ARP settings")
}

/// keepalived runs its VRRP part only, and its host answers at the VIP; xdp-lb sends on to the real
/// server.
fn configuration(director: usize, version: Version) -> String {
    let (state, priority) = (["MASTER", "BACKUP"][director], PRIORITIES[director]);
    let (number, seconds) = match version {
        Version::V2 => (2, "1"),
        Version::V3 => (3, "0.1"),
    };
    let (vip, port) = (VIP.ip(), VIP.port());
    format!(
        "global_defs {{
    router_id director{director}
    vrrp_version {number}
}}
vrrp_instance VI_1 {{
    state {state}
    interface {INTERFACE}
    virtual_router_id 51
    priority {priority}
    advert_int {seconds}
    virtual_ipaddress {{
        {vip}/24
    }}
}}
virtual_server {vip} {port} {{
    lb_algo rr
    lb_kind DR
    protocol UDP
    real_server {SERVER} {port} {{
        weight 1
    }}
}}
"
    )
}
