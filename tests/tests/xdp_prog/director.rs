//! A director to send packets through: the real program, its tables set up as the agent sets them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use xdp_lb::config::model::XdpMode;
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::ebpf::{Dry, Ebpf, Options};
use xdp_lb::dataplane::pins::Pins;
use xdp_lb::plan::desired::Desired;
use xdp_lb::plan::diff::{Change, steps};
use xdp_lb::plan::installed::Installed;
use xdp_lb::sys::{bpffs, clock};
use xdp_lb_common::tick::{Clock, LongTick, Tick};
use xdp_lb_common::watch::Decision;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::program::{Outcome, Program};

use crate::eyes::Eyes;
use crate::pinned::{self, second_handle};
use crate::tables::{OTHER_PORT, PORT};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs a test in a network namespace that has the two ports of the tables, on a thread of its own.
pub(crate) fn in_a_network(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this suite needs root");
        eprintln!("SKIPPED: this suite needs root");
        return;
    }
    bpffs::ensure().unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let netns = Netns::create(&format!("{}{number}", unique_prefix("xp"))).unwrap();
    let ports = [("in", PORT), ("out", OTHER_PORT)]
        .map(|(name, index)| format!("link add {name} index {index} type veth peer {name}-far"));
    netns.ip(&ports.join("\n")).unwrap();
    netns.run(test).unwrap();
}

/// A director. Its program and maps go when it is dropped, also by a panic.
pub(crate) struct Director {
    /// `None` only while it is being dropped.
    ebpf: Option<Ebpf>,
    options: Options,
    program: Program,
    eyes: Eyes,
    installed: Installed,
    /// The same program, loaded to look.
    dry: OnceLock<Mutex<Dry>>,
}

impl Director {
    /// The smallest tables there are, with this in them.
    pub(crate) fn new(wanted: &Desired) -> Self {
        Self::with(wanted, |_options| ())
    }

    /// One that is asked what it would do before a packet is sent.
    pub(crate) fn looking(wanted: &Desired) -> Self {
        let mut director = Self::new(wanted);
        director.look_ahead();
        director
    }

