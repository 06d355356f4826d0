//! The loop that runs the routers, on a thread of its own: sockets, commands and the clock in;
//! adverts out at once, everything else by the [`Outlet`].
//!
//! A turn takes the time first, then everything that had arrived by then, and only then looks which
//! timers have run out: an advert that waits in a socket is no silence.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::delays::Delays;
use super::outlet::Outlet;
use super::settings::{Tuning, groups, instances, source};
use super::sockets::{Arrival, Sockets, Wanted};
use super::turns::{LONGEST_WAIT, Turns};
use super::{Command, Report};
use crate::agent::drive::Clock;
use crate::agent::notify::Notification;
use crate::config::model::{Config, LinkDelay};
use crate::machine::{Machine as _, Now};
use crate::net::announce::Announcer;
use crate::plan::belongings::virtual_name;
use crate::plan::table::Network;
use crate::sys::command::notify::Subject;
use crate::vrrp::group::{Action, Input, RouterId, Routers};
use crate::vrrp::priority::{Condition, Kind};
use crate::vrrp::router::{self, Notice, Predecessor, Snapshot, State};
use crate::vrrp::{Priority, Wall};

/// Commands taken before sockets and timers are looked after.
const COMMANDS: usize = 64;
/// Between two attempts to wait, when waiting fails.
const PAUSE: Duration = Duration::from_millis(10);

/// Everything the thread owns.
#[derive(Debug)]
pub(super) struct Driver {
    clock: Clock,
    commands: mpsc::UnboundedReceiver<Command>,
    wake: UnixStream,
    outlet: Outlet,
    turns: Turns,
    routers: Routers,
    /// As of the last turn.
    snapshots: BTreeMap<RouterId, Snapshot>,
    config: Arc<Config>,
    network: Network,
    /// By the names of instances; those that are gone may have routers that are still leaving.
    tuning: BTreeMap<String, Tuning>,
    /// Interfaces, as the routers were told.
    told: BTreeMap<String, Condition>,
    delays: Delays,
    /// Source addresses, as the routers were told.
    sources: BTreeMap<RouterId, Option<IpAddr>>,
    sockets: Sockets,
    announcer: Option<Announcer>,
    actions: Vec<Action>,
    is_stopping: bool,
    /// There may be other instances.
    is_new: bool,
}

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There may be more to take in.
    Again,
    /// Nothing, until something happens.
    Wait,
    /// The end.
    End,
}

impl Driver {
    /// Has no routers yet.
    pub(super) fn new(
        clock: Clock,
        commands: mpsc::UnboundedReceiver<Command>,
        wake: UnixStream,
        outlet: Outlet,
        turns: Turns,
    ) -> Self {
        Self {
            clock,
            commands,
            wake,
            outlet,
            turns,
            routers: Routers::new(),
            snapshots: BTreeMap::new(),
            config: Arc::default(),
            network: Network::default(),
            tuning: BTreeMap::new(),
            told: BTreeMap::new(),
            delays: Delays::default(),
            sources: BTreeMap::new(),
            sockets: Sockets::default(),
            announcer: None,
            actions: Vec::new(),
            is_stopping: false,
            is_new: false,
        }
    }

    /// Runs until it is told to end.
    pub(super) fn run(mut self) {
        loop {
            self.turns.count();
            match self.turn() {
                Next::Again => {}
                Next::Wait => self.wait(),
                Next::End => return,
            }
        }
    }

