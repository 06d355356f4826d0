//! Directors on a link, clients beside each of them, and a clock that jumps from event to event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use xdp_lb::machine::{Machine as _, Now};
use xdp_lb::vrrp::packet::message::{decode, encode};
use xdp_lb::vrrp::packet::{Advert, Datagram, HOPS};
use xdp_lb::vrrp::priority::{Condition, Kind};
use xdp_lb::vrrp::router::{Action, Input, Predecessor, Router, State};
use xdp_lb::vrrp::settings::Settings;
use xdp_lb::vrrp::{Priority, Wall};

use crate::keepalived::{Deed, Keepalived};
use crate::random::Random;

/// What runs on a director.
pub(crate) enum Node {
    Ours(Box<Router>),
    Keepalived(Box<Keepalived>),
}

/// A director, and a client beside it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all occur together"
)]
pub(crate) struct Site {
    pub(crate) node: Node,
    /// The process runs.
    pub(crate) is_alive: bool,
    /// The addresses are on its link, be it of a process that was killed.
    pub(crate) holds: bool,
    pub(crate) gate: bool,
    /// Sites of equal number reach each other.
    pub(crate) part: u8,
    /// The process stands still until then; what arrives meanwhile waits.
    pub(crate) halted: Option<Now>,
    inbox: Vec<(usize, Vec<u8>)>,
    /// When the process was killed, as master.
    pub(crate) killed: Option<Now>,
    /// Its tracked script fails.
    pub(crate) has_fault: bool,
    /// Whose MAC the client beside it has for the address.
    pub(crate) belief: Option<usize>,
}

enum Happening {
    Arrival {
        from: usize,
        to: usize,
        message: Vec<u8>,
    },
    Announcement {
        from: usize,
        to: usize,
    },
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: Now,
    pub(crate) sites: Vec<Site>,
    pub(crate) random: Random,
    /// Of 100 messages.
    pub(crate) loss: u64,
    happenings: BTreeMap<(Now, u64), Happening>,
    count: u64,
    pub(crate) step: u64,
    pub(crate) journal: String,
}

pub(crate) fn address(site: usize) -> IpAddr {
    IpAddr::from([10, 9, 0, 11 + u8::try_from(site).unwrap()])
}

impl World {
    pub(crate) fn new(seed: u64, nodes: Vec<Node>) -> Self {
        let site = |node| Site {
            node,
            is_alive: false,
            holds: false,
            gate: false,
            part: 0,
            halted: None,
            inbox: Vec::new(),
            killed: None,
            has_fault: false,
            belief: None,
        };
        Self {
            seed,
            now: Now::ZERO,
            sites: nodes.into_iter().map(site).collect(),
            random: Random::new(seed),
            loss: 0,
            happenings: BTreeMap::new(),
            count: 0,
            step: 0,
            journal: String::new(),
        }
    }

    pub(crate) fn note(&mut self, text: &str) {
        writeln!(self.journal, "{:10.4} {text}", self.now.0.as_secs_f64()).unwrap();
    }

    /// Ends the test, with all that is needed to see why.
    pub(crate) fn fail(&self, what: &str) -> ! {
        let lines: Vec<_> = self.journal.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!(
            "{tail}\n\nseed {} step {} at {:.4} s: {what}\nreplay: XDP_LB_LAN_SEED={} cargo test -p xdp-lb --test vrrp",
            self.seed,
            self.step,
            self.now.0.as_secs_f64(),
            self.seed
        );
    }

    pub(crate) fn settings(&self, site: usize) -> &Settings {
        match &self.sites[site].node {
            Node::Ours(router) => router.settings(),
            Node::Keepalived(keepalived) => keepalived.settings(),
        }
    }

    /// Does a running process say that it is master, and mean to stay it?
    pub(crate) fn is_master(&self, site: usize) -> bool {
        let Site { node, is_alive, .. } = &self.sites[site];
        *is_alive
            && match node {
                Node::Ours(router) => {
                    router.state() == State::Master && !router.snapshot().is_leaving
                }
                Node::Keepalived(keepalived) => keepalived.is_master(),
            }
    }

    /// Takes part in elections.
    pub(crate) fn is_eligible(&self, site: usize) -> bool {
        let Site {
            node,
            is_alive,
            halted,
            has_fault,
            ..
        } = &self.sites[site];
        let runs = match node {
            Node::Ours(router) => router.state() != State::Init && !router.snapshot().is_leaving,
            Node::Keepalived(keepalived) => keepalived.runs(),
        };
        *is_alive && runs && halted.is_none() && !*has_fault
    }

