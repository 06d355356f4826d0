//! Program and maps into the kernel, or over from a predecessor.

use std::borrow::Cow;
use std::path::Path;

use aya::maps::MapData;
use aya::{EbpfLoader, VerifierLogLevel};
use nix::sys::signal::{SigSet, SigmaskHow};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::hash::{Coefficients, CoefficientsV6, HashKey};
use xdp_lb_common::limits::{WAYS, WAYS_PER_CONNECTION};
use xdp_lb_common::stage::{self, Stage};
use xdp_lb_common::watch;

use super::capture::Plain;
use super::found::{Found, found, give_up, given_up};
use super::tables::Tables;
use super::{Ebpf, Options, Waiting, moving};
use crate::dataplane::Error;
use crate::dataplane::pins::Pins;

/// The program, built by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp-lb.bpf.o"));

/// The table by which the entry finds the programs for what it does not do itself.
pub(super) const STAGES: &str = "STAGES";

/// Maps that outlive the agent.
pub(super) const PINNED: &[&str] = &[
    STAGES,
    "DECIDED",
    "CONTROL",
    "SERVICE_INDEX",
    "SERVICES",
    "CURSORS",
    "HOSTS",
    "BACKENDS",
    "LOADS",
    "SLOTS",
    "PORTS",
    "TX_PORTS",
    "VLANS",
    "CONNS",
    "CONN_INFO",
    "OVERFLOWS",
    "TEMPLATES",
    "TEMPLATE_INFO",
    "COUNTERS",
    "SERVICE_STATS",
    "BACKEND_STATS",
    "SERVICE_NAMES",
    "BACKEND_NAMES",
    "KEY",
];

/// Sizes that the options decide.
pub(super) struct Sizes {
    /// Places of the connection table.
    pub conn_places: u32,
    /// Places of the template table.
    pub template_places: u32,
}

impl Sizes {
    pub(super) fn new(options: &Options) -> Self {
        let places = |entries: u32| {
            let ways = entries.clamp(1024, 1 << 24).next_power_of_two() * WAYS_PER_CONNECTION;
            ways / u32::try_from(WAYS).unwrap_or(1)
        };
        Self {
            conn_places: places(options.connections),
            template_places: places(options.templates),
        }
    }

    /// Entries per map.
    pub(super) fn entries(&self) -> [(&'static str, u32); 5] {
        let ways = |places| places * u32::try_from(WAYS).unwrap_or(1);
        [
            ("CONNS", self.conn_places),
            ("CONN_INFO", ways(self.conn_places)),
            ("OVERFLOWS", self.conn_places / 64),
            ("TEMPLATES", self.template_places),
            ("TEMPLATE_INFO", ways(self.template_places)),
        ]
    }
}

pub(super) fn open(options: &Options) -> Result<Ebpf, Error> {
    let pins = Pins::new(&options.instance);
    let sizes = Sizes::new(options);
    let mut notes = Vec::new();
    pins.forget_next()?;
    let moving = match found(&pins, &sizes) {
        Found::Nothing => None,
        Found::Fitting => moving::unfinished(&pins),
        Found::OfOtherSizes(names) => match moving::begin(options, &sizes, &names) {
            Ok(moving) => Some(moving),
            Err(why) => {
                let why = format!("tables of another size cannot be made beside them: {why}");
                give_up(&pins, &why, &mut notes)?;
                None
            }
        },
        Found::Unusable(why) => {
            give_up(&pins, &why, &mut notes)?;
            None
        }
    };
    if pins.prepare()? {
        let why = "they were pinned by a version with another table layout";
        notes.push(given_up(why));
    }
    let took_over = pins.exist();
    let loaded = load(options, &pins, &sizes, took_over);
    if loaded.is_err() {
        // The error of the load is the one to tell.
        let _also_failed = if took_over {
            pins.forget_next()
        } else {
            pins.remove()
        };
    }
    loaded.and_then(|mut ebpf| {
        ebpf.notes.splice(0..0, notes);
        ebpf.move_in(moving)?;
        Ok(ebpf)
    })
}

fn load(options: &Options, pins: &Pins, sizes: &Sizes, took_over: bool) -> Result<Ebpf, Error> {
    let key = hash_key(pins, took_over, options.key)?;
    // What a predecessor left goes on forwarding, but its adverts are missing: the elections must not
    // wait for the verifier, some tenths of a second.
    let mut object = if took_over {
        object(options, key, &PLAIN)?
    } else {
        whole(options, key)?
    };
    let now = super::read::tick(&mut object)?;
    let (tables, inherited, fenced) = Tables::open(&mut object, sizes, options, (key, now))?;
    let notes = (fenced > 0).then(|| closed(fenced));
    let mut ebpf = Ebpf {
        object,
        options: options.clone(),
        key,
        pins: pins.clone(),
        tables,
        inherited,
        took_over,
        waiting: if took_over {
            Waiting::ForStart
        } else {
            Waiting::No
        },
        plain: Plain::default(),
        notes: notes.into_iter().collect(),
        names: None,
        moving: None,
    };
    if !took_over {
        ebpf.hand_out();
    }
    Ok(ebpf)
}

/// What an object is loaded for.
pub(super) struct Purpose {
    /// One of [`watch::mode`].
    pub mode: u32,
    /// Pinned maps that it does not share.
    pub own: &'static [&'static str],
    /// Octets of the ring of decisions.
    pub ring: u32,
}

