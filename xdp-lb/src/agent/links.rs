//! VIPs on this host's interfaces, and what comes with them.

use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use tokio::task::{JoinSet, spawn_blocking};
use tracing::warn;
use xdp_lb_common::addr::Mac;

use super::journal::Journal;
use super::seams::{Added, Links};
use crate::net;
use crate::net::addresses::{self, Addresses};
use crate::net::announce::Announcer;
use crate::net::groups::Groups;
use crate::net::routes::Routes;
use crate::net::silence::Silences;
use crate::net::vmac::Vmacs;
use crate::plan::belongings::Belonging;
use crate::plan::desired::OwnedAddress;
use crate::plan::groups::GroupNeighbour;
use crate::plan::interfaces::FarEnd;
use crate::plan::vlans::Tagging;

/// The interfaces of this host, and a memory of what was put on them.
#[derive(Debug)]
pub struct KernelLinks {
    addresses: Addresses,
    announcer: Arc<Announcer>,
    routes: Routes,
    vmacs: Vmacs,
    silences: Silences,
    groups: Arc<Groups>,
    /// Entries of groups that are being made.
    putting: JoinSet<()>,
    journal: Journal,
}

impl KernelLinks {
    /// Opens the connections to the kernel. Must be called inside a tokio runtime.
    /// `agent` is its name.
    pub fn open(journal: Journal, agent: &str) -> Result<Self, net::Error> {
        let silences = journal.belongings().iter();
        let silences = silences.filter_map(|belonging| match belonging {
            Belonging::Silence(silence) => Some(silence.clone()),
            Belonging::Link(_) | Belonging::Route(_) | Belonging::Rule(_) | Belonging::Group(_) => {
                None
            }
        });
        let silences = Silences::resume(agent, silences.collect());
        Ok(Self {
            addresses: Addresses::open()?,
            announcer: Arc::new(Announcer::open()?),
            routes: Routes::open()?,
            vmacs: Vmacs::resume(journal.settings().to_vec())?,
            silences,
            groups: Arc::new(Groups::open()?),
            putting: JoinSet::new(),
            journal,
        })
    }
}

impl KernelLinks {
    /// Nobody waits for such an entry: without it all is well until a table is full, and the kernel may
    /// be busy with links of others.
    fn put_group(&mut self, entry: GroupNeighbour) -> addresses::Added {
        // Before it stands: a successor takes out what is ours and nothing else.
        self.journal.put(&Belonging::Group(entry));
        let groups = self.groups.clone();
        self.putting.spawn(async move {
            if let Err(reason) = groups.put(&entry).await {
                warn!(
                    "{reason}; a full neighbour table would keep what is sent there from leaving"
                );
            }
        });
        addresses::Added::Existed
    }

    async fn take_group(&mut self, entry: &GroupNeighbour) -> Result<(), net::Error> {
        while self.putting.join_next().await.is_some() {}
        self.groups.take(entry).await
    }
}

impl Links for KernelLinks {
    type Error = net::Error;

    async fn add(&mut self, address: &OwnedAddress) -> Result<Added, net::Error> {
        let added = self.addresses.add(address).await?;
        if added == addresses::Added::New {
            self.journal.add(address);
        }
        let (announcer, ifindex) = (self.announcer.clone(), address.ifindex);
        // It may take long, and whoever announces must not wait.
        let prepared = spawn_blocking(move || announcer.prepare(ifindex));
        drop(prepared.await);
        Ok(added.into())
    }

    async fn remove(&mut self, address: &OwnedAddress) -> Result<(), net::Error> {
        self.addresses.remove(address).await?;
        self.journal.remove(address);
        Ok(())
    }

    /// The kernel answers within the call: nobody waits, but for `nft` where a filter is wanted.
    async fn put(&mut self, belonging: &Belonging) -> Result<Added, net::Error> {
        let added = match belonging {
            Belonging::Link(link) => self.vmacs.put(link),
            Belonging::Silence(silence) => self.silences.put(silence).await,
            Belonging::Route(route) => only(self.routes.add(slice::from_ref(route))?),
            Belonging::Rule(rule) => only(self.routes.add_rules(slice::from_ref(rule))?),
            Belonging::Group(entry) => Ok(self.put_group(*entry)),
        };
        // Also after a failure: it may have changed some.
        self.journal.set_settings(self.vmacs.before());
        let added = added?;
        if added == addresses::Added::New {
            self.journal.put(belonging);
        }
        Ok(added.into())
    }

    async fn take(&mut self, belonging: &Belonging) -> Result<(), net::Error> {
        match belonging {
            Belonging::Link(link) => self.vmacs.take(link)?,
            Belonging::Silence(silence) => self.silences.take(silence).await?,
            Belonging::Route(route) => only(self.routes.remove(slice::from_ref(route))?)?,
            Belonging::Rule(rule) => only(self.routes.remove_rules(slice::from_ref(rule))?)?,
            Belonging::Group(entry) => self.take_group(entry).await?,
        }
        self.journal.take(belonging);
        self.journal.set_settings(self.vmacs.before());
        Ok(())
    }

    fn keep_tags(&mut self, ifindex: u32) -> Result<Tagging, net::Error> {
        net::offload::keep_tags(ifindex)
    }

    async fn far_end(&mut self, ifindex: u32) -> Result<FarEnd, net::Error> {
        // The kernel may have it wait for its lock on links, and signs of life must not wait along.
        let asked = spawn_blocking(move || net::link::far_end(ifindex));
        asked.await.unwrap_or(Ok(FarEnd::Unknown))
    }

    fn announce(&mut self, ifindex: u32, mac: Mac, vip: IpAddr) -> Result<(), net::Error> {
        self.announcer.announce(ifindex, mac, vip)
    }
}

impl From<addresses::Added> for Added {
    fn from(added: addresses::Added) -> Self {
        match added {
            addresses::Added::New => Self::New,
            addresses::Added::Existed => Self::Existed,
        }
    }
}

/// The answer to a batch of one.
fn only<T>(mut answers: Vec<Result<T, net::Error>>) -> Result<T, net::Error> {
    answers.pop().unwrap_or_else(|| {
        Err(net::Error::NoAnswer {
            operation: "change what comes with a VIP".to_owned(),
        })
    })
}
