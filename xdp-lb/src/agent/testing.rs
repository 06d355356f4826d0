//! A kernel made of sets: what was written, and whether it was sound at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;
use xdp_lb_common::addr::Mac;

use super::seams::{Added, Links, PacketPath};
use crate::dataplane::decision::Lens;
use crate::dataplane::{AttachedMode, Counters, Dataplane, Error, Inherited, Wish};
use crate::plan::belongings::Belonging;
use crate::plan::desired::OwnedAddress;
use crate::plan::diff::Change;
use crate::plan::installed::Installed;
use crate::plan::interfaces::FarEnd;
use crate::plan::testing::unsound;
use crate::plan::vlans::Tagging;

/// A kernel that all parts of a test share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel(Arc<Mutex<State>>);

/// What the kernel holds and heard.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) tables: Installed,
    pub(crate) changes: Vec<Change>,
    /// Steps that fail.
    pub(crate) refuses: Option<fn(&Change) -> bool>,
    /// Interfaces that refuse the program.
    pub(crate) without_xdp: BTreeSet<String>,
    pub(crate) attached: Vec<(String, u32)>,
    /// Interfaces that were told to leave tags on frames.
    pub(crate) tags_kept: Vec<u32>,
    /// What becomes of frames that are sent by veths, unless they arrive.
    pub(crate) far_ends: BTreeMap<u32, FarEnd>,
    pub(crate) addresses: BTreeSet<OwnedAddress>,
    pub(crate) belongings: Vec<Belonging>,
    pub(crate) announced: Vec<(Mac, IpAddr)>,
    pub(crate) counters_fail: bool,
    /// When the agent gave a sign of life.
    pub(crate) heartbeats: Vec<Instant>,
    pub(crate) to_prepare: usize,
    /// Heartbeats before the program was put on an interface.
    pub(crate) beats_at_attach: usize,
    /// The packet path was taken away.
    pub(crate) removed: bool,
}

impl Kernel {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Steps taken since the last call.
    pub(crate) fn changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.state().changes)
    }

    pub(crate) fn vips(&self) -> Vec<IpAddr> {
        let state = self.state();
        let vips = state.addresses.iter().map(|a| a.address.addr());
        vips.collect()
    }

    fn take(&self, change: &Change) -> Result<(), Error> {
        let mut state = self.state();
        if state.refuses.is_some_and(|refuses| refuses(change)) {
            return Err(Error::Load(format!("no {change:?} today")));
        }
        state.tables.apply(change);
        if let Some(fault) = unsound(&state.tables) {
            panic!("after {change:#?}: {fault}");
        }
        state.changes.push(change.clone());
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct FakeDataplane {
    pub(crate) kernel: Kernel,
    pub(crate) inherited: Inherited,
}

impl Dataplane for FakeDataplane {
    fn apply(&mut self, change: &Change) -> Result<(), Error> {
        self.kernel.take(change)
    }

    fn heartbeat(&mut self) -> Result<(), Error> {
        self.kernel.state().heartbeats.push(Instant::now());
        Ok(())
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        if self.kernel.state().counters_fail {
            return Err(Error::Load("no counters today".to_owned()));
        }
        Ok(Counters::default())
    }

    fn inherited(&self) -> &Inherited {
        &self.inherited
    }
}

impl PacketPath for FakeDataplane {
    fn prepare(&mut self) -> Result<bool, Error> {
        let mut state = self.kernel.state();
        state.to_prepare = state.to_prepare.saturating_sub(1);
        Ok(state.to_prepare > 0)
    }

    fn attach(&mut self, interface: &str, ifindex: u32, wish: Wish) -> Result<AttachedMode, Error> {
        let mut state = self.kernel.state();
        if state.without_xdp.contains(interface) {
            return Err(Error::Attach(format!("{interface} has no XDP")));
        }
        state.beats_at_attach = state.heartbeats.len();
        state.attached.push((interface.to_owned(), ifindex));
        let (Wish::Only(mode) | Wish::First(mode)) = wish;
        Ok(mode)
    }

    fn detach_others(&mut self, wanted: &BTreeSet<u32>) -> Result<(), Error> {
        let attached = &mut self.kernel.state().attached;
        attached.retain(|(_, ifindex)| wanted.contains(ifindex));
        Ok(())
    }

    fn remove(self) -> Result<(), Error> {
        let mut state = self.kernel.state();
        state.attached.clear();
        state.tables = Installed::default();
        state.removed = true;
        Ok(())
    }

    fn took_over(&self) -> bool {
        self.inherited != Inherited::default()
    }

    fn lens(&self) -> Option<Arc<dyn Lens>> {
        None
    }
}

#[derive(Debug)]
pub(crate) struct FakeLinks(pub(crate) Kernel);

impl Links for FakeLinks {
    type Error = Error;

    async fn add(&mut self, address: &OwnedAddress) -> Result<Added, Error> {
        self.0.take(&Change::AddAddress(address.clone()))?;
        let new = self.0.state().addresses.insert(address.clone());
        Ok(if new { Added::New } else { Added::Existed })
    }

    async fn remove(&mut self, address: &OwnedAddress) -> Result<(), Error> {
        self.0.take(&Change::RemoveAddress(address.clone()))?;
        self.0.state().addresses.remove(address);
        Ok(())
    }

    async fn put(&mut self, belonging: &Belonging) -> Result<Added, Error> {
        self.0.take(&Change::Put(belonging.clone()))?;
        let stands = &mut self.0.state().belongings;
        if stands.contains(belonging) {
            return Ok(Added::Existed);
        }
        stands.push(belonging.clone());
        Ok(Added::New)
    }

    async fn take(&mut self, belonging: &Belonging) -> Result<(), Error> {
        self.0.take(&Change::Take(belonging.clone()))?;
        self.0.state().belongings.retain(|other| other != belonging);
        Ok(())
    }

    fn keep_tags(&mut self, ifindex: u32) -> Result<Tagging, Error> {
        self.0.state().tags_kept.push(ifindex);
        Ok(Tagging::SwitchedOff)
    }

    async fn far_end(&mut self, ifindex: u32) -> Result<FarEnd, Error> {
        let known = self.0.state().far_ends.get(&ifindex).copied();
        Ok(known.unwrap_or(FarEnd::Takes))
    }

    fn announce(&mut self, _: u32, mac: Mac, vip: IpAddr) -> Result<(), Error> {
        self.0.state().announced.push((mac, vip));
        Ok(())
    }
}
