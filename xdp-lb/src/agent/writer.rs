//! Takes the steps from what stands to what is wanted, and copes with those that fail.
//!
//! A step that fails holds back what builds on it and nothing else: while the record of a new server
//! does not fit into the tables, a dead one still leaves the schedule. What failed is said once, with
//! what it means, and tried again whenever the writer is called.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;

use ipnet::IpNet;
use tokio::time::sleep_until;
use tracing::{debug, error, info, warn};

use super::pulse::Pulse;
use super::seams::{Added, Links};
use crate::config::model::ServiceKey;
use crate::dataplane::Dataplane;
use crate::plan::belongings::Belonging;
use crate::plan::desired::{Desired, OwnedAddress, Reach};
use crate::plan::diff::{Change, steps, steps_of};
use crate::plan::installed::{Installed, ServerKey};
use crate::plan::interfaces::FarEnd;
use crate::plan::table::Network;
use crate::plan::vlans::Tagging;

/// The writer of the tables and the links.
#[derive(Debug)]
pub struct Writer<D, L> {
    dataplane: D,
    links: L,
    installed: Installed,
    pulse: Pulse,
    /// Of the last [`Writer::write`].
    troubles: Troubles,
    /// Of the last [`Writer::restore`].
    lost: Troubles,
    /// Of the last [`Writer::put_back`].
    strayed: Troubles,
}

/// What a run of the writer did.
#[derive(Debug, Default)]
pub struct Written {
    /// VIPs that came onto a link, or were found there.
    pub added: Vec<OwnedAddress>,
    /// Something failed and should be tried again.
    pub incomplete: bool,
}

impl<D: Dataplane, L: Links> Writer<D, L> {
    /// A writer that finds `installed` in place.
    pub fn new(dataplane: D, links: L, installed: Installed) -> Self {
        Self {
            dataplane,
            links,
            installed,
            pulse: Pulse::new(),
            troubles: Troubles::default(),
            lost: Troubles::default(),
            strayed: Troubles::default(),
        }
    }

    /// See [`Links::keep_tags`].
    pub fn keep_tags(&mut self, ifindex: u32) -> Result<Tagging, L::Error> {
        self.links.keep_tags(ifindex)
    }

    /// See [`Links::far_end`].
    pub async fn far_end(&mut self, ifindex: u32) -> Result<FarEnd, L::Error> {
        let Self {
            dataplane,
            links,
            pulse,
            ..
        } = self;
        alive(pulse, dataplane, links.far_end(ifindex)).await
    }

    /// Brings tables and links as near to `wanted` as they will go.
    pub async fn write(&mut self, wanted: &Desired, network: &Network) -> Written {
        self.pulse.suit(wanted);
        self.take_steps(wanted, network, steps).await
    }

    /// The same where nothing but the servers and schedules of these services differs, and where
    /// nothing has failed before: what others hold is not looked at.
    pub async fn write_services(
        &mut self,
        wanted: &Desired,
        keys: &BTreeSet<ServiceKey>,
    ) -> Written {
        let steps = |installed: &Installed, wanted: &Desired| steps_of(installed, wanted, keys);
        // No step is about an address.
        self.take_steps(wanted, &Network::default(), steps).await
    }

    async fn take_steps(
        &mut self,
        wanted: &Desired,
        network: &Network,
        steps: impl Fn(&Installed, &Desired) -> Vec<Change>,
    ) -> Written {
        let mut written = Written::default();
        let mut pass = Pass::default();
        let mut possible = Cow::Borrowed(wanted);
        loop {
            pass.blocked.clear();
            for change in steps(&self.installed, &possible) {
                // Many steps may take longer than a lease lasts.
                self.beat();
                self.step(&change, network, &mut pass, &mut written).await;
            }
            // The rest of a service must not wait for a server that the tables refuse.
            if pass.refused.is_empty() || !exclude(possible.to_mut(), &pass.refused) {
                break;
            }
        }
        // What was added last is announced now, and its gate must be open then.
        self.beat();
        written.incomplete = !pass.failed.is_empty();
        self.troubles.are(pass.failed);
        written
    }

    async fn step(
        &mut self,
        change: &Change,
        network: &Network,
        pass: &mut Pass,
        written: &mut Written,
    ) {
        if pass.holds_back(change, &self.installed) {
            return;
        }
        match self.carry_out(change, network).await {
            Ok(()) => {
                self.installed.apply(change);
                if let Change::AddAddress(address) = change {
                    written.added.push(address.clone());
                }
            }
            Err(reason) => pass.fail(change, &reason),
        }
    }

