//! Program and maps into the kernel, or over from a predecessor.

use aya::VerifierLogLevel;
use nix::sys::signal::{SigSet, SigmaskHow};
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::limits::{WAYS, WAYS_PER_CONNECTION};
use xdp_lb_common::stage::{self, Stage};
use xdp_lb_common::watch;

use super::capture::Plain;
use super::found::{Found, found, give_up, given_up};
use super::image::{Frames, NO_RING, Settings};
use super::key::{hash_key, pinned_key};
use super::tables::Tables;
use super::{Ebpf, Options, Waiting, moving};
use crate::dataplane::Error;
use crate::dataplane::pins::Pins;

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
