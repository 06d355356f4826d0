//! Both data planes, side by side.
//!
//! The program reads the kernel's clock, which nobody can set. So its ticks are made long, and time
//! is made to pass by taking it from the lives of all entries and from the heartbeat. A case during
//! which the clock went on by itself is played again, as nobody knows which of its packets saw which
//! tick.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use aya::maps::{Array, MapData, PerCpuArray};
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::ebpf::{Ebpf, Options};
use xdp_lb::dataplane::memory::{self, Memory, Verdict};
use xdp_lb::dataplane::mmap::MappedArray;
use xdp_lb::dataplane::pins::Pins;
use xdp_lb::plan::desired::Desired;
use xdp_lb::plan::diff::{Change, steps};
use xdp_lb::plan::installed::Installed;
use xdp_lb::sys::clock;
use xdp_lb_common::backend::BackendName;
use xdp_lb_common::conn::table::PlaceMemory;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo, WayBack};
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::reason::{self, Counters, Event, Reason};
use xdp_lb_common::service::Control;
use xdp_lb_common::tick::{Clock, LongTick, MASK, Tick};
use xdp_lb_tests::packet::{compare, show};
use xdp_lb_tests::program::{Action, Outcome, Program};

use crate::case::{Case, Step, octets};
use crate::frames::{MOST_TAKEN, NEAR};
use crate::outside::SeenOutside;
use crate::pinned::{self, map, mapped, second_handle};
use crate::view;

/// Connections and templates that the tables are made for: as few as can be.
const ENTRIES: u32 = 1024;
/// Jiffies of a tick, as a power of two.
const LONG_TICK: u32 = 16;
/// The word of the control words that holds the heartbeat.
const HEARTBEAT: usize = 1;

/// What playing a case came to.
pub(crate) enum Played {
    /// No difference; so many frames.
    Same(u64),
    /// This one.
    Differs(String),
}

/// Both data planes.
pub(crate) struct Rig {
    /// `None` only while it is being dropped.
    ebpf: Option<Ebpf>,
    program: Program,
    pub model: Memory,
    pub conns: MappedArray<PlaceMemory>,
    pub templates: MappedArray<PlaceMemory>,
    infos: MappedArray<FlowInfo>,
    overflows: MappedArray<u64>,
    control: MappedArray<Control>,
    counters: PerCpuArray<MapData, Counters>,
    backend_names: Array<MapData, BackendName>,
    /// Whether the kernel lets most of the headroom be taken.
    takes_headroom: bool,
    clock: Clock,
    installed: Installed,
    /// Ticks that were taken from all lives in this case.
    pub passed: u32,
    /// Packets by reason and events, when they were last looked at.
    counted: (Vec<u64>, Vec<u64>),
    /// Packets by reason, of all cases.
    reasons: BTreeMap<Reason, u64>,
    /// Events of all cases.
    events: BTreeMap<Event, u64>,
}

