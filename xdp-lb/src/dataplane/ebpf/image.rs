//! The built object, and what is settled before it is loaded: the kind of frames and the constants.

use std::borrow::Cow;

use aya::EbpfLoader;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::hash::{Coefficients, CoefficientsV6, HashKey};

use super::Options;
use super::load::Sizes;

/// The program, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp-lb.bpf.o"));

/// The size of a ring that nobody reads: the least that the kernel makes.
pub(super) const NO_RING: u32 = 4096;

/// What frames programs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frames {
    /// In several buffers.
    Buffers,
    /// In one.
    Whole,
}

impl Frames {
    /// The object whose programs take such frames: a section's name says so.
    pub(super) fn object(self) -> Cow<'static, [u8]> {
        const IN_BUFFERS: &[u8] = b"xdp.frags\0";
        const IN_ONE: &[u8] = b"xdp\0";
        match self {
            Self::Buffers => Cow::Borrowed(OBJECT),
            Self::Whole => {
                let mut object = OBJECT.to_vec();
                let names: Vec<_> = object
                    .windows(IN_BUFFERS.len())
                    .enumerate()
                    .filter_map(|(at, window)| (window == IN_BUFFERS).then_some(at))
                    .collect();
                for at in names {
                    if let Some(place) = object.get_mut(at..at + IN_ONE.len()) {
                        place.copy_from_slice(IN_ONE);
                    }
                }
                Cow::Owned(object)
            }
        }
    }
}

/// What the programs of an object have as constants.
pub(super) struct Settings {
    coefficients: Coefficients,
    coefficients_v6: CoefficientsV6,
    conn_mask: u32,
    template_mask: u32,
    tick_shift: u32,
    timeouts: [u32; 16],
    mode: u32,
    buffers: u32,
    empty_pool: u32,
    answers_a_tick: u32,
}

impl Settings {
    pub(super) fn new(
        options: &Options,
        sizes: &Sizes,
        key: HashKey,
        (mode, frames): (u32, Frames),
    ) -> Self {
        Self {
            coefficients: Coefficients::of(key),
            coefficients_v6: CoefficientsV6::of(key),
            conn_mask: sizes.conn_places - 1,
            template_mask: sizes.template_places - 1,
            tick_shift: options.clock.shift,
            timeouts: timeouts(options),
            mode,
            buffers: u32::from(frames == Frames::Buffers),
            empty_pool: options.empty_pool,
            answers_a_tick: a_tick(options),
        }
    }

    /// A loader that knows these and the sizes of the maps, the octets of the ring of decisions among
    /// them.
    pub(super) fn loader(&self, sizes: &Sizes, ring: u32) -> EbpfLoader<'_> {
        let mut loader = EbpfLoader::new();
        loader
            .override_global("COEFFICIENTS", &self.coefficients, true)
            .override_global("COEFFICIENTS_V6", &self.coefficients_v6, true)
            .override_global("CONN_MASK", &self.conn_mask, true)
            .override_global("TEMPLATE_MASK", &self.template_mask, true)
            .override_global("TICK_SHIFT", &self.tick_shift, true)
            .override_global("TIMEOUTS", &self.timeouts, true)
            .override_global("MODE", &self.mode, true)
            .override_global("BUFFERS", &self.buffers, true)
            .override_global("EMPTY_POOL", &self.empty_pool, true)
            .override_global("ANSWERS_A_TICK", &self.answers_a_tick, true)
            .map_max_entries("DECISIONS", ring);
        for (map, entries) in sizes.entries() {
            loader.map_max_entries(map, entries);
        }
        loader
    }
}

/// Answers that a CPU may send in a tick, at least one.
fn a_tick(options: &Options) -> u32 {
    let (clock, answers) = (options.clock, u64::from(options.answers_per_second));
    let answers = (answers << clock.shift).checked_div(clock.hz.into());
    answers.map_or(1, |answers| {
        u32::try_from(answers).unwrap_or(u32::MAX).max(1)
    })
}

/// Timeouts by kind, as the program holds them.
fn timeouts(options: &Options) -> [u32; 16] {
    let mut by_kind = [1; 16];
    for (bits, timeout) in (0_u8..16).zip(&mut by_kind) {
        *timeout = options.timeouts.of(Kind::from_bits(bits));
    }
    by_kind
}
