//! The other side of direct routing: what a real server needs so that packets for a VIP, which the
//! director hands to it unchanged, are its own, while the director alone answers ARP for the VIP.
//!
//! That is each VIP as /32 (/128) on `lo`; `arp_ignore=1`, so that ARP for an address on `lo` is not
//! answered on other interfaces; and `arp_announce=2`, so that no ARP query of this host names the
//! VIP as its own. IPv6 needs no sysctl: the kernel answers a neighbour solicitation only for
//! addresses of the interface it came in on.
//!
//! In: the VIPs, and [`facts`] of this host. [`plan`] says what to change and what to remember, [`status`]
//! what is right and wrong; both are pure. [`RealServer`] reads, writes and remembers. It touches
//! nothing but `lo` and four sysctls, of the network namespace it runs in, and removes nothing that it
//! did not put there.

pub mod facts;
pub mod plan;
pub mod status;

mod state;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use facts::{Facts, Host, LO, Sysctl};
use plan::{Entry, Plan, Step};
use state::StateFile;
use status::Finding;

use crate::net::addresses::Addresses;
use crate::net::netlink::host_net;
use crate::plan::desired::OwnedAddress;

/// `RT_SCOPE_HOST`: such an address is never chosen as the source of this host's own connections.
const SCOPE_HOST: u8 = 254;

/// Why a real server could not be set up, undone or looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be a VIP.
    #[error("{0} cannot be a virtual IP address")]
    NotAVip(IpAddr),
    /// The kernel refused.
    #[error(transparent)]
    Network(#[from] crate::net::Error),
    /// There is no loopback interface in this network namespace.
    #[error("this network namespace has no interface {LO}")]
    NoLoopback,
    /// A sysctl cannot be read or written.
    #[error("cannot {operation} {sysctl}: {source}")]
    Sysctl {
        /// `read` or `set`.
        operation: &'static str,
        /// Which one.
        sysctl: Sysctl,
        /// The reason.
        source: io::Error,
    },
    /// The file that says what to restore cannot be read or written.
    #[error("cannot {operation} {path}: {source}")]
    State {
        /// `read`, `write` or `lock`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file that says what to restore is damaged.
    #[error(
        "{path} is damaged ({source}); remove it, and undo by hand what an earlier 'xdp-lb \
         realserver up' did: VIPs on lo, arp_ignore, arp_announce"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

/// This host as a real server, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct RealServer {
    addresses: Addresses,
    state: StateFile,
}

impl RealServer {
    /// Opens it. Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        Self::open_in(Path::new("/run/xdp-lb"))
    }

    /// The same, with what is to be restored remembered in `folder`.
    pub fn open_in(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            addresses: Addresses::open()?,
            state: StateFile::of_this_namespace(folder)?,
        })
    }

    /// The VIPs that earlier runs of [`RealServer::up`] set up; empty if there were none.
    pub fn vips(&self) -> Result<BTreeSet<IpAddr>, Error> {
        Ok(self.state.read()?.vips.into_keys().collect())
    }

    /// Makes this host a real server of `vips`, in addition to those of earlier runs. Each line of
    /// `tell` is something that was done or that stood already. Returns what is right and wrong
    /// afterwards: some of it may be beyond us, such as a VIP on another interface.
    pub async fn up(
        &self,
        vips: &BTreeSet<IpAddr>,
        mut tell: impl FnMut(&str),
    ) -> Result<Vec<Finding>, Error> {
        if let Some(vip) = vips.iter().find(|vip| !may_be_vip(**vip)) {
            return Err(Error::NotAVip(*vip));
        }
        let _lock = self.state.lock()?;
        let plan = plan::up(&self.facts().await?, &self.state.read()?, vips);
        // Before the first change: whatever happens now, `down` can undo it.
        self.state.write(&plan.saved)?;
        self.carry_out(&plan, &mut tell).await?;
        self.status(vips).await
    }

    /// Undoes what [`RealServer::up`] did for `vips`, or for all of its VIPs; the sysctls with the
    /// last of them.
    pub async fn down(
        &self,
        vips: Option<&BTreeSet<IpAddr>>,
        mut tell: impl FnMut(&str),
    ) -> Result<(), Error> {
        let _lock = self.state.lock()?;
        let saved = self.state.read()?;
        let plan = plan::down(&self.facts().await?, &saved, vips);
        // The memory goes last: a run that fails half-way can be repeated.
        self.carry_out(&plan, &mut tell).await?;
        self.state.write(&plan.saved)
    }

    /// What is right and what is wrong for these VIPs.
    pub async fn status(&self, vips: &BTreeSet<IpAddr>) -> Result<Vec<Finding>, Error> {
        Ok(status::judge(&self.facts().await?, vips))
    }

    async fn carry_out(&self, plan: &Plan, tell: &mut impl FnMut(&str)) -> Result<(), Error> {
        let lo = loopback()?;
        for entry in &plan.entries {
            if let Entry::Do(step) = entry {
                self.perform(lo, step).await?;
            }
            tell(&entry.to_string());
        }
        Ok(())
    }

    async fn perform(&self, lo: u32, step: &Step) -> Result<(), Error> {
        // Never where this host's own packets come from.
        let on_lo = |vip: IpAddr| {
            let plain = OwnedAddress::new(lo, host_net(vip));
            if vip.is_ipv4() {
                OwnedAddress {
                    scope: SCOPE_HOST,
                    ..plain
                }
            } else {
                OwnedAddress {
                    preferred_s: 0,
                    ..plain
                }
            }
        };
        match step {
            Step::Set { sysctl, to, .. } => facts::write(sysctl, *to)?,
            Step::Add(vip) => {
                self.addresses.add(&on_lo(*vip)).await?;
            }
            Step::Remove(vip) => self.addresses.remove(&on_lo(*vip)).await?,
        }
        Ok(())
    }

    async fn facts(&self) -> Result<Facts, Error> {
        let links = self.addresses.interfaces().await?;
        let addresses = self.addresses.list_all().await?;
        let hosts = links.into_iter().map(|link| Host {
            addresses: addresses
                .iter()
                .filter(|address| address.ifindex == link.ifindex)
                .map(|address| address.address)
                .collect(),
            name: link.name,
            up: link.up,
        });
        facts::read(hosts.collect())
    }
}

fn loopback() -> Result<u32, Error> {
    nix::net::if_::if_nametoindex(LO).map_err(|_none| Error::NoLoopback)
}

fn may_be_vip(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || broadcast)
}