    /// Other sizes or timeouts. Without a say the tables are the smallest: 2,048 ways each.
    pub(crate) fn with(wanted: &Desired, adjust: impl FnOnce(&mut Options)) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let instance = format!("t-{}-{number}", std::process::id());
        let mut options = Options::new(&instance, clock::kernel().unwrap());
        (options.connections, options.templates) = (1024, 1024);
        adjust(&mut options);
        let mut ebpf = Ebpf::open(&options).unwrap();
        let pins = Pins::new(&instance);
        let program = second_handle(&mut ebpf, &pins.map("program"));
        let mut director = Self {
            ebpf: Some(ebpf),
            options,
            program,
            eyes: Eyes::open(&pins),
            installed: Installed::default(),
            dry: OnceLock::new(),
        };
        director.set(wanted);
        director
    }

    /// Ends as an agent that is killed does, and starts again: the maps are all that is left.
    pub(crate) fn restart(&mut self, wanted: &Desired) {
        self.reopen();
        self.set(wanted);
    }

    /// As [`Self::restart`], up to the first change of the tables.
    pub(crate) fn reopen(&mut self) {
        self.reopen_with(|_options| (), |_program| ());
    }

    /// As [`Self::reopen`], with other options; its predecessor's program gets packets while it starts.
    pub(crate) fn reopen_with(
        &mut self,
        adjust: impl FnOnce(&mut Options),
        meanwhile: impl FnOnce(&Program),
    ) {
        drop(self.ebpf.take());
        self.dry = OnceLock::new();
        adjust(&mut self.options);
        let mut ebpf = Ebpf::open(&self.options).unwrap();
        assert!(ebpf.took_over(), "{:?}", ebpf.notes());
        meanwhile(&self.program);
        // It loads its program when it is put on the first interface.
        ebpf.attach("in", PORT, XdpMode::Generic).unwrap();
        let pins = Pins::new(&self.options.instance);
        self.program = second_handle(&mut ebpf, &pins.map("program"));
        self.eyes = Eyes::open(&pins);
        let servers = ebpf.inherited().servers.keys().copied();
        self.installed = Installed::inherited(&ebpf.inherited().services, servers);
        self.ebpf = Some(ebpf);
    }

    /// Ends, starts with other options and ends again before it is on an interface. The next start has
    /// these options too.
    pub(crate) fn end_early(&mut self, adjust: impl FnOnce(&mut Options)) {
        drop(self.ebpf.take());
        adjust(&mut self.options);
        drop(Ebpf::open(&self.options).unwrap());
    }

    /// The name of the instance.
    pub(crate) fn instance(&self) -> &str {
        &self.options.instance
    }

    /// Changes the tables step by step, as the agent does.
    pub(crate) fn set(&mut self, wanted: &Desired) {
        for change in steps(&self.installed, wanted) {
            self.apply(&change);
        }
        assert_eq!(steps(&self.installed, wanted), [], "what was wanted stands");
    }

    /// The steps that are to be taken.
    pub(crate) fn steps_to(&self, wanted: &Desired) -> Vec<Change> {
        steps(&self.installed, wanted)
    }

    /// Carries out one step.
    pub(crate) fn apply(&mut self, change: &Change) {
        self.ebpf().apply(change).unwrap();
        self.installed.apply(change);
    }

    /// The data plane.
    pub(crate) fn ebpf(&mut self) -> &mut Ebpf {
        self.ebpf.as_mut().unwrap()
    }

    /// Runs the program on a frame that came in by [`PORT`].
    pub(crate) fn send(&self, frame: &[u8]) -> Outcome {
        self.program.run(frame, PORT).unwrap()
    }

    /// What the program says would become of a frame that came in by [`PORT`], and that it changed nothing
    /// by the question. `None` if nobody looks ahead.
    pub(crate) fn foresee(&self, frame: &[u8]) -> Option<Decision> {
        let dry = self.dry.get()?;
        let before = self.eyes().memory();
        let foreseen = dry.lock().unwrap().decide(frame, PORT).unwrap();
        let changed = before.difference(&self.eyes().memory());
        assert_eq!(changed, None, "a question changed something");
        Some(foreseen)
    }

    /// From here on [`Self::foresee`] knows.
    pub(crate) fn look_ahead(&mut self) {
        if self.dry.get().is_none() {
            let dry = self.ebpf().glass().dry().unwrap();
            assert!(self.dry.set(Mutex::new(dry)).is_ok());
        }
    }

    /// The program, for several threads.
    pub(crate) const fn program(&self) -> &Program {
        &self.program
    }

    /// The program once more, for threads that send while the tables change.
    pub(crate) fn second_program(&mut self) -> Program {
        let pin = Pins::new(&self.options.instance).map("program");
        second_handle(self.ebpf(), &pin)
    }

    /// What stands in the maps.
    pub(crate) const fn eyes(&self) -> &Eyes {
        &self.eyes
    }

    /// How this kernel counts time.
    pub(crate) const fn clock(&self) -> Clock {
        self.options.clock
    }

    /// The agent has not been heard of for so many ticks.
    pub(crate) fn be_silent_for(&mut self, ticks: u32) {
        let heartbeat = LongTick(self.long_now().0.wrapping_sub(ticks));
        self.eyes.set_heartbeat(heartbeat);
    }

    /// For how many ticks the agent has not been heard of.
    pub(crate) fn silent_for(&mut self) -> i32 {
        self.long_now().since(self.eyes.heartbeat())
    }

    /// The present, as the program sees it.
    pub(crate) fn now(&mut self) -> Tick {
        self.long_now().short()
    }

    fn long_now(&mut self) -> LongTick {
        pinned::now(self.ebpf())
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let removed = self.ebpf.take().map(Ebpf::remove);
        if !std::thread::panicking() {
            removed.unwrap().unwrap();
        }
    }
}
