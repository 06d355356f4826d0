//! Interfaces with the virtual MAC of a router (`use_vmac`): a macvlan on the interface that the
//! router runs on, set up as keepalived does it.
//!
//! The VIP moves with its MAC then, and neighbours need not learn a new one. What it takes of the
//! kernel's settings is put back as it was when the last of them goes.

use std::fs;
use std::path::{Path, PathBuf};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use nix::ifaddrs::getifaddrs;
use nix::libc::{EEXIST, ENODEV};
use nix::net::if_::{if_indextoname, if_nametoindex};
use xdp_lb_common::addr::Mac;

use super::addresses::Added;
use super::batch::{Batch, Request};
use super::{Error, addresses};
use crate::plan::belongings::VirtualLink;

pub use crate::plan::belongings::router_mac as mac;

/// Where the settings of interfaces are, of the namespace of the thread that asks.
const SETTINGS: &str = "/proc/sys/net";

/// The name that keepalived gives the interface of a router. `beside_v4` is for an IPv6 router where
/// an IPv4 router has the same number.
pub fn name(vrid: u8, beside_v4: bool) -> String {
    let prefix = if beside_v4 { "vrrp6" } else { "vrrp" };
    format!("{prefix}.{vrid}")
}

/// Makes and removes such interfaces in the network namespace of the thread that opened it, on which
/// it must stay.
#[derive(Debug)]
pub struct Vmacs {
    kernel: Batch,
    /// The interfaces that stand.
    standing: Vec<u32>,
    /// Settings of others as they were, the oldest first.
    before: Vec<(PathBuf, String)>,
}

impl Vmacs {
    /// Opens a connection to the kernel.
    pub fn open() -> Result<Self, Error> {
        Self::resume(Vec::new())
    }

    /// As [`Vmacs::open`], with the settings that a predecessor changed, as they were before.
    pub fn resume(before: Vec<(PathBuf, String)>) -> Result<Self, Error> {
        let kernel = Batch::open()?;
        Ok(Self {
            kernel,
            standing: Vec::new(),
            before,
        })
    }

    /// Settings of others that were changed, as they were, the oldest first: for a successor.
    pub fn before(&self) -> &[(PathBuf, String)] {
        &self.before
    }

    /// Makes an interface unless it stands.
    ///
    /// # Errors
    ///
    /// As [`Vmacs::create`].
    pub fn put(&mut self, link: &VirtualLink) -> Result<Added, Error> {
        let stood = if_nametoindex(&*link.name).ok();
        if stood.is_some_and(|index| self.standing.contains(&index)) {
            return Ok(Added::Existed);
        }
        self.create(link)?;
        Ok(if stood.is_some() {
            Added::Existed
        } else {
            Added::New
        })
    }

