//! What the agent needs of the kernel beside the tables, so that it can be tested without one.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::Arc;

use xdp_lb_common::addr::Mac;

use crate::dataplane::decision::Lens;
use crate::dataplane::ebpf::shared::Shared;
use crate::dataplane::{AttachedMode, Dataplane, Error, Wish};
use crate::plan::belongings::Belonging;
use crate::plan::desired::OwnedAddress;
use crate::plan::interfaces::FarEnd;
use crate::plan::vlans::Tagging;

/// What became of something that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was not there.
    New,
    /// It was there already.
    Existed,
}

/// Puts VIPs on interfaces and tells the segment.
pub trait Links: Send + 'static {
    /// Why it could not.
    type Error: StdError + Send;

    /// Adds a VIP. One that is there already is no error.
    fn add(
        &mut self,
        address: &OwnedAddress,
    ) -> impl Future<Output = Result<Added, Self::Error>> + Send;

    /// Removes a VIP. One that is gone already, with its interface or without, is no error.
    fn remove(
        &mut self,
        address: &OwnedAddress,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Puts in place what comes with a VIP. What is there already is no error.
    fn put(
        &mut self,
        belonging: &Belonging,
    ) -> impl Future<Output = Result<Added, Self::Error>> + Send;

    /// Takes it out. What is gone already is no error.
    fn take(
        &mut self,
        belonging: &Belonging,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Has an interface leave the tags of VLANs on frames, so that the program sees them.
    fn keep_tags(&mut self, ifindex: u32) -> Result<Tagging, Self::Error>;

    /// What becomes of frames that native XDP sends by a veth.
    fn far_end(&mut self, ifindex: u32)
    -> impl Future<Output = Result<FarEnd, Self::Error>> + Send;

    /// Says once, by gratuitous ARP or a neighbour advertisement, that `vip` is at `mac`.
    fn announce(&mut self, ifindex: u32, mac: Mac, vip: IpAddr) -> Result<(), Self::Error>;
}

/// A packet path that can be put on interfaces and taken off again. Dropping it leaves everything
/// in place, for a successor to take over.
pub trait PacketPath: Dataplane + Sized + 'static {
    /// Takes the next step of what comes before the program is put on interfaces, if there is one; whether
    /// there are more. Each takes some tenths of a second.
    fn prepare(&mut self) -> Result<bool, Error>;

    /// Puts the program on an interface, or takes over where a predecessor has put it.
    fn attach(&mut self, interface: &str, ifindex: u32, wish: Wish) -> Result<AttachedMode, Error>;

    /// Takes the program off all interfaces but these, by index: off those that a predecessor has
    /// put it on and that nobody wants now.
    fn detach_others(&mut self, wanted: &BTreeSet<u32>) -> Result<(), Error>;

    /// Takes the program off every interface and removes all tables.
    fn remove(self) -> Result<(), Error>;

    /// Whether the tables are a predecessor's.
    fn took_over(&self) -> bool;

    /// What looks at its decisions, beside it; `None` if nothing can.
    fn lens(&self) -> Option<Arc<dyn Lens>>;

    /// The tables of connections, for state sync; `None` if there are none that could be shared.
    fn share(&mut self) -> Result<Option<Shared>, Error> {
        Ok(None)
    }
}