    fn turn(&mut self) -> Next {
        let now = self.clock.now();
        let mut arrivals = Vec::new();
        let more = self.sockets.receive(now, &mut arrivals);
        for arrival in arrivals {
            self.take(now, &arrival);
        }
        let mut waiting = true;
        for _ in 0..COMMANDS {
            match self.commands.try_recv() {
                Ok(Command::Leave) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.leave();
                    return Next::End;
                }
                Ok(command) => self.obey(now, command),
                Err(mpsc::error::TryRecvError::Empty) => {
                    waiting = false;
                    break;
                }
            }
        }
        if self.routers.deadline().is_some_and(|due| due <= now) {
            self.routers.expire(now, &mut self.actions);
        }
        if self.delays.deadline().is_some_and(|due| due <= now) {
            self.follow(now);
        }
        self.sockets.expire(now);
        self.carry_out(now);
        match () {
            () if self.is_stopping && self.routers.is_idle() => Next::End,
            () if more || waiting => Next::Again,
            () => Next::Wait,
        }
    }

    /// Waits for a packet, a command or the next timer, to the nanosecond, and never so long that the
    /// thread would seem to hang.
    fn wait(&mut self) {
        let due = [
            self.routers.deadline(),
            self.sockets.deadline(),
            self.delays.deadline(),
        ];
        let due = due.into_iter().flatten().min();
        let idle = due.map_or(LONGEST_WAIT, |due| self.clock.now().until(due));
        let timeout = Some(TimeSpec::from(idle.min(LONGEST_WAIT)));
        let wake = [self.wake.as_fd()];
        let all = wake.into_iter().chain(self.sockets.descriptors());
        let mut all: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // However it ends, the next turn looks at everything; a defect must not spin in real time.
        if let Err(errno) = ppoll(&mut all, timeout, None)
            && errno != Errno::EINTR
        {
            warn!("cannot wait for adverts: {errno}");
            std::thread::sleep(PAUSE);
        }
        let mut buffer = [0; 64];
        loop {
            match self.wake.read(&mut buffer) {
                Ok(length) if length == buffer.len() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        self.routers.handle(now, input, &mut self.actions);
    }

    fn take(&mut self, now: Now, arrival: &Arrival) {
        let (interface, is_ipv6) = (&*arrival.interface, arrival.is_ipv6);
        let vrid = match &arrival.packet {
            Ok(datagram) => datagram.vrid(),
            Err(refused) => refused.vrid,
        };
        let ids = match vrid {
            Some(vrid) => self.routers.find(interface, is_ipv6, vrid),
            // It might have been for any.
            None => self.routers.find_all(interface, is_ipv6),
        };
        for id in ids {
            if !self.listens_on(id, &arrival.device) {
                continue;
            }
            let input = match arrival.packet.clone() {
                Ok(datagram) => Input::Received {
                    id,
                    datagram,
                    wall: wall(),
                },
                Err(refused) => Input::Refused(id, refused),
            };
            self.handle(now, input);
            if let Some(router) = self.routers.get(id) {
                let name = &router.settings().name;
                self.outlet.hear(name, router.other_masters());
            }
        }
    }

    /// A frame to a group may arrive on an interface and on those with a virtual MAC above it: each
    /// router hears it once.
    fn listens_on(&self, id: RouterId, device: &str) -> bool {
        let router = self.routers.get(id);
        let tuning = router.and_then(|router| self.tuning.get(&router.settings().name));
        tuning.is_none_or(|tuning| tuning.listens_on == device)
    }

    fn obey(&mut self, now: Now, command: Command) {
        match command {
            Command::Configure(config, predecessors) => {
                self.configure(now, config, predecessors);
            }
            Command::Network(network) => {
                self.network = network;
                self.follow(now);
                self.align(now);
            }
            Command::Input(input) => self.handle(now, input),
            Command::Report(reply) => {
                let snapshots = self.routers.snapshots().into_iter();
                let routers = snapshots.map(|(_, snapshot)| snapshot).collect();
                // Whoever asked may have gone.
                drop(reply.send(Report { now, routers }));
            }
            Command::Stop => {
                self.is_stopping = true;
                self.outlet.stop();
                self.handle(now, Input::Stop);
            }
            // The turn ends before this.
            Command::Leave => {}
        }
    }

    fn configure(
        &mut self,
        now: Now,
        config: Arc<Config>,
        predecessors: BTreeMap<String, Predecessor>,
    ) {
        self.config = config;
        // Before the routers come: one whose interface is down must not begin.
        self.follow(now);
        let all = instances(&self.config, &self.network);
        let tuning = all
            .iter()
            .map(|each| (each.settings.name.clone(), each.tuning.clone()));
        self.tuning.extend(tuning);
        let routers = all.into_iter().map(|each| each.settings).collect();
        let groups = groups(&self.config);
        self.handle(
            now,
            Input::Configure {
                routers,
                groups,
                predecessors,
            },
        );
        self.is_new = true;
        self.outlet.forget_inherited();
        self.sources.clear();
        self.align(now);
    }

    /// Tells the routers how interfaces and source addresses are by now.
    fn follow(&mut self, now: Now) {
        for (name, condition) in self.conditions(now) {
            if self.told.insert(name.clone(), condition) != Some(condition) {
                let kind = Kind::Interface;
                self.handle(
                    now,
                    Input::Tracked {
                        kind,
                        name,
                        condition,
                    },
                );
            }
        }
        for (id, snapshot) in self.routers.snapshots() {
            let source = self.source_of(&snapshot.name);
            if let Some(source) = source
                && self.sources.insert(id, source) != Some(source)
            {
                self.handle(now, Input::Source(id, source));
            }
        }
    }

    /// Of every interface that any router or tracker names.
    fn conditions(&mut self, now: Now) -> Vec<(String, Condition)> {
        let instances = self.config.vrrp_instances.iter();
        let own = instances.clone().map(|instance| &*instance.interface);
        let virtual_ones = instances.clone().filter_map(virtual_name);
        let of_instances = instances.flat_map(|instance| &instance.trackers.interfaces);
        let groups = self.config.sync_groups.iter();
        let of_groups = groups.flat_map(|group| &group.trackers.interfaces);
        let tracked = of_instances.chain(of_groups).map(|tracked| &*tracked.name);
        let known = self.told.keys().map(String::as_str);
        let names: BTreeSet<_> = own
            .chain(virtual_ones)
            .chain(tracked)
            .chain(known)
            .collect();
        let mut conditions = Vec::with_capacity(names.len());
        for name in names {
            let is_up = self.network.links.get(name).is_some_and(|link| link.up);
            let counted = self.told.get(name).map(|told| *told == Condition::Up);
            let delay = delay_of(name, &self.config);
            let is_up = self.delays.judge(now, delay, name, (is_up, counted));
            let condition = if is_up {
                Condition::Up
            } else {
                Condition::Down { failures: 1 }
            };
            conditions.push((name.to_owned(), condition));
        }
        conditions
    }

    /// `None` for an instance that is no longer configured.
    #[expect(
        clippy::option_option,
        reason = "no such instance, and an instance without an address, are two things"
    )]
    fn source_of(&self, name: &str) -> Option<Option<IpAddr>> {
        let mut instances = self.config.vrrp_instances.iter();
        let instance = instances.find(|instance| instance.name == name)?;
        Some(source(&self.config, instance, &self.network))
    }

    /// Opens and closes sockets.
    fn align(&mut self, now: Now) {
        let mut wanted = Wanted::default();
        for (id, snapshot) in self.routers.snapshots() {
            let router = self.routers.get(id);
            if let (Some(tuning), Some(router)) = (self.tuning.get(&snapshot.name), router) {
                wanted.add(id, router.settings(), tuning, &self.network);
            }
        }
        self.sockets.align(now, wanted);
    }

    /// Does what the routers want, in their order, and then tells the rest of the agent.
    fn carry_out(&mut self, now: Now) {
        if self.actions.is_empty() && !std::mem::take(&mut self.is_new) {
            return;
        }
        // Those that are gone by now have had their last word.
        let present = self.routers.snapshots();
        self.snapshots.extend(present.iter().cloned());
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Router(id, action) => self.carry_out_one(id, action),
                Action::Group { name, notice } => {
                    // It has no priority.
                    self.tell((Subject::Group, name), notice, Priority::RELEASE);
                }
            }
        }
        let known = self.snapshots.len();
        self.snapshots = present.into_iter().collect();
        if self.snapshots.len() != known {
            self.align(now);
        }
        let instances = self.config.vrrp_instances.iter();
        let names = instances.map(|instance| instance.name.clone());
        self.outlet.publish(names, &self.snapshots);
    }

    fn carry_out_one(&mut self, id: RouterId, action: router::Action) {
        let Some(router) = self.snapshots.get(&id) else {
            return;
        };
        let name = router.name.clone();
        match action {
            router::Action::OpenGate | router::Action::TakeAddresses => self.outlet.own(id, true),
            router::Action::CloseGate | router::Action::DropAddresses => self.outlet.own(id, false),
            router::Action::Advert {
                priority,
                destination,
            } => self.advertise(id, &name, priority, destination),
            router::Action::Announce { repeat, gap } => self.outlet.announce(&name, repeat, gap),
            router::Action::AnnounceSource => self.announce_source(id),
            router::Action::Notify { notice, priority } => {
                self.tell((Subject::Instance, name), notice, priority);
            }
            router::Action::Log(event) if event.is_warning() => warn!("{name}: {event}"),
            router::Action::Log(event) => info!("{name}: {event}"),
            router::Action::Stopped => {}
        }
    }

    fn tell(&self, (subject, name): (Subject, String), notice: Notice, priority: Priority) {
        self.outlet.notify(Notification {
            subject,
            name,
            notice,
            priority: priority.get(),
        });
    }

    fn advertise(&mut self, id: RouterId, name: &str, priority: Priority, destination: IpAddr) {
        if let Some(message) = self.routers.message(id, priority, destination, wall()) {
            self.sockets.send(id, name, &message, destination);
        }
    }

    /// The MAC of this director may have been forgotten by those who send to it by unicast.
    fn announce_source(&mut self, id: RouterId) {
        let Some(router) = self.routers.get(id) else {
            return;
        };
        let settings = router.settings();
        let Some(link) = self.network.links.get(&settings.interface) else {
            return;
        };
        if self.announcer.is_none() {
            self.announcer = Announcer::open().ok();
        }
        if let Some(announcer) = &self.announcer
            && let Err(reason) = announcer.announce(link.ifindex, link.mac, settings.source)
        {
            warn!("{}: {reason}; peers may look for it", settings.name);
        }
    }

    /// Goes without a word, but for one advert that gives a successor all the time there is.
    fn leave(&mut self) {
        for (id, snapshot) in self.routers.snapshots() {
            if snapshot.state != State::Master || snapshot.is_leaving {
                continue;
            }
            let router = self.routers.get(id);
            let destinations = router.map(|router| router.settings().destinations());
            for destination in destinations.unwrap_or_default() {
                self.advertise(id, &snapshot.name, snapshot.priority, destination);
            }
        }
    }
}

/// The delay of an interface; one with a virtual MAC has that of the one below.
fn delay_of<'c>(name: &str, config: &'c Config) -> Option<&'c LinkDelay> {
    let mut instances = config.vrrp_instances.iter();
    let above = instances.find(|instance| virtual_name(instance) == Some(name));
    let name = above.map_or(name, |instance| &*instance.interface);
    let mut delays = config.link_delays.iter();
    delays.find(|delay| delay.interface == name)
}

fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Wall(since.unwrap_or(Duration::ZERO))
}
