//! A loaded XDP program, run on frames without an interface that carries them.
//!
//! The kernel's test run (`BPF_PROG_RUN`) calls the program as a driver would and hands back what it
//! decided and what became of the frame. It takes frames of 14 octets (an Ethernet header) and more:
//! no driver hands a program less.

use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::programs::Xdp;
use aya::{TestRun as _, TestRunOptions};
use aya_obj::programs::XdpAttachType;

/// The shortest frame that the kernel runs a program on.
pub const SHORTEST: usize = 14;

/// The most octets that a program may put in front of a frame.
pub const HEADERS: usize = 128;

/// What a program decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It failed.
    Aborted,
    /// To nobody.
    Drop,
    /// To the kernel's stack.
    Pass,
    /// Out of the interface it came in by.
    Tx,
    /// Out of another interface.
    Redirect,
}

impl Action {
    /// As linux/bpf.h numbers them.
    const ALL: [Self; 5] = [
        Self::Aborted,
        Self::Drop,
        Self::Pass,
        Self::Tx,
        Self::Redirect,
    ];
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the program decided.
    pub action: Action,
    /// The frame as it left it.
    pub frame: Vec<u8>,
}

/// A program. Runs from several threads at once are runs on several CPUs.
#[derive(Debug)]
pub struct Program(Xdp);

impl Program {
    /// The program pinned at `pin`.
    pub fn open(pin: &Path) -> Result<Self> {
        let program = Xdp::from_pin(pin, XdpAttachType::Interface);
        let program = program.with_context(|| format!("no XDP program at {}", pin.display()))?;
        Ok(Self(program))
    }

    /// Runs it on a frame that came in by interface `ifindex` of this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses: the frame is shorter than [`SHORTEST`] or longer than a page holds,
    /// or there is no such interface.
    pub fn run(&self, frame: &[u8], ifindex: u32) -> Result<Outcome> {
        self.run_behind(frame, ifindex, 0)
    }

    /// [`Self::run`] on a frame before which so many octets of the headroom are taken, by the driver's
    /// metadata: a multiple of 4. Linux before 6.6 takes no more than 32 of them.
    ///
    /// # Errors
    /// As [`Self::run`], and when there may not be so many.
    pub fn run_behind(&self, frame: &[u8], ifindex: u32, metadata: usize) -> Result<Outcome> {
        let data_in = [&vec![0; metadata], frame].concat();
        // Room for headers that a program puts in front.
        let mut out = vec![0; data_in.len() + HEADERS];
        let context = context((metadata, data_in.len()), ifindex)?;
        let run = self.0.test_run(TestRunOptions {
            data_in: Some(&data_in),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        });
        let run =
            run.with_context(|| format!("cannot run the program on {} octets", frame.len()))?;
        out.truncate(run.data_size_out.try_into()?);
        out.drain(..metadata);
        let action = usize::try_from(run.return_value)?;
        let Some(action) = Action::ALL.get(action) else {
            bail!("the program returned {action}, which is no action");
        };
        Ok(Outcome {
            action: *action,
            frame: out,
        })
    }
}

/// `struct xdp_md` of a frame: where it begins and ends, and the interface it came in by.
pub(crate) fn context((begin, end): (usize, usize), ifindex: u32) -> Result<Vec<u8>> {
    let (data, data_end, data_meta) = (u32::try_from(begin)?, u32::try_from(end)?, 0);
    let (queue, egress) = (0, 0);
    let words = [data, data_end, data_meta, ifindex, queue, egress];
    Ok(words.into_iter().flat_map(u32::to_ne_bytes).collect())
}
