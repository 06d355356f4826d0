//! Clients: their packets come to a director by program test-run, in its namespace, by its interface.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, loaded_programs};
use xdp_lb_tests::generator::{ACK, By, Frame, Rig, SYN};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::link;
use xdp_lb_tests::netns::Netns;

use crate::site::{Site, VIP};

/// The clients of a director.
pub(crate) struct Client {
    rig: Rig,
    netns: Netns,
    mac: [u8; 6],
    program: ProgramFd,
}

impl Client {
    /// Those of a director whose agent has attached its program.
    pub(crate) fn of(site: &Site, director: usize) -> Result<Self> {
        let host = site.host(director)?;
        let link = link::show(&host.netns, INTERFACE)?;
        let attached = link.xdp.context("the agent has attached no program")?;
        // One that ends meanwhile is another.
        let mut programs = loaded_programs().flatten();
        let program = programs.find(|program| program.id() == attached.prog.id);
        let program = program.context("the attached program is gone")?.fd()?;
        let mut rig = Rig::load()?;
        rig.enter_by(link.ifindex);
        rig.aim(&program)?;
        Ok(Self {
            rig,
            netns: host.netns.handle(),
            mac: octets(&host.mac)?,
            program,
        })
    }

    /// Runs `inside` in the director's namespace, where its packets come in.
    pub(crate) fn inside<T: Send>(
        &mut self,
        inside: impl FnOnce(&mut Inside<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let Self {
            rig,
            netns,
            mac,
            program,
        } = self;
        let mac = *mac;
        netns.run(|| inside(&mut Inside { rig, mac, program }))?
    }

    /// Opens connections and confirms them: `flows`, a power of two.
    pub(crate) fn establish(&mut self, flows: u32) -> Result<()> {
        self.inside(|inside| {
            inside.open(flows)?;
            inside.send(flows)
        })
    }

    /// The MAC that a packet of each flow is sent to, which is its real server's.
    pub(crate) fn servers(&mut self, flows: impl Iterator<Item = u32> + Send) -> Result<Vec<Mac>> {
        self.inside(|inside| {
            let frame = inside.frame(ACK, 0);
            let server = |flow| {
                let sent = inside.rig.send(frame, flow)?;
                Ok(*sent.first_chunk().context("no frame came out")?)
            };
            let all: Result<Vec<Mac>> = flows.map(server).collect();
            let all = all?;
            ensure!(!all.contains(&inside.mac), "a packet was not sent on");
            Ok(all)
        })
    }
}

/// A MAC.
pub(crate) type Mac = [u8; 6];

/// The clients, where their packets come in.
pub(crate) struct Inside<'a> {
    rig: &'a mut Rig,
    mac: Mac,
    program: &'a ProgramFd,
}

impl Inside<'_> {
    fn frame(&self, flags: u8, first: u32) -> Frame {
        Frame {
            by: By::Generate,
            mac: self.mac,
            to: VIP.into(),
            flags,
            first,
        }
    }

    /// SYNs of the first flows; `flows` is a power of two.
    pub(crate) fn open(&mut self, flows: u32) -> Result<()> {
        self.rig.run(self.frame(SYN, 0), flows, flows).map(drop)
    }

    /// A packet in the middle of each of them.
    pub(crate) fn send(&mut self, flows: u32) -> Result<()> {
        self.rig.run(self.frame(ACK, 0), flows, flows).map(drop)
    }

    /// SYNs of `flows` more from `first` on, without delay.
    pub(crate) fn open_more(&mut self, first: u32, flows: u32) -> Result<()> {
        self.rig.run_singly(self.frame(SYN, first), flows)
    }

    /// A packet in the middle of each of them.
    pub(crate) fn confirm(&mut self, first: u32, flows: u32) -> Result<()> {
        self.rig.run_singly(self.frame(ACK, first), flows)
    }

    /// Nanoseconds that a packet takes, of `turns` spread over so many flows.
    pub(crate) fn time(&mut self, flows: u32, turns: u32) -> Result<f64> {
        self.rig.run(self.frame(ACK, 0), flows, turns)
    }

    /// What of that the generator takes.
    pub(crate) fn time_alone(&mut self, flows: u32, turns: u32) -> Result<f64> {
        self.rig.aim_at("empty")?;
        let time = self.rig.run(self.frame(ACK, 0), flows, turns);
        self.rig.aim(self.program)?;
        time
    }
}

fn octets(mac: &str) -> Result<Mac> {
    let parts: Result<Vec<u8>, _> = mac
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect();
    let parts = parts.with_context(|| format!("`{mac}` is no MAC"))?;
    let octets = parts.try_into().ok();
    octets.with_context(|| format!("`{mac}` is no MAC"))
}
