//! What becomes of packets, shown while it happens: for as long as somebody watches, the program that
//! is attached is the same one in a mode in which it tells what it decides, by a ring.
//!
//! The programs are exchanged in place, so that no packet comes between two of them; a program that only
//! forwards knows nothing of all this. An agent that is killed leaves the one that tells on the links,
//! and its successor puts its own there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aya::Ebpf as Object;
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramFd, Xdp};
use aya_obj::programs::XdpAttachType;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xdp_lb_common::stage;
use xdp_lb_common::watch::{Decision, FILTERS, Filter, NOBODY, Unshown, mode};

use super::again::{self, Names, take};
use super::load::{Purpose, STAGES};
use super::{Ebpf, Options, attach};
use crate::config::model::ServiceKey;
use crate::dataplane::Error;
use crate::dataplane::decision::{Capture, Seen};
use crate::dataplane::pins::{LinkPin, Pins};

/// The ring holds some thousand decisions: so much is decided between two looks of a busy agent. Its
/// programs take the places of those that forward, those that the entry leads on to too.
const PURPOSE: Purpose = Purpose {
    mode: mode::WATCHED,
    own: &[],
    ring: 1 << 19,
};

/// Names are looked up again after this: indexes are used again, later.
const NAMES_LAST: Duration = Duration::from_secs(1);

/// The programs that forward, to put them back; `None` until they are in the kernel.
pub(super) type Plain = Arc<Mutex<Option<Programs>>>;

impl Ebpf {
    /// Hands its programs out to those who look at decisions. Without them nobody can, and all else goes on.
    pub(super) fn hand_out(&mut self) {
        let programs = Programs::of(&mut self.object, &self.pins)
            .inspect_err(|error| tracing::warn!("`xdp-lb capture` will not work: {error}"));
        *self.plain.lock().unwrap_or_else(PoisonError::into_inner) = programs.ok();
    }
}

/// The programs of one mode.
pub(super) struct Programs {
    entry: Xdp,
    stages: Vec<(u32, ProgramFd)>,
}

impl Programs {
    /// Second handles of the programs of an object.
    pub(super) fn of(object: &mut Object, pins: &Pins) -> Result<Self, Error> {
        let entry = second_handle(again::entry(object)?, pins)?;
        let mut stages = Vec::with_capacity(stage::ALL.len());
        for stage in stage::ALL {
            let program = attach::program(object, stage.name)?;
            let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?));
            stages.push((
                stage.index,
                fd.map_err(|error| cannot("reach a program", &error))?,
            ));
        }
        Ok(Self { entry, stages })
    }
}

/// A handle that lives as long as its owner likes; the kernel gives one by a name only.
fn second_handle(program: &mut Xdp, pins: &Pins) -> Result<Xdp, Error> {
    let failed = |error: &dyn std::error::Error| cannot("reach the program", error);
    let name = pins.map("once-more");
    // Of one that ended in the middle of this.
    std::fs::remove_file(&name).ok();
    program.pin(&name).map_err(|error| failed(&error))?;
    let handle = Xdp::from_pin(&name, XdpAttachType::Interface);
    std::fs::remove_file(&name).map_err(|error| failed(&error))?;
    handle.map_err(|error| failed(&error))
}

fn cannot(what: &str, error: &dyn std::error::Error) -> Error {
    Error::Load(format!("cannot {what}: {error}"))
}

/// The program, loaded to tell.
pub(super) struct Watched {
    /// Holds the programs that tell.
    _object: Object,
    pins: Pins,
    plain: Plain,
    telling: Programs,
    leads: ProgramArray<MapData>,
    filters: Array<MapData, Filter>,
    unshown: PerCpuArray<MapData, Unshown>,
    ring: RingBuf<MapData>,
    names: Known,
    /// A bit per filter in use.
    used: u32,
}

impl Watched {
    pub(super) fn open(options: &Options, plain: Plain) -> Result<Self, Error> {
        let wrong = |_wrong_type| Error::Load("a map of the capture is of another type".to_owned());
        if plain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
        {
            let why = "the program is not attached yet; try again in a moment, or see the log";
            return Err(Error::Load(why.to_owned()));
        }
        let (mut object, _key) = again::load(options, &PURPOSE)?;
        let pins = Pins::new(&options.instance);
        Ok(Self {
            telling: Programs::of(&mut object, &pins)?,
            pins,
            plain,
            leads: take(&mut object, STAGES)?.try_into().map_err(wrong)?,
            filters: take(&mut object, "FILTER")?.try_into().map_err(wrong)?,
            unshown: take(&mut object, "UNSHOWN")?.try_into().map_err(wrong)?,
            ring: take(&mut object, "DECISIONS")?.try_into().map_err(wrong)?,
            names: Known::new(Names::open(&mut object)?),
            used: 0,
            _object: object,
        })
    }

