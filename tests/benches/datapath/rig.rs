//! The generator program and what it is aimed at.

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, Pod};

/// Turns between two marks of the clock.
const MARK: u32 = 1 << 16;

/// The first client, 10.0.0.0; a flow's number is added to it.
const CLIENT: u32 = 0x0a00_0000;

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
    marks: [u64; 256],
}

// SAFETY: integers only, without padding.
#[expect(unsafe_code, reason = "aya's marker for map values is an unsafe trait")]
unsafe impl Pod for Generator {}

/// A frame to vary.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    destination: [u8; 4],
    flags: u8,
}

impl Frame {
    /// In the middle of a connection to the VIP.
    pub(crate) const fn ack() -> Self {
        Self {
            destination: super::case::VIP,
            flags: 0x10,
        }
    }

    /// Opens a connection to the VIP.
    pub(crate) const fn syn() -> Self {
        Self {
            destination: super::case::VIP,
            flags: 0x02,
        }
    }

    /// To an address that is no VIP.
    pub(crate) const fn elsewhere() -> Self {
        Self {
            destination: [192, 168, 1, 1],
            flags: 0x10,
        }
    }

    /// 64 octets: Ethernet, IPv4, TCP, zeroes. The client's address and the checksum are the
    /// generator's to write.
    fn octets(self) -> [u8; 64] {
        let mut frame = [0; 64];
        frame[..6].copy_from_slice(&super::case::DIRECTOR_MAC);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xcc]);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6]);
        frame[30..34].copy_from_slice(&self.destination);
        frame[34..36].copy_from_slice(&40000_u16.to_be_bytes());
        frame[36..38].copy_from_slice(&80_u16.to_be_bytes());
        frame[46] = 0x50;
        frame[47] = self.flags;
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
    pub(crate) fn run(&mut self, frame: &Frame, flows: u32, turns: u32) -> Result<f64> {
        let octets = frame.octets();
        self.generator.set(0, settings(&octets, flows), 0)?;
        let generate: &Xdp = self
            .object
            .program("generate")
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
fn settings(octets: &[u8; 64], flows: u32) -> Generator {
    let word = |at: usize| u32::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
    // All words of the IP header but the checksum and the client's address.
    let checksum = [14, 16, 18, 20, 22, 30, 32].map(word).iter().sum();
    let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|at| octets[at]);
    Generator {
        low: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        high: u32::from_ne_bytes([octets[8], octets[9], octets[10], octets[11]]),
        client: CLIENT,
        flow_mask: flows - 1,
        checksum,
        turn: 0,
        marks: [0; 256],
    }
}
