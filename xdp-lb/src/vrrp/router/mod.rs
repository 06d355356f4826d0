//! One virtual router: the state machine of RFC 9568 section 6.4 (RFC 3768 section 6.4 for version 2).
//!
//! In: [`Input`]s. Out: [`Action`]s. `receive` judges datagrams; `backup` and `master` are what the two
//! states do with adverts and timers; `change` is how one becomes the other; `garp` is when a master
//! announces itself; [`event`] is what people read, in the words of `words`; [`stats`] what is counted.
//!
//! Where this differs from the RFCs, it is for what was measured of them:
//!
//! - An advert of priority 0 never prolongs a backup's wait, and only its master's counts, so neither
//!   repeating it nor forging it for another keeps anybody from taking over.
//! - A master that meets another master announces its addresses again when it wins and sends a last
//!   advert when it loses, so that the winner, whoever it is, announces them: after a partition heals
//!   no client is left with the loser's MAC.
//! - A master that stops sends priority 0, and soon again, then goes on holding the addresses and
//!   forwarding until its successor's advert arrives.
//! - An advert with another interval or other addresses is accepted and remarked on.
//! - A master that was driven so late that another may have taken over announces itself again or
//!   yields; a backup that was driven late listens once more before it takes over.
//!
//! Taking over goes gate, advert, addresses, announcement, so that nobody sends here before the packet
//! path balances; giving up goes advert, addresses, gate.

mod backup;
mod change;
pub mod event;
mod garp;
mod input;
mod master;
mod receive;
pub mod stats;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::packet::message::encode;
use super::packet::{Advert, Refused};
use super::priority::{Condition, Kind, Trackers};
use super::settings::Settings;
use super::{Priority, Wall};
use crate::machine::{Machine, Now};

pub use event::{Event, Fault, State, Why};
pub use input::{Action, Input, Notice, Predecessor};
pub use stats::{Heard, LastRefused, Snapshot, Stats};

use backup::Backup;
use master::Master;
use receive::Receiver;

/// Where a router is in its life.
#[derive(Clone, Debug)]
enum Phase {
    /// Not started, or stopped.
    Idle,
    /// Started, in `vrrp_startup_delay`.
    Delayed {
        until: Now,
    },
    Backup(Backup),
    Master(Master),
    Fault,
}

/// What a sync group makes of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::vrrp) struct Membership {
    /// The group's name.
    pub(in crate::vrrp) group: String,
    /// `sync_group_tracking_weight`.
    pub(in crate::vrrp) weights: bool,
    /// Another member that has a fault.
    pub(in crate::vrrp) faulty: Option<String>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Router {
    settings: Settings,
    phase: Phase,
    receiver: Receiver,
    trackers: Trackers,
    /// The effective priority.
    priority: Priority,
    /// How long a worse master is left alone because state sync is not up to date.
    patience: Option<Duration>,
    is_interface_up: bool,
    has_source: bool,
    membership: Option<Membership>,
    stats: Stats,
    since: Now,
    why: Option<Why>,
}

