//! The generator program of the rig, in the kernel's program test-run: it varies a frame and gives it to
//! a program, a turn per packet, so that a program gets millions of packets a second of many flows.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};

use crate::program;
use crate::xdp::rig;

/// Turns between two marks of the clock.
const MARK: u32 = 1 << 16;

/// The first client, 10.0.0.0; a flow's number is added to it. In IPv6 these are the last octets.
pub const CLIENT: u32 = 0x0a00_0000;

/// The client's port.
pub const CLIENT_PORT: u16 = 40_000;

/// The port that frames go to.
pub const PORT: u16 = 80;

/// The network of IPv6 clients, and the source MAC of all frames.
const CLIENTS_V6: [u8; 16] = [
    0x20, 0x01, 0x0d, 0xb8, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0xcc];

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
pub enum By {
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

/// TCP flags of a packet in the middle of a connection.
pub const ACK: u8 = 0x10;
/// Those of one that opens a connection.
pub const SYN: u8 = 0x02;

/// A frame to vary.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Who varies it.
    pub by: By,
    /// The MAC that it goes to.
    pub mac: [u8; 6],
    /// The address that it goes to, of the family that [`Self::by`] writes.
    pub to: IpAddr,
    /// TCP flags.
    pub flags: u8,
    /// Added to the numbers of all flows.
    pub first: u32,
}

impl Frame {
    /// Ethernet, IP, TCP, zeroes. The client's address and the checksum are the generator's to write.
    fn octets(self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(80);
        frame.extend(self.mac);
        frame.extend(SENDER);
        let length = match self.to {
            IpAddr::V6(to) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
                frame.extend(CLIENTS_V6);
                frame.extend(to.octets());
                80
            }
            IpAddr::V4(to) => {
                frame.extend([8, 0, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(CLIENT.to_be_bytes());
                frame.extend(to.octets());
                64
            }
        };
        frame.extend(CLIENT_PORT.to_be_bytes());
        frame.extend(PORT.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, self.flags]);
        frame.resize(length, 0);
        frame
    }
}

/// The loaded rig.
pub struct Rig {
    object: Ebpf,
    generator: Array<MapData, Generator>,
    target: ProgramArray<MapData>,
    /// The interface that frames come in by; `None`: the loopback interface.
    entrance: Option<u32>,
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").finish_non_exhaustive()
    }
}

impl Rig {
    /// Loads every program of the rig.
    pub fn load() -> Result<Self> {
        let mut object = Ebpf::load_file(rig()?)?;
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
            entrance: None,
        })
    }

    /// Lets frames come in by this interface of the namespace that [`Self::run`] is called in.
    pub fn enter_by(&mut self, ifindex: u32) {
        self.entrance = Some(ifindex);
    }

    /// Aims at a program of the rig.
    pub fn aim_at(&mut self, program: &str) -> Result<()> {
        let program = self
            .object
            .program(program)
            .context("no such program in the rig")?;
        let fd = <&Xdp>::try_from(program)?.fd()?.try_clone()?;
        self.aim(&fd)
    }

    /// Aims at a loaded program.
    pub fn aim(&mut self, program: &ProgramFd) -> Result<()> {
        Ok(self.target.set(0, program, 0)?)
    }

    /// Runs `turns` packets over `flows` flows, a power of two; nanoseconds per packet, which needs at
    /// least 65,536 turns. The first flow gets one more packet.
    pub fn run(&mut self, frame: Frame, flows: u32, turns: u32) -> Result<f64> {
        let octets = self.set(frame, flows)?;
        self.test_run(frame.by, &octets, turns + 1, None)?;
        let marks = self.generator.get(&0, 0)?.marks;
        let last = marks
            .get((turns / MARK) as usize)
            .context("too many turns for the marks")?;
        let first = marks.first().context("no marks")?;
        #[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds fit")]
        let elapsed = (last - first) as f64;
        Ok(elapsed / f64::from(turns))
    }

    /// Runs one packet of each of `flows` flows, a power of two, one after the other. A run of many in the
    /// kernel waits for RCU grace periods before and after, some ten milliseconds each; this one does not.
    pub fn run_singly(&mut self, frame: Frame, flows: u32) -> Result<()> {
        let octets = self.set(frame, flows)?;
        (0..flows).try_for_each(|_| self.test_run(frame.by, &octets, 1, None).map(drop))
    }

    /// Runs the packet of one flow; what the program made of the frame.
    pub fn send(&mut self, frame: Frame, flow: u32) -> Result<Vec<u8>> {
        let frame = Frame {
            first: frame.first.wrapping_add(flow),
            ..frame
        };
        let octets = self.set(frame, 1)?;
        let mut out = vec![0; 128];
        let length = self.test_run(frame.by, &octets, 1, Some(&mut out))?;
        out.truncate(length);
        Ok(out)
    }

    /// Has the generator begin with the first flow; the frame to vary.
    fn set(&mut self, frame: Frame, flows: u32) -> Result<Vec<u8>> {
        let octets = frame.octets();
        let settings = settings(&octets, flows, frame.first);
        self.generator.set(0, settings, 0)?;
        Ok(octets)
    }

    /// The length of the frame in the end.
    fn test_run(
        &self,
        by: By,
        octets: &[u8],
        repeat: u32,
        data_out: Option<&mut [u8]>,
    ) -> Result<usize> {
        let context = self.entrance;
        let context = context.map(|entrance| program::context((0, octets.len()), entrance));
        let context = context.transpose()?;
        let generate: &Xdp = self
            .object
            .program(by.program())
            .context("no generator in the rig")?
            .try_into()?;
        let result = generate.test_run(TestRunOptions {
            data_in: Some(octets),
            data_out,
            ctx_in: context.as_deref(),
            repeat,
            ..TestRunOptions::new()
        })?;
        if result.return_value == 0 {
            bail!("the generator could not run its target");
        }
        Ok(result.data_size_out.try_into()?)
    }
}

/// The generator's settings for a frame.
fn settings(octets: &[u8], flows: u32, first: u32) -> Generator {
    let word = |at: usize| u32::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
    // All words of the IP header but the checksum and the client's address.
    let checksum = [14, 16, 18, 20, 22, 30, 32].map(word).iter().sum();
    Generator {
        low: u64::from_ne_bytes(std::array::from_fn(|at| octets[at])),
        high: u32::from_ne_bytes(std::array::from_fn(|at| octets[8 + at])),
        client: CLIENT.wrapping_add(first),
        flow_mask: flows - 1,
        checksum,
        turn: 0,
        middle: u64::from_ne_bytes(std::array::from_fn(|at| octets[30 + at])),
        tcp_checksum: 0,
        len: u32::try_from(octets.len()).unwrap_or_default(),
        marks: [0; 256],
    }
}