impl Rig {
    /// The program, freshly loaded, and the model.
    pub(crate) fn new(empty_pool: u32) -> Self {
        let instance = format!("d-{}-{:?}", std::process::id(), std::thread::current().id());
        let instance = instance.replace(['(', ')'], "");
        let mut options = Options::new(&instance, clock::kernel().unwrap());
        // A tick is some minutes long; timeouts stay what they are, in ticks.
        options.clock.shift = LONG_TICK;
        // Everything is answered: the model knows no limit.
        (options.empty_pool, options.answers_per_second) = (empty_pool, u32::MAX);
        let key = HashKey { k0: 11, k1: 12 };
        (options.connections, options.templates, options.key) = (ENTRIES, ENTRIES, Some(key));
        let mut ebpf = Ebpf::open(&options).unwrap();
        let model = memory::Options {
            connections: ENTRIES,
            templates: ENTRIES,
            clock: options.clock,
            timeouts: options.timeouts,
            key,
            empty_pool,
        };
        let pins = Pins::new(&instance);
        let program = second_handle(&mut ebpf, &pins.map("program"));
        Self {
            takes_headroom: program.run_behind(&[0; 64], NEAR, MOST_TAKEN).is_ok(),
            program,
            ebpf: Some(ebpf),
            model: Memory::new(model, LongTick(0)),
            conns: mapped(&pins, "CONNS"),
            templates: mapped(&pins, "TEMPLATES"),
            infos: mapped(&pins, "CONN_INFO"),
            overflows: mapped(&pins, "OVERFLOWS"),
            control: mapped(&pins, "CONTROL"),
            counters: map(&pins, "COUNTERS").try_into().unwrap(),
            backend_names: map(&pins, "BACKEND_NAMES").try_into().unwrap(),
            clock: options.clock,
            installed: Installed::default(),
            passed: 0,
            counted: <(Vec<u64>, Vec<u64>)>::default(),
            reasons: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    /// Events so far.
    pub(crate) const fn events(&self) -> &BTreeMap<Event, u64> {
        &self.events
    }

    /// Packets by reason so far.
    pub(crate) const fn reasons(&self) -> &BTreeMap<Reason, u64> {
        &self.reasons
    }

    /// Plays a case from its beginning.
    pub(crate) fn play(&mut self, case: &Case) -> Played {
        for _ in 0..100 {
            let before = self.tick();
            self.reset(before);
            let played = self.play_once(case, before);
            if self.tick() != before {
                continue;
            }
            match played {
                Ok(frames) => return Played::Same(frames),
                Err(why) => return Played::Differs(why),
            }
        }
        panic!("the clock goes on in the middle of every attempt: a case takes longer than a tick");
    }

    fn play_once(&mut self, case: &Case, tick: LongTick) -> Result<u64, String> {
        self.set(&case.world.desired(self.clock), usize::MAX);
        let mut frames = 0;
        for (number, step) in (1..).zip(&case.steps) {
            let now = LongTick(tick.0.wrapping_add(self.passed));
            self.model.at(now);
            match step {
                Step::Frame { port, hex, taken } => {
                    frames += 1;
                    let frame = Arriving {
                        octets: &octets(hex),
                        port: *port,
                        taken: if self.takes_headroom { *taken } else { 0 },
                    };
                    let where_from = |why| format!("step {number}, a frame by {port}: {why}");
                    self.compare(&frame, now).map_err(where_from)?;
                }
                Step::Tables(world) => self.set(&world.desired(self.clock), usize::MAX),
                Step::Begun(world, some) => self.set(&world.desired(self.clock), *some),
                Step::Later(ticks) => self.pass(*ticks, tick),
                Step::Silent(ticks) => {
                    self.control
                        .store(0, HEARTBEAT, tick.0.wrapping_sub(*ticks).into());
                    self.model.heard(LongTick(now.0.wrapping_sub(*ticks)));
                }
                Step::Tended => {
                    self.ebpf().tend_now().unwrap();
                    self.model.tend().unwrap();
                }
            }
        }
        let after = |why| format!("after the last step: {why}");
        self.compare_tables().map_err(after)?;
        self.compare_counters().map_err(after)?;
        Ok(frames)
    }

    /// Everything is as at the start.
    fn reset(&mut self, now: LongTick) {
        self.model.at(now);
        self.set(&Desired::default(), usize::MAX);
        let words = [&self.conns, &self.templates].map(MappedArray::all_words);
        for word in words
            .into_iter()
            .flatten()
            .chain(self.overflows.all_words())
        {
            word.store(0, Ordering::Release);
        }
        self.model.forget();
        self.passed = 0;
        self.counted = self.counts();
        self.hear(now);
    }

    /// The agent is heard of now.
    fn hear(&mut self, tick: LongTick) {
        self.control.store(0, HEARTBEAT, tick.0.into());
        self.model.heard(LongTick(tick.0.wrapping_add(self.passed)));
    }

    /// Changes the tables, by at most so many steps.
    fn set(&mut self, wanted: &Desired, most: usize) {
        for change in steps(&self.installed, wanted).iter().take(most) {
            self.apply(change);
        }
    }

    fn apply(&mut self, change: &Change) {
        self.ebpf().apply(change).unwrap();
        self.model.apply(change).unwrap();
        self.installed.apply(change);
    }

    /// Time passes.
    fn pass(&mut self, ticks: u32, tick: LongTick) {
        for way in [&self.conns, &self.templates].into_iter().flat_map(ways_of) {
            let state = State(way.load(Ordering::Acquire));
            if state.kind() != Kind::Free {
                let expiry = Tick(state.expiry().0.wrapping_sub(ticks) & MASK);
                way.store(state.with(state.kind(), expiry).0, Ordering::Release);
            }
        }
        self.untouch(ticks);
        self.passed += ticks;
        self.model.at(LongTick(tick.0.wrapping_add(self.passed)));
        self.hear(tick);
    }

    /// Whatever replies are found by was last touched so many ticks earlier.
    fn untouch(&self, ticks: u32) {
        for at in 0..self.infos.len() {
            let mut info = self.infos.read(at);
            if info.flags & FLOW_OF_REPLIES != 0 {
                let mut way = WayBack::unpack(info.way_back);
                way.touched = Tick(way.touched.0.wrapping_sub(ticks) & MASK);
                info.way_back = way.pack();
                self.infos.write(at, &info);
            }
        }
    }

    /// Sends a frame to both, and compares what comes out and what is counted.
    fn compare(&mut self, frame: &Arriving<'_>, now: LongTick) -> Result<(), String> {
        let (port, taken) = (frame.port, frame.taken);
        let frame = frame.octets;
        let seen = view::check(frame);
        let outcome = self.program.run_behind(frame, port, taken).unwrap();
        let now_counted = self.counts();
        let (reasons, events) = std::mem::replace(&mut self.counted, now_counted.clone());
        let (reasons_now, events_now) = now_counted;
        let rise = |now: Vec<u64>, before: Vec<u64>| -> Vec<u64> {
            now.iter()
                .zip(before)
                .map(|(now, before)| now - before)
                .collect()
        };
        let (reasons, events) = (rise(reasons_now, reasons), rise(events_now, events));
        let hash = self.model.connection_hash(frame);
        let present = LongTick(now.0.wrapping_sub(self.passed)).short();
        let mut seen_outside = SeenOutside {
            conns: &self.conns,
            names: &self.backend_names,
            flow: (hash, present),
            outcome: &outcome,
            taken,
        };
        let verdict = self.model.decide_by(frame, port, now, &mut seen_outside);
        *self.reasons.entry(verdict.reason).or_default() += 1;
        for event in &verdict.events {
            *self.events.entry(*event).or_default() += 1;
        }
        let is_sent = matches!(outcome.action, Action::Tx | Action::Redirect);
        let faults = [
            seen.err(),
            difference("reasons", &of_reasons(&reasons), &vec![verdict.reason]),
            difference("events", &of_events(&events), &sorted(&verdict.events)),
            difference("actions", &outcome.action, &action(verdict.action)),
            frames_differ(&outcome, &verdict),
            is_sent
                .then(|| view::check_sent(frame, &outcome.frame).err())
                .flatten(),
        ];
        let faults: Vec<_> = faults.into_iter().flatten().collect();
        if faults.is_empty() {
            return Ok(());
        }
        let traffic = verdict
            .traffic
            .map(|t| format!("{} to {}", t.service, t.server.1));
        Err(format!(
            "{}\n{}model: {:?}, {traffic:?}",
            faults.join("\n"),
            show(frame),
            verdict.reason
        ))
    }

    /// Packets by reason and events so far.
    fn counts(&self) -> (Vec<u64>, Vec<u64>) {
        let per_cpu = self.counters.get(&0, 0).unwrap();
        let reason = |at: usize| per_cpu.iter().map(|cpu| cpu.reasons[at]).sum();
        let event = |at: usize| per_cpu.iter().map(|cpu| cpu.events[at]).sum();
        let reasons = (0..reason::REASON_SLOTS).map(reason);
        let events = (0..reason::EVENT_SLOTS).map(event);
        (reasons.collect(), events.collect())
    }

    /// The program's.
    pub(crate) fn ebpf(&mut self) -> &mut Ebpf {
        self.ebpf.as_mut().unwrap()
    }

    /// The present, as the program sees it.
    fn tick(&mut self) -> LongTick {
        pinned::now(self.ebpf())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let removed = self.ebpf.take().map(Ebpf::remove);
        if !std::thread::panicking() {
            removed.unwrap().unwrap();
        }
    }
}

/// A frame that comes in.
struct Arriving<'a> {
    octets: &'a [u8],
    /// Index of the interface.
    port: u32,
    /// Octets of the headroom that are taken.
    taken: usize,
}

pub(crate) fn difference<T: std::fmt::Debug + PartialEq>(
    what: &str,
    found: &T,
    model: &T,
) -> Option<String> {
    (found != model).then(|| format!("{what} differ: program {found:?}, model {model:?}"))
}

fn frames_differ(outcome: &Outcome, verdict: &Verdict) -> Option<String> {
    let wanted = verdict.frame.as_ref()?;
    (outcome.frame != *wanted).then(|| compare(wanted, &outcome.frame))
}

fn of_reasons(rise: &[u64]) -> Vec<Reason> {
    let times = |at: usize| usize::try_from(rise[at]).unwrap();
    let all = Reason::ALL
        .iter()
        .flat_map(|reason| vec![*reason; times(*reason as usize)]);
    all.collect()
}

fn of_events(rise: &[u64]) -> Vec<Event> {
    let times = |at: usize| usize::try_from(rise[at]).unwrap();
    let all = Event::ALL
        .iter()
        .flat_map(|event| vec![*event; times(*event as usize)]);
    all.collect()
}

/// In the order of their numbers, as they are counted.
fn sorted(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    events.sort_unstable();
    events
}

const fn action(verdict: reason::Verdict) -> Action {
    match verdict {
        reason::Verdict::Pass => Action::Pass,
        reason::Verdict::Tx => Action::Tx,
        reason::Verdict::Redirect => Action::Redirect,
        reason::Verdict::Drop => Action::Drop,
    }
}

/// The state words of a table.
fn ways_of(
    table: &MappedArray<PlaceMemory>,
) -> impl Iterator<Item = &std::sync::atomic::AtomicU64> {
    table.all_words().iter().skip(1).step_by(2)
}