/// To forward.
const PLAIN: Purpose = Purpose {
    mode: watch::mode::FORWARD,
    own: &[],
    ring: NO_RING,
};

/// The size of a ring that nobody reads: the least that the kernel makes.
pub(super) const NO_RING: u32 = 4096;

/// The object with its maps: the pinned ones, where there are any and it shares them.
///
/// Its programs take frames in several buffers, longer ones than a page, if the kernel lets them: Linux
/// 5.18. All of them or none, as the kernel lets only such call each other.
pub(super) fn object(
    options: &Options,
    key: HashKey,
    purpose: &Purpose,
) -> Result<aya::Ebpf, Error> {
    told(options, key, purpose, VerifierLogLevel::STATS)
}

/// The same, where the verifier is asked to say so much.
pub(super) fn told(
    options: &Options,
    key: HashKey,
    purpose: &Purpose,
    log: VerifierLogLevel,
) -> Result<aya::Ebpf, Error> {
    if !options.whole_frames {
        let mut object = object_for(options, key, purpose, (Frames::Buffers, log))?;
        // The smallest program tells.
        if verified(&mut object, super::read::TICK).is_ok() {
            return Ok(object);
        }
    }
    let mut object = object_for(options, key, purpose, (Frames::Whole, log))?;
    verified(&mut object, super::read::TICK)?;
    Ok(object)
}

/// What frames programs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frames {
    /// In several buffers.
    Buffers,
    /// In one.
    Whole,
}

impl Frames {
    /// The object whose programs take such frames: a section's name says so.
    fn object(self) -> Cow<'static, [u8]> {
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

fn object_for(
    options: &Options,
    key: HashKey,
    purpose: &Purpose,
    (frames, log): (Frames, VerifierLogLevel),
) -> Result<aya::Ebpf, Error> {
    let (pins, sizes) = (Pins::new(&options.instance), Sizes::new(options));
    let settings = Settings::new(options, &sizes, key, (purpose.mode, frames));
    let mut loader = settings.loader(&sizes, purpose.ring);
    loader.verifier_log_level(log);
    for map in PINNED.iter().filter(|map| !purpose.own.contains(map)) {
        loader.map_pin_path(map, pins.map(map));
    }
    loader
        .load(&frames.object())
        .map_err(|error| refused("the maps", &error))
}

/// The object with its maps and all programs in the kernel, where the entry leads on to them.
pub(super) fn whole(options: &Options, key: HashKey) -> Result<aya::Ebpf, Error> {
    let mut loading = Loading::begin(options, key)?;
    while loading.go_on()? {}
    loading.finish()
}

/// An object whose programs come into the kernel one by one: the verifier takes its time with each.
pub(super) struct Loading {
    object: aya::Ebpf,
    left: std::slice::Iter<'static, Stage>,
}

impl Loading {
    pub(super) fn begin(options: &Options, key: HashKey) -> Result<Self, Error> {
        Ok(Self {
            object: object(options, key, &PLAIN)?,
            left: stage::ALL.iter(),
        })
    }

    /// Loads the next program; whether there was one.
    pub(super) fn go_on(&mut self) -> Result<bool, Error> {
        let Some(stage) = self.left.next() else {
            return Ok(false);
        };
        verified(&mut self.object, stage.name).map(|()| true)
    }