    fn set_filter(&mut self, number: u32, filter: &Filter) -> Result<(), Error> {
        let set = self.filters.set(number, filter, 0);
        set.map_err(|error| cannot("set the filter of a capture", &error))
    }

    /// Puts the programs that tell in the place of those that only forward.
    fn switch_on(&mut self) -> Result<(), Error> {
        lead_to(&mut self.leads, &self.telling.stages)?;
        attach_to_links(&self.pins, &mut self.telling.entry)
    }

    /// Puts them back.
    fn switch_off(&mut self) -> Result<(), Error> {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(plain) = plain.as_mut() else {
            return Ok(());
        };
        attach_to_links(&self.pins, &mut plain.entry)?;
        lead_to(&mut self.leads, &plain.stages)
    }
}

impl Capture for Watched {
    fn begin(&mut self, number: u32, filter: &Filter) -> Result<(), Error> {
        self.set_filter(number, filter)?;
        let is_first = self.used == 0;
        self.used |= 1 << number;
        if is_first { self.switch_on() } else { Ok(()) }
    }

    fn end(&mut self, number: u32) -> Result<(), Error> {
        self.used &= !(1 << number);
        let emptied = self.set_filter(number, &Filter::default());
        if self.used == 0 {
            self.switch_off()?;
        }
        emptied
    }

    fn tend(&mut self) -> Result<(), Error> {
        if self.used == 0 {
            return Ok(());
        }
        // The kernel does nothing where it stands already.
        attach_to_links(&self.pins, &mut self.telling.entry)
    }

    fn wait(&mut self, millis: u16) -> Result<(), Error> {
        let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(cannot("wait for decisions", &error)),
        }
    }

    fn read(&mut self, most: usize, see: &mut dyn FnMut(&Seen)) {
        for _ in 0..most {
            let Some(item) = self.ring.next() else { return };
            let Some(decision) = Decision::from_octets(&item) else {
                continue;
            };
            drop(item);
            see(&self.names.seen(decision));
        }
    }

    fn unshown(&self) -> Result<[u64; FILTERS as usize], Error> {
        let per_cpu = self.unshown.get(&0, 0);
        let per_cpu = per_cpu.map_err(|error| cannot("read what was not shown", &error))?;
        let mut sum = [0; FILTERS as usize];
        for cpu in per_cpu.iter() {
            for (sum, number) in sum.iter_mut().zip(cpu.by_filter) {
                *sum += number;
            }
        }
        Ok(sum)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.used != 0
            && let Err(error) = self.switch_off()
        {
            tracing::error!("the program goes on telling what it decides: {error}");
        }
    }
}

/// Lets the entry go on to these programs.
fn lead_to(leads: &mut ProgramArray<MapData>, stages: &[(u32, ProgramFd)]) -> Result<(), Error> {
    for (index, program) in stages {
        let set = leads.set(*index, program, 0);
        set.map_err(|error| cannot("lead on to a program", &error))?;
    }
    Ok(())
}

/// Puts the program on every interface that has one of ours, in its place. An interface that goes takes
/// its link along.
fn attach_to_links(pins: &Pins, program: &mut Xdp) -> Result<(), Error> {
    for link in pins.links()? {
        if let Err(error) = exchange(&link, program)
            && link.path.exists()
            && nix::net::if_::if_indextoname(link.ifindex).is_ok()
        {
            return Err(cannot("exchange the program of an interface", &*error));
        }
    }
    Ok(())
}

fn exchange(link: &LinkPin, program: &mut Xdp) -> Result<(), Box<dyn std::error::Error>> {
    let pinned = PinnedLink::from_pin(&link.path)?;
    let id = program.attach_to_link(XdpLink::try_from(FdLink::from(pinned))?)?;
    // The pin keeps the link; only this process's handle is closed.
    drop(program.take_link(id)?);
    Ok(())
}

/// Names as they were looked up last.
struct Known {
    names: Names,
    services: HashMap<u32, Option<ServiceKey>>,
    servers: HashMap<u32, Option<SocketAddr>>,
    since: Instant,
}

impl Known {
    fn new(names: Names) -> Self {
        Self {
            names,
            services: HashMap::new(),
            servers: HashMap::new(),
            since: Instant::now(),
        }
    }

    fn seen(&mut self, decision: Decision) -> Seen {
        if self.since.elapsed() > NAMES_LAST {
            self.services.clear();
            self.servers.clear();
            self.since = Instant::now();
        }
        let names = &self.names;
        let (service, backend) = (decision.service, decision.backend);
        let service = match service {
            NOBODY => None,
            index => *(self.services.entry(index)).or_insert_with(|| names.service(index)),
        };
        let server = match backend {
            NOBODY => None,
            index => *(self.servers.entry(index)).or_insert_with(|| names.server(index)),
        };
        Seen {
            decision,
            service,
            server,
        }
    }
}