    /// Removes an interface; one that is gone is no error.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub fn take(&mut self, link: &VirtualLink) -> Result<(), Error> {
        self.standing.retain(|index| if_indextoname(*index).is_ok());
        match if_nametoindex(&*link.name) {
            // Somebody else's may bear the name by now.
            Ok(index) if has_mac(&link.name, link.mac()) => self.remove(index),
            Ok(_) | Err(_) => {
                self.restore_if_last();
                Ok(())
            }
        }
    }

    /// Makes the interface of a router, sets it up and returns its index. One of that name and MAC, which an agent that was killed left behind, is taken over.
    ///
    /// For IPv4 it carries no IPv6, unless an address is. It never has an IPv6 address that the kernel
    /// made.
    ///
    /// # Errors
    ///
    /// No such parent, a parent that can have no macvlan, another interface of that name.
    pub fn create(&mut self, link: &VirtualLink) -> Result<u32, Error> {
        let (parent, name, mac) = (link.parent, &*link.name, link.mac());
        match self.ask(
            RouteNetlinkMessage::NewLink(macvlan(parent, name, mac)),
            NLM_F_CREATE | NLM_F_EXCL,
            &format!("make interface {name}"),
        ) {
            Err(error) if error.errno() == Some(EEXIST) && has_mac(name, mac) => {}
            Err(error) if error.errno() == Some(ENODEV) => return Err(Error::NoInterface(parent)),
            result => result?,
        }
        let index = if_nametoindex(name).map_err(|errno| Error::Refused {
            operation: format!("find interface {name}, which was just made"),
            source: errno.into(),
        })?;
        self.standing.push(index);
        if setting(name, "ipv6", "addr_gen_mode").exists() {
            self.ask(
                RouteNetlinkMessage::SetLink(no_address(index)),
                0,
                &format!("keep {name} without an IPv6 address"),
            )?;
        }
        self.set_up(link)?;
        self.ask(
            RouteNetlinkMessage::NewLink(up(index)),
            0,
            &format!("set interface {name} up"),
        )?;
        Ok(index)
    }

    /// Removes an interface that was made here, with its addresses. One that is gone is no error.
    ///
    /// # Errors
    ///
    /// What the kernel refuses.
    pub fn remove(&mut self, index: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let removed = self.ask(
            RouteNetlinkMessage::DelLink(message),
            0,
            &format!("remove {}", addresses::name(index)),
        );
        self.standing.retain(|standing| *standing != index);
        self.restore_if_last();
        match removed {
            Err(error) if error.errno() == Some(ENODEV) => Ok(()),
            result => result,
        }
    }

    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        operation: &str,
    ) -> Result<(), Error> {
        let answers = self
            .kernel
            .run(vec![Request { message, flags }], operation)?;
        for answer in answers {
            answer.map_err(|source| Error::Refused {
                operation: operation.to_owned(),
                source,
            })?;
        }
        Ok(())
    }

    fn set_up(&mut self, link: &VirtualLink) -> Result<(), Error> {
        if link.is_v6 {
            return Ok(());
        }
        let name = &*link.name;
        let parent = addresses::name(link.parent);
        // Packets that the parent sent, and those that would be answered by the parent, count here.
        set(name, "ipv4", "accept_local", "1")?;
        self.loosen_reverse_path_filter(name)?;
        // Each of the two answers ARP for its own addresses alone.
        set(name, "ipv4", "arp_ignore", "1")?;
        self.change(&parent, "arp_ignore", "1")?;
        self.change(&parent, "arp_filter", "1")?;
        // Where the parent asks for a client's MAC to answer it, the client would learn the parent's
        // MAC for the VIP. keepalived leaves this to its users.
        self.change(&parent, "arp_announce", "2")?;
        // The first VIP of a subnet may go before the others.
        set(name, "ipv4", "promote_secondaries", "1")?;
        // A kernel without IPv6 has no such setting.
        if setting(name, "ipv6", "disable_ipv6").exists() {
            let disabled = if link.carries_v6 { "0" } else { "1" };
            set(name, "ipv6", "disable_ipv6", disabled)?;
        }
        Ok(())
    }

    /// The way back to a client is by the parent: the strict filter would drop its packets here. The
    /// value for all interfaces would count as well, so each gets it as its own.
    fn loosen_reverse_path_filter(&mut self, name: &str) -> Result<(), Error> {
        let all = read(&setting("all", "ipv4", "rp_filter"))?;
        if all != "0" {
            for other in interfaces() {
                let own = read(&setting(&other, "ipv4", "rp_filter"))?;
                if own < all {
                    self.change(&other, "rp_filter", &all)?;
                }
            }
            self.change("all", "rp_filter", "0")?;
        }
        set(name, "ipv4", "rp_filter", "0")
    }

    /// Sets a setting of an interface that is not ours, and remembers what it was.
    fn change(&mut self, interface: &str, key: &str, value: &str) -> Result<(), Error> {
        let path = setting(interface, "ipv4", key);
        let before = read(&path)?;
        if before == value {
            return Ok(());
        }
        set(interface, "ipv4", key, value)?;
        self.before.push((path, before));
        Ok(())
    }

    fn restore_if_last(&mut self) {
        if self.standing.is_empty() {
            self.restore();
        }
    }

    /// Puts settings back, the last that was changed first.
    fn restore(&mut self) {
        for (path, value) in self.before.drain(..).rev() {
            // Of an interface that has gone there is nothing to put back.
            if path.exists()
                && let Err(source) = fs::write(&path, value)
            {
                tracing::warn!("{}", Error::Setting { path, source });
            }
        }
    }
}

fn setting(interface: &str, family: &str, key: &str) -> PathBuf {
    let folder = Path::new(SETTINGS).join(family).join("conf");
    folder.join(interface).join(key)
}

fn set(interface: &str, family: &str, key: &str, value: &str) -> Result<(), Error> {
    let path = setting(interface, family, key);
    fs::write(&path, value).map_err(|source| Error::Setting { path, source })
}

fn read(path: &Path) -> Result<String, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(Error::Setting {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The interfaces of this host.
fn interfaces() -> Vec<String> {
    let folder = fs::read_dir(Path::new(SETTINGS).join("ipv4/conf"));
    let entries = folder.into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name != "all" && name != "default")
        .collect()
}

fn has_mac(name: &str, mac: Mac) -> bool {
    let octets = |entry: &nix::ifaddrs::InterfaceAddress| {
        let link = entry.address.as_ref()?.as_link_addr()?;
        link.addr()
    };
    getifaddrs().is_ok_and(|mut entries| {
        entries.any(|entry| entry.interface_name == name && octets(&entry) == Some(mac.octets()))
    })
}

fn macvlan(parent: u32, name: &str, mac: Mac) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(parent),
        LinkAttribute::Address(mac.octets().to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                MacVlanMode::Private,
            )])),
        ]),
    ];
    message
}

/// Has the kernel make no IPv6 address of the link. (It is not asked for when the interface is made:
/// there is nothing of IPv6 on it then.)
fn no_address(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let generate = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let inet6 = AfSpecUnspec::Inet6(vec![generate]);
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![inet6])];
    message
}

fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_macs_are_those_of_keepalived() {
        assert_eq!(name(51, false), "vrrp.51");
        assert_eq!(name(52, true), "vrrp6.52");
        assert_eq!(mac(51, false).to_string(), "00:00:5e:00:01:33");
        assert_eq!(mac(255, false).to_string(), "00:00:5e:00:01:ff");
        assert_eq!(mac(52, true).to_string(), "00:00:5e:00:02:34");
    }
}