    pub(crate) fn is_ours(&self, site: usize) -> bool {
        matches!(self.sites[site].node, Node::Ours(_))
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Now> {
        let deadlines = self.sites.iter().filter_map(Site::wake);
        let first = self.happenings.keys().next().map(|(at, _)| *at);
        deadlines.chain(first).min()
    }

    /// Lets the next thing happen.
    pub(crate) fn advance(&mut self) {
        let Some(next) = self.next() else { return };
        self.now = self.now.max(next);
        self.step += 1;
        if let Some(entry) = self.happenings.first_entry()
            && entry.key().0 <= self.now
        {
            let happening = entry.remove();
            self.happen(happening);
            return;
        }
        let due = |site: &Site| site.wake().is_some_and(|at| at <= self.now);
        if let Some(site) = self.sites.iter().position(due) {
            self.wake(site);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Announcement { from, to } => {
                if self.reaches(from, to) {
                    self.sites[to].belief = Some(from);
                }
            }
            Happening::Arrival { from, to, message } => {
                if !self.reaches(from, to) || !self.sites[to].is_alive {
                    return;
                }
                if self.sites[to].halted.is_some() {
                    self.sites[to].inbox.push((from, message));
                } else {
                    self.deliver(from, to, message);
                }
            }
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.sites[from].part == self.sites[to].part
    }

    fn wake(&mut self, site: usize) {
        if self.sites[site].halted.take().is_some() {
            // First what waits in the socket, then the timers: the driver's rule.
            for (from, message) in std::mem::take(&mut self.sites[site].inbox) {
                self.deliver(from, site, message);
            }
        }
        let now = self.now;
        match &mut self.sites[site].node {
            Node::Ours(_) => self.ours(site, |router, actions| router.expire(now, actions)),
            Node::Keepalived(keepalived) => {
                let deeds = keepalived.expire(now);
                self.deeds(site, &deeds);
            }
        }
        if self.deadline(site).is_some_and(|deadline| deadline <= now) {
            self.fail("a deadline in the past");
        }
    }

    fn deadline(&self, site: usize) -> Option<Now> {
        self.sites[site].deadline()
    }

    fn deliver(&mut self, from: usize, to: usize, message: Vec<u8>) {
        let (source, now) = (address(from), self.now);
        let destination = self.settings(to).destinations()[0];
        let datagram = Datagram {
            source,
            destination,
            hops: HOPS,
            message,
        };
        match &mut self.sites[to].node {
            Node::Ours(_) => {
                let wall = Wall(now.0);
                let input = Input::Received { datagram, wall };
                self.ours(to, |router, actions| router.handle(now, input, actions));
            }
            Node::Keepalived(keepalived) => {
                let advert = decode(&datagram).expect("a good advert").advert;
                let deeds = keepalived.hear(now, source, &advert);
                self.deeds(to, &deeds);
            }
        }
    }

    /// Drives a router of ours.
    pub(crate) fn ours(&mut self, site: usize, with: impl FnOnce(&mut Router, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        let Node::Ours(router) = &mut self.sites[site].node else {
            panic!("site {site} runs keepalived");
        };
        with(router, &mut actions);
        for action in actions {
            self.act(site, action);
        }
    }

    fn act(&mut self, site: usize, action: Action) {
        match action {
            Action::OpenGate => self.sites[site].gate = true,
            Action::CloseGate => self.sites[site].gate = false,
            Action::TakeAddresses => {
                if !self.sites[site].gate {
                    self.fail("addresses before the gate");
                }
                self.sites[site].holds = true;
            }
            Action::DropAddresses => self.sites[site].holds = false,
            Action::Announce { .. } => self.announce(site),
            Action::Advert {
                priority,
                destination,
            } => {
                let wall = Wall(self.now.0);
                if let Node::Ours(router) = &mut self.sites[site].node {
                    let message = router.message(priority, destination, wall);
                    self.send(site, priority, &message);
                }
            }
            Action::Log(event) => self.note(&format!("site {site}: {event}")),
            Action::Stopped => self.sites[site].is_alive = false,
            Action::Notify { .. } | Action::AnnounceSource => {}
        }
    }

    pub(crate) fn deeds(&mut self, site: usize, deeds: &[Deed]) {
        for deed in deeds {
            match deed {
                Deed::Take => {
                    self.note(&format!("site {site}: keepalived is MASTER"));
                    self.sites[site].holds = true;
                }
                Deed::Drop => {
                    self.note(&format!("site {site}: keepalived is not MASTER any more"));
                    self.sites[site].holds = false;
                }
                Deed::Announce => self.announce(site),
                Deed::Advert(priority) => {
                    let settings = self.settings(site);
                    let advert = Advert {
                        version: settings.version,
                        vrid: settings.vrid,
                        priority: *priority,
                        interval: settings.interval,
                        auth: settings.auth,
                        addresses: settings.addresses.clone(),
                    };
                    let destination = settings.destinations()[0];
                    let message = encode(&advert, address(site), destination, false);
                    self.send(site, *priority, &message);
                }
            }
        }
    }

    fn send(&mut self, from: usize, priority: Priority, message: &[u8]) {
        if priority == Priority::RELEASE {
            self.note(&format!("site {from}: sends priority 0"));
        }
        for to in 0..self.sites.len() {
            if to == from || self.random.percent(self.loss) {
                continue;
            }
            let message = message.to_vec();
            self.schedule(Happening::Arrival { from, to, message });
        }
    }

    fn announce(&mut self, from: usize) {
        self.sites[from].belief = Some(from);
        for to in (0..self.sites.len()).filter(|to| *to != from) {
            self.schedule(Happening::Announcement { from, to });
        }
    }

    /// A tenth of a millisecond to one, now and then up to eight: messages overtake each other.
    fn schedule(&mut self, happening: Happening) {
        let micros = 100 + self.random.below(900);
        let slow = if self.random.percent(3) {
            self.random.below(7_000)
        } else {
            0
        };
        let at = self.now.after(Duration::from_micros(micros + slow));
        self.happenings.insert((at, self.count), happening);
        self.count += 1;
    }

    pub(crate) fn start(&mut self, site: usize) {
        let now = self.now;
        self.sites[site].is_alive = true;
        let killed = self.sites[site].killed.take();
        let failed = self.sites[site].has_fault;
        let predecessor = killed.map(|at| Predecessor {
            silent_for: at.until(now),
        });
        self.note(&format!("site {site}: starts, {predecessor:?}"));
        match &mut self.sites[site].node {
            Node::Ours(router) => {
                **router = Router::new(now, router.settings().clone());
                self.ours(site, |router, actions| {
                    router.handle(now, script(failed), actions);
                    router.handle(now, Input::Start { predecessor }, actions);
                });
            }
            Node::Keepalived(keepalived) => {
                keepalived.start(now);
                self.sites[site].holds = false;
            }
        }
    }

    pub(crate) fn stop(&mut self, site: usize) {
        let now = self.now;
        self.note(&format!("site {site}: is told to stop"));
        match &mut self.sites[site].node {
            Node::Ours(_) => {
                self.ours(site, |router, actions| {
                    router.handle(now, Input::Stop, actions);
                });
            }
            Node::Keepalived(keepalived) => {
                let deeds = keepalived.stop();
                self.sites[site].is_alive = false;
                self.deeds(site, &deeds);
            }
        }
    }

    /// kill -9: no farewell, and the kernel keeps what it has.
    pub(crate) fn kill(&mut self, site: usize) {
        self.note(&format!("site {site}: is killed"));
        let (now, held) = (self.now, self.sites[site].holds);
        let site = &mut self.sites[site];
        site.is_alive = false;
        site.halted = None;
        site.inbox.clear();
        if let Node::Keepalived(keepalived) = &mut site.node {
            keepalived.stop();
        } else if held {
            site.killed = Some(now);
        }
    }

    pub(crate) fn set_fault(&mut self, site: usize, failed: bool) {
        let now = self.now;
        self.note(&format!(
            "site {site}: its script {}",
            if failed { "fails" } else { "succeeds" }
        ));
        self.sites[site].has_fault = failed;
        self.ours(site, |router, actions| {
            router.handle(now, script(failed), actions);
        });
    }

    pub(crate) fn set_priority(&mut self, site: usize, priority: Priority) {
        let now = self.now;
        self.note(&format!("site {site}: is given priority {priority}"));
        let mut settings = self.settings(site).clone();
        match &mut self.sites[site].node {
            Node::Keepalived(keepalived) => keepalived.set_priority(priority),
            Node::Ours(_) => {
                settings.priority = priority;
                let input = Input::Reload(Box::new(settings));
                self.ours(site, |router, actions| router.handle(now, input, actions));
            }
        }
    }
}

fn script(failed: bool) -> Input {
    let failures = 1;
    let condition = if failed {
        Condition::Down { failures }
    } else {
        Condition::Up
    };
    let name = "fatal".to_owned();
    Input::Tracked {
        kind: Kind::Script,
        name,
        condition,
    }
}

impl Site {
    fn deadline(&self) -> Option<Now> {
        match &self.node {
            Node::Ours(router) => router.deadline(),
            Node::Keepalived(keepalived) => keepalived.deadline(),
        }
    }

    /// When it does something by itself.
    fn wake(&self) -> Option<Now> {
        if !self.is_alive {
            return None;
        }
        self.halted.or_else(|| self.deadline())
    }
}