    async fn carry_out(&mut self, change: &Change, network: &Network) -> Result<(), String> {
        let Self {
            dataplane,
            links,
            pulse,
            ..
        } = self;
        match change {
            Change::AddAddress(address) => {
                let added = alive(pulse, dataplane, links.add(address)).await;
                added.map(|_| ()).map_err(|error| error.to_string())
            }
            // An interface takes its addresses with it.
            Change::RemoveAddress(address) if network.link(address.ifindex).is_none() => Ok(()),
            Change::RemoveAddress(address) => {
                let removed = alive(pulse, dataplane, links.remove(address)).await;
                removed.map_err(|error| error.to_string())
            }
            Change::Put(belonging) => {
                let put = alive(pulse, dataplane, links.put(belonging)).await;
                put.map(|_| ()).map_err(|error| error.to_string())
            }
            Change::Take(belonging) => {
                let taken = alive(pulse, dataplane, links.take(belonging)).await;
                taken.map_err(|error| error.to_string())
            }
            Change::SetPort(..)
            | Change::SetServer(..)
            | Change::SetService(..)
            | Change::SetActive(..)
            | Change::PurgeServer(..)
            | Change::RemoveServer(..)
            | Change::RemoveService(..)
            | Change::RemovePort(..) => {
                let applied = dataplane.apply(change);
                applied.map_err(|error| error.to_string())
            }
        }
    }

    /// What the program learns of the agent's life.
    pub const fn pulse(&mut self) -> &mut Pulse {
        &mut self.pulse
    }

    /// Gives the program the sign of life that is due, if one is.
    pub fn beat(&mut self) {
        self.pulse.beat(&mut self.dataplane);
    }

    /// Gives the program a sign of life out of turn.
    pub fn beat_now(&mut self) {
        self.pulse.beat_now(&mut self.dataplane);
    }

    /// Puts back those of the VIPs that somebody else removed, and returns them.
    pub async fn restore(
        &mut self,
        is_missing: impl Fn(&OwnedAddress) -> bool,
    ) -> Vec<OwnedAddress> {
        let mut restored = Vec::new();
        let mut lost = BTreeSet::new();
        for address in &self.installed.addresses {
            if !is_missing(address) {
                continue;
            }
            let add = self.links.add(address);
            match alive(&mut self.pulse, &mut self.dataplane, add).await {
                Ok(Added::Existed) => {}
                Ok(Added::New) => restored.push(address.clone()),
                Err(reason) => {
                    let change = Change::AddAddress(address.clone());
                    lost.insert(trouble(&change, &reason));
                }
            }
        }
        self.lost.are(lost);
        restored
    }

    /// Puts back what came with VIPs and somebody else removed, and returns it.
    pub async fn put_back(&mut self, is_missing: impl Fn(&Belonging) -> bool) -> Vec<Belonging> {
        let mut restored = Vec::new();
        let mut lost = BTreeSet::new();
        for belonging in &self.installed.belongings {
            if !is_missing(belonging) {
                continue;
            }
            let put = self.links.put(belonging);
            match alive(&mut self.pulse, &mut self.dataplane, put).await {
                Ok(Added::Existed) => {}
                Ok(Added::New) => restored.push(belonging.clone()),
                Err(reason) => {
                    let change = Change::Put(belonging.clone());
                    lost.insert(trouble(&change, &reason));
                }
            }
        }
        self.strayed.are(lost);
        restored
    }

    /// Tells the segment where a VIP is now, by that many frames.
    pub fn announce(&mut self, address: &OwnedAddress, frames: u32, network: &Network) {
        let vip = address.address.addr();
        let Some((name, link)) = network.link(address.ifindex) else {
            return;
        };
        for _ in 0..frames {
            if let Err(reason) = self.links.announce(link.ifindex, link.mac, vip) {
                warn!(
                    "neighbours were not told that {vip} is here now, and may send to where it was \
                     before: {reason}"
                );
                return;
            }
        }
        debug!("announced {vip} on {name}");
    }

    /// What stands by now.
    pub fn installed(&self) -> &Installed {
        &self.installed
    }

    /// The data plane.
    pub fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }

    /// Ends the writing; everything stays as it is.
    pub fn into_parts(self) -> (D, L) {
        (self.dataplane, self.links)
    }
}

/// Waits for the kernel, and gives the program signs of life meanwhile: it changes one link at a time,
/// and those who make and remove many can hold up a step for longer than a lease lasts.
async fn alive<T>(
    pulse: &mut Pulse,
    dataplane: &mut impl Dataplane,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        pulse.beat(dataplane);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(pulse.due()) => {}
        }
    }
}

/// What a step is about: steps of one scope build on each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Port(u32),
    Service(ServiceKey),
    Address(OwnedAddress),
    Belonging(String),
}