    /// The whole object.
    pub(super) fn finish(mut self) -> Result<aya::Ebpf, Error> {
        lead_on(&mut self.object)?;
        #[cfg(feature = "bpf-log")]
        super::log::follow(&mut self.object)?;
        Ok(self.object)
    }
}

/// Brings all programs of an object into the kernel but the one that tells the tick, which is there.
pub(super) fn load_programs(object: &mut aya::Ebpf) -> Result<(), Error> {
    for stage in stage::ALL {
        verified(object, stage.name)?;
    }
    Ok(())
}

/// Brings a program into the kernel. The verifier gives up when a signal comes for its thread (`EAGAIN`),
/// so none does meanwhile: others of the process take them.
fn verified(object: &mut aya::Ebpf, name: &str) -> Result<(), Error> {
    let program = super::attach::program(object, name)?;
    let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let loaded = program.load();
    if let Ok(before) = blocked {
        // It was in force a moment ago, so that it cannot be refused.
        let _in_force = before.thread_set_mask();
    }
    loaded.map_err(|error| refused(&format!("the program {name}"), &error))
}

/// What the programs of an object have as constants.
struct Settings {
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
    fn new(options: &Options, sizes: &Sizes, key: HashKey, (mode, frames): (u32, Frames)) -> Self {
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
    fn loader(&self, sizes: &Sizes, ring: u32) -> EbpfLoader<'_> {
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

/// Lets the entry go on to the other programs. The table is pinned: the kernel empties one that nobody
/// holds, and the programs outlive the agent.
pub(super) fn lead_on(object: &mut aya::Ebpf) -> Result<(), Error> {
    for stage in stage::ALL {
        let program = super::attach::program(object, stage.name)?
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .map_err(|error| refused("the program", &error))?;
        let map = object
            .map_mut(STAGES)
            .ok_or_else(|| Error::Load(format!("the XDP program has no map {STAGES}")))?;
        aya::maps::ProgramArray::try_from(map)
            .and_then(|mut stages| stages.set(stage.index, &program, 0))
            .map_err(|error| {
                let name = stage.name;
                Error::Load(format!("the program {name} cannot be reached: {error}"))
            })?;
    }
    Ok(())
}

/// What is said of gates whose lease had ended.
fn closed(services: usize) -> String {
    let what = match services {
        1 => "1 virtual service is".to_owned(),
        many => format!("{many} virtual services are"),
    };
    format!(
        "the predecessor was silent for so long that another director may have taken over: {what} \
         closed until this one owns the VIP"
    )
}

/// Makes maps that come in the place of pinned ones.
pub(super) fn make_next(
    options: &Options,
    sizes: &Sizes,
    names: &[&'static str],
) -> Result<(), Error> {
    let pins = Pins::new(&options.instance);
    let key = pinned_key(&pins.map("KEY")).unwrap_or_default();
    let settings = Settings::new(options, sizes, key, (PLAIN.mode, Frames::Whole));
    let mut loader = settings.loader(sizes, NO_RING);
    for name in names {
        loader.map_pin_path(name, pins.next(name));
    }
    // The other maps of this object are nobody's, and go with it.
    let made = loader.load(&Frames::Whole.object());
    made.map(drop).map_err(|error| refused("the maps", &error))
}

/// The cluster's key: the pinned one, else the one that is wanted, else a new one from the kernel.
fn hash_key(pins: &Pins, took_over: bool, wanted: Option<HashKey>) -> Result<HashKey, Error> {
    let pinned = if took_over {
        pinned_key(&pins.map("KEY"))
    } else {
        None
    };
    match pinned {
        Some(key) if key != HashKey::default() => Ok(key),
        _ => wanted.map_or_else(random_key, Ok),
    }
}

pub(super) fn pinned_key(path: &Path) -> Option<HashKey> {
    let map = aya::maps::Map::from_map_data(MapData::from_pin(path).ok()?).ok()?;
    aya::maps::Array::<_, HashKey>::try_from(map)
        .ok()?
        .get(&0, 0)
        .ok()
}

fn random_key() -> Result<HashKey, Error> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.map_err(|error| {
        Error::Load(format!(
            "cannot read /dev/urandom for the hash key: {error}"
        ))
    })?;
    let (k0, k1) = bytes.split_at(8);
    let word = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
    Ok(HashKey {
        k0: word(k0),
        k1: word(k1),
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

/// What the kernel said, in one line, with what to do.
pub(super) fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut reasons = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reasons.iter().any(|r| r.contains(&text)) {
            reasons.push(text);
        }
        source = cause.source();
    }
    let reasons = reasons
        .join(": ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let short: String = reasons.chars().take(300).collect();
    Error::Load(format!(
        "the kernel refused {what} of the XDP program: {short}; it takes Linux 5.15 or later with \
         BPF enabled, CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and memory for the tables"
    ))
}