impl Router {
    /// A router in INIT. Until it is told otherwise its interface is up and its trackers are well.
    pub fn new(now: Now, settings: Settings) -> Self {
        Self {
            phase: Phase::Idle,
            receiver: Receiver::new(&settings),
            trackers: Trackers::new(settings.trackers.clone()),
            priority: settings.priority,
            patience: None,
            is_interface_up: true,
            has_source: !settings.source.is_unspecified(),
            membership: None,
            stats: Stats::default(),
            since: now,
            why: None,
            settings,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its state.
    pub const fn state(&self) -> State {
        match self.phase {
            Phase::Idle | Phase::Delayed { .. } => State::Init,
            Phase::Backup(_) => State::Backup,
            Phase::Master(_) => State::Master,
            Phase::Fault => State::Fault,
        }
    }

    /// The bytes of an advert, as [`Action::Advert`] wants it sent.
    pub fn message(&mut self, priority: Priority, destination: IpAddr, wall: Wall) -> Vec<u8> {
        let settings = &self.settings;
        let advert = Advert {
            version: settings.version,
            vrid: settings.vrid,
            priority,
            interval: settings.interval,
            auth: settings.auth,
            addresses: settings.addresses.clone(),
        };
        let (source, plain) = (settings.source, settings.v3_checksum_as_v2);
        let mut message = encode(&advert, source, destination, plain);
        if let Some(authenticator) = self.receiver.authenticator() {
            authenticator.seal(&mut message, source, wall);
        }
        message
    }

    /// The other routers that were last heard as master.
    pub fn other_masters(&self) -> BTreeSet<IpAddr> {
        let stats = &self.stats;
        let heard = [stats.last_master, stats.last_other_master];
        heard
            .into_iter()
            .flatten()
            .map(|heard| heard.from)
            .collect()
    }

    /// What others may know of it.
    pub fn snapshot(&self) -> Snapshot {
        let settings = &self.settings;
        let master = match &self.phase {
            Phase::Master(_) => Some(settings.source),
            Phase::Backup(backup) => backup.master(),
            Phase::Idle | Phase::Delayed { .. } | Phase::Fault => None,
        };
        Snapshot {
            name: settings.name.clone(),
            interface: settings.interface.clone(),
            source: settings.source,
            transport: settings.transport.clone(),
            interval: settings.interval,
            vrid: settings.vrid,
            version: settings.version,
            state: self.state(),
            is_leaving: self.is_leaving(),
            base_priority: settings.priority,
            priority: self.priority,
            master,
            addresses: settings.addresses.clone(),
            since: self.since,
            why: self.why.clone(),
            stats: self.stats.clone(),
        }
    }

    fn received(
        &mut self,
        now: Now,
        datagram: &super::packet::Datagram,
        wall: Wall,
        actions: &mut Vec<Action>,
    ) {
        let from = datagram.source;
        match self.receiver.check(&self.settings, datagram, wall) {
            Err(reason) => {
                let refused = Refused {
                    sender: Some(from),
                    vrid: datagram.vrid(),
                    reason,
                };
                self.refused(now, refused, actions);
            }
            Ok(advert) => {
                self.stats.adverts_received += 1;
                let (settings, stats) = (&self.settings, &mut self.stats);
                let remarks = self.receiver.remark(settings, &advert, from, stats);
                actions.extend(remarks.into_iter().map(Action::Log));
                self.heard(now, from, &advert, actions);
            }
        }
    }

    fn refused(&mut self, now: Now, refused: Refused, actions: &mut Vec<Action>) {
        let event = self.receiver.refuse(now, refused, &mut self.stats);
        actions.extend(event.map(Action::Log));
    }

    /// An advert that this router should listen to.
    fn heard(&mut self, now: Now, from: IpAddr, advert: &Advert, actions: &mut Vec<Action>) {
        // Whoever has to yield to this one need not announce itself before.
        if (advert.priority, from) < (self.priority, self.settings.source) {
            self.check_lateness(now, actions);
        }
        let heard = Heard {
            from,
            priority: advert.priority,
            interval: advert.interval,
            at: now,
        };
        if advert.priority == Priority::RELEASE {
            self.stats.releases_received += 1;
        } else {
            self.stats.last_master = Some(heard);
        }
        match self.phase {
            Phase::Idle | Phase::Delayed { .. } | Phase::Fault => {}
            Phase::Backup(_) => self.heard_as_backup(now, heard),
            Phase::Master(_) => self.heard_as_master(now, heard, actions),
        }
    }

    fn tracked(
        &mut self,
        now: Now,
        (kind, name): (Kind, &str),
        condition: Condition,
        actions: &mut Vec<Action>,
    ) {
        if let Some(cause) = self.trackers.set(kind, name, condition) {
            self.reassess(now, Some(cause), actions);
        }
    }

    fn source(&mut self, now: Now, source: Option<IpAddr>, actions: &mut Vec<Action>) {
        self.has_source = source.is_some();
        if let Some(source) = source
            && source != self.settings.source
        {
            self.settings.source = source;
            self.advertise_change(now, actions);
        }
        self.reassess(now, None, actions);
    }

    /// Takes other settings; `known` is how trackers are that it may not have had.
    pub(in crate::vrrp) fn reload(
        &mut self,
        now: Now,
        settings: Settings,
        known: &[(Kind, String, Condition)],
        actions: &mut Vec<Action>,
    ) {
        if settings == self.settings {
            return;
        }
        let old = std::mem::replace(&mut self.settings, settings);
        if old.source != self.settings.source {
            self.has_source = !self.settings.source.is_unspecified();
        }
        self.receiver.reconfigure(&self.settings);
        self.trackers.replace(self.settings.trackers.clone());
        for (kind, name, condition) in known {
            self.trackers.set(*kind, name, *condition);
        }
        self.reassess(now, None, actions);
        if let Phase::Master(master) = &mut self.phase {
            master.reconfigure(now, &self.settings);
            self.advertise_change(now, actions);
            // What moves with the router beside its addresses may have changed, too.
            if !self.is_leaving() {
                actions.push(Action::TakeAddresses);
            }
        }
        if old.addresses != self.settings.addresses {
            self.announce(now, actions);
        }
    }
}

impl Machine for Router {
    type Input = Input;
    type Action = Action;

    fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Start { predecessor } => self.start(now, predecessor, actions),
            Input::Received { datagram, wall } => self.received(now, &datagram, wall, actions),
            Input::Refused(refused) => self.refused(now, refused, actions),
            Input::Interface { up } => {
                self.is_interface_up = up;
                self.reassess(now, None, actions);
            }
            Input::Source(source) => self.source(now, source, actions),
            Input::Tracked {
                kind,
                name,
                condition,
            } => {
                self.tracked(now, (kind, &name), condition, actions);
            }
            Input::Patience(patience) => self.patience = patience,
            Input::Reload(settings) => self.reload(now, *settings, &[], actions),
            Input::Stop => self.stop(now, actions),
        }
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.check_lateness(now, actions);
        match &self.phase {
            Phase::Delayed { until } if *until <= now => self.begin(now, Why::Started, actions),
            Phase::Idle | Phase::Delayed { .. } | Phase::Fault => {}
            Phase::Backup(_) => self.expire_backup(now, actions),
            Phase::Master(_) => self.expire_master(now, actions),
        }
    }

    fn deadline(&self) -> Option<Now> {
        match &self.phase {
            Phase::Idle | Phase::Fault => None,
            Phase::Delayed { until } => Some(*until),
            Phase::Backup(backup) => backup.deadline(),
            Phase::Master(master) => Some(master.deadline()),
        }
    }
}
