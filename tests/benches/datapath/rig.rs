//! The generator program and what it is aimed at.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};

use super::director::{VIP, VIP_V6};

/// Turns between two marks of the clock.
const MARK: u32 = 1 << 16;

/// The first client, 10.0.0.0; a flow's number is added to it.
const CLIENT: u32 = 0x0a00_0000;
/// The network of the clients, whose last four octets are as those of IPv4.
const CLIENTS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0);
/// Addresses that are no VIP.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// As the generator program declares it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Generator {
    low: u64,
    high: u32,
    client: u32,
    flow_mask: u32,
    checksum: u32,
    turn: u64,
    middle: u64,
    tcp_checksum: u32,
    len: u32,
    marks: [u64; 256],
}

// SAFETY: integers only, without padding.
#[expect(unsafe_code, reason = "aya's marker for map values is an unsafe trait")]
unsafe impl Pod for Generator {}

/// Which program varies the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// What direct routing changes.
    Generate,
    /// What tunnels and address translation change.
    Whole,
    /// IPv6.
    V6,
}

impl By {
    const fn program(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Whole => "generate_whole",
            Self::V6 => "generate_v6",
        }
    }
}

/// A frame to vary.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) by: By,
    to_vip: bool,
    flags: u8,
}

impl Frame {
    /// In the middle of a connection to the VIP.
    pub(crate) const fn ack(by: By) -> Self {
        Self {
            by,
            to_vip: true,
            flags: 0x10,
        }
    }

    /// Opens a connection to the VIP.
    pub(crate) const fn syn(by: By) -> Self {
        Self {
            by,
            to_vip: true,
            flags: 0x02,
        }
    }

    /// To an address that is no VIP.
    pub(crate) const fn elsewhere(by: By) -> Self {
        Self {
            by,
            to_vip: false,
            flags: 0x10,
        }
    }

    /// Ethernet, IP, TCP, zeroes. The client's address and the checksum are the generator's to write.
    fn octets(self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(80);
        frame.extend(super::director::MAC);
        frame.extend([2, 0, 0, 0, 0, 0xcc]);
        if self.by == By::V6 {
            let destination = if self.to_vip { VIP_V6 } else { OTHER_V6 };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(CLIENTS_V6.octets());
            frame.extend(destination.octets());
        } else {
            let destination = if self.to_vip { VIP } else { OTHER };
            frame.extend([8, 0, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(CLIENT.to_be_bytes());
            frame.extend(destination.octets());
        }
        frame.extend(40000_u16.to_be_bytes());
        frame.extend(80_u16.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, self.flags]);
        frame.resize(if self.by == By::V6 { 80 } else { 64 }, 0);
        frame
    }
}

/// The loaded rig.
pub(crate) struct Rig {
    object: Ebpf,
    generator: Array<MapData, Generator>,
    target: ProgramArray<MapData>,
}

impl Rig {
    /// Loads every program of the rig.
    pub(crate) fn load() -> Result<Self> {
        let mut object = Ebpf::load_file(xdp_lb_tests::xdp::rig()?)?;
        for (_, program) in object.programs_mut() {
            <&mut Xdp>::try_from(program)?.load()?;
        }
        let mut map = |name| {
            object
                .take_map(name)
                .with_context(|| format!("no map {name}"))
        };
        let generator = map("GENERATOR")?.try_into()?;
        let target = map("TARGET")?.try_into()?;
        Ok(Self {
            object,
            generator,
            target,
        })
    }

    /// Aims at a program of the rig.
    pub(crate) fn aim_at(&mut self, program: &str) -> Result<()> {
        let program = self
            .object
            .program(program)
            .context("no such program in the rig")?;
        let fd = <&Xdp>::try_from(program)?.fd()?.try_clone()?;
        self.aim(&fd)
    }

    /// Aims at a loaded program.
    pub(crate) fn aim(&mut self, program: &ProgramFd) -> Result<()> {
        Ok(self.target.set(0, program, 0)?)
    }

    /// Runs `turns` packets over `flows` flows; nanoseconds per packet.
    pub(crate) fn run(&mut self, frame: Frame, flows: u32, turns: u32) -> Result<f64> {
        let octets = frame.octets();
        self.generator.set(0, settings(&octets, flows), 0)?;
        let generate: &Xdp = self
            .object
            .program(frame.by.program())
            .context("no generator in the rig")?
            .try_into()?;
        let options = TestRunOptions {
            data_in: Some(&octets),
            repeat: turns + 1,
            ..TestRunOptions::new()
        };
        let result = generate.test_run(options)?;
        if result.return_value == 0 {
            bail!("the generator could not run its target");
        }
        let marks = self.generator.get(&0, 0)?.marks;
        let last = marks
            .get((turns / MARK) as usize)
            .context("too many turns for the marks")?;
        let first = marks.first().context("no marks")?;
        #[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds fit")]
        let elapsed = (last - first) as f64;
        Ok(elapsed / f64::from(turns))
    }
}

/// The generator's settings for a frame.
fn settings(octets: &[u8], flows: u32) -> Generator {
    let word = |at: usize| u32::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
    // All words of the IP header but the checksum and the client's address.
    let checksum = [14, 16, 18, 20, 22, 30, 32].map(word).iter().sum();
    Generator {
        low: u64::from_ne_bytes(std::array::from_fn(|at| octets[at])),
        high: u32::from_ne_bytes(std::array::from_fn(|at| octets[8 + at])),
        client: CLIENT,
        flow_mask: flows - 1,
        checksum,
        turn: 0,
        middle: u64::from_ne_bytes(std::array::from_fn(|at| octets[30 + at])),
        tcp_checksum: 0,
        len: u32::try_from(octets.len()).unwrap_or_default(),
        marks: [0; 256],
    }
}
