//! VIPs on this host's interfaces.

use std::net::IpAddr;

use xdp_lb_common::addr::Mac;

use super::journal::Journal;
use super::seams::{Added, Links};
use crate::net;
use crate::net::addresses::{self, Addresses};
use crate::net::announce::Announcer;
use crate::plan::desired::OwnedAddress;

/// The interfaces of this host, and a memory of the VIPs that were put on them.
#[derive(Debug)]
pub struct KernelLinks {
    addresses: Addresses,
    announcer: Announcer,
    journal: Journal,
}

impl KernelLinks {
    /// Opens the connections to the kernel. Must be called inside a tokio runtime.
    pub fn open(journal: Journal) -> Result<Self, net::Error> {
        Ok(Self {
            addresses: Addresses::open()?,
            announcer: Announcer::open()?,
            journal,
        })
    }
}

impl Links for KernelLinks {
    type Error = net::Error;

    async fn add(&mut self, address: &OwnedAddress) -> Result<Added, net::Error> {
        match self.addresses.add(address).await? {
            addresses::Added::New => {
                self.journal.add(address);
                Ok(Added::New)
            }
            addresses::Added::Existed => Ok(Added::Existed),
        }
    }

    async fn remove(&mut self, address: &OwnedAddress) -> Result<(), net::Error> {
        self.addresses.remove(address).await?;
        self.journal.remove(address);
        Ok(())
    }

    fn announce(&mut self, ifindex: u32, mac: Mac, vip: IpAddr) -> Result<(), net::Error> {
        self.announcer.announce(ifindex, mac, vip)
    }
}