impl Scope {
    fn of(change: &Change) -> Self {
        match change {
            Change::SetPort(ifindex, _) | Change::RemovePort(ifindex) => Self::Port(*ifindex),
            Change::SetServer(key, _)
            | Change::SetService(key, _)
            | Change::SetActive(key, _)
            | Change::PurgeServer(key, _)
            | Change::RemoveServer(key, _)
            | Change::RemoveService(key) => Self::Service(*key),
            Change::AddAddress(address) | Change::RemoveAddress(address) => {
                Self::Address(address.clone())
            }
            Change::Put(belonging) | Change::Take(belonging) => {
                Self::Belonging(belonging.to_string())
            }
        }
    }
}

/// What failed in one run of the writer.
#[derive(Debug, Default)]
struct Pass {
    /// Scopes whose further steps must wait.
    blocked: BTreeSet<Scope>,
    /// Servers whose record the tables refuse.
    refused: BTreeSet<ServerKey>,
    /// Everything that did not work, in words.
    failed: BTreeSet<String>,
}

impl Pass {
    /// Whether a step builds on one that failed.
    fn holds_back(&mut self, change: &Change, installed: &Installed) -> bool {
        if let Change::SetServer(key, server) = change
            && let Some(Reach::Direct { ifindex, .. }) = server.reach
            && !installed.ports.contains_key(&ifindex)
        {
            self.refused.insert((*key, server.address));
            self.blocked.insert(Scope::Service(*key));
        }
        if let Change::RemovePort(ifindex) = change
            && is_used(*ifindex, installed)
        {
            return true;
        }
        self.blocked.contains(&Scope::of(change))
    }

    fn fail(&mut self, change: &Change, reason: &str) {
        if let Change::SetServer(key, server) = change {
            self.refused.insert((*key, server.address));
        }
        self.blocked.insert(Scope::of(change));
        self.failed.insert(trouble(change, reason));
    }
}

fn is_used(ifindex: u32, installed: &Installed) -> bool {
    let mut records = installed.servers.values().flatten();
    records.any(
        |server| matches!(server.reach, Some(Reach::Direct { ifindex: i, .. }) if i == ifindex),
    )
}

/// Takes servers out of what is wanted; whether there were any.
fn exclude(wanted: &mut Desired, refused: &BTreeSet<ServerKey>) -> bool {
    let mut any = false;
    for (key, service) in &mut wanted.services {
        let before = service.servers.len();
        let fits = |address: SocketAddr| !refused.contains(&(*key, address));
        service.servers.retain(|server| fits(server.address));
        any |= service.servers.len() != before;
    }
    any
}

/// What does not work at the moment, so that it is said once.
#[derive(Debug, Default)]
struct Troubles {
    known: BTreeSet<String>,
}

impl Troubles {
    /// Says what is new and what is over.
    fn are(&mut self, now: BTreeSet<String>) {
        for new in now.difference(&self.known) {
            error!("{new}; trying again");
        }
        for over in self.known.difference(&now) {
            info!("over: {over}");
        }
        self.known = now;
    }
}

fn trouble(change: &Change, reason: impl fmt::Display) -> String {
    format!("{}: {reason}", Meaning(change))
}

/// What it means that a step failed.
struct Meaning<'a>(&'a Change);

impl fmt::Display for Meaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vip = |address: &IpNet| address.addr();
        match self.0 {
            Change::SetPort(ifindex, _) => {
                write!(f, "interface {ifindex} leads to no real server")
            }
            Change::SetServer(key, server) => {
                write!(f, "{} gets no connections of {key}", server.address)
            }
            Change::SetService(key, _) => {
                write!(f, "{key} is balanced as before, or not at all")
            }
            Change::SetActive(key, true) => write!(f, "{key} is not balanced"),
            Change::SetActive(key, false) => write!(f, "{key} is still balanced here"),
            Change::AddAddress(address) => {
                write!(f, "{} is not on this host", vip(&address.address))
            }
            Change::RemoveAddress(address) => {
                write!(f, "{} is still on this host", vip(&address.address))
            }
            Change::Put(belonging) => write!(f, "{belonging} is not in place"),
            Change::Take(belonging) => write!(f, "{belonging} is still in place"),
            Change::PurgeServer(key, address) => {
                write!(f, "connections of {key} stay with {address}, which failed")
            }
            Change::RemoveServer(key, address) => {
                write!(f, "{address} stays in the tables of {key}")
            }
            Change::RemoveService(key) => write!(f, "{key} stays in the tables"),
            Change::RemovePort(ifindex) => {
                write!(f, "interface {ifindex} stays in the tables")
            }
        }
    }
}
