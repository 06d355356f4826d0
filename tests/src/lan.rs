//! A switched network: hosts, each a namespace with one interface, on one bridge.
//!
//! The bridge has a namespace of its own, so that the machine's own namespace sees none of it.

use std::process::Command;

use anyhow::Result;

use crate::link;
use crate::netns::Netns;

/// The interface that every host has.
pub const INTERFACE: &str = "eth0";

const BRIDGE: &str = "br0";

/// A switch.
#[derive(Debug)]
pub struct Lan {
    prefix: String,
    switch: Netns,
}

/// A host on the switch.
#[derive(Debug)]
pub struct Host {
    /// Its name, which is also the name of its port on the switch.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// MAC of its interface, as text in lower case.
    pub mac: String,
}

impl Host {
    /// Whether its interface has this IPv4 address, written with its prefix length.
    ///
    /// # Errors
    /// `ip` cannot be run.
    pub fn has_address(&self, address: &str) -> Result<bool> {
        let mut command = Command::new("ip");
        command.args(["-o", "-4", "address", "show", "dev", INTERFACE]);
        let addresses = self.netns.output(&mut command)?;
        Ok(addresses.contains(&format!(" {address} ")))
    }
}

impl Lan {
    /// A switch without hosts. All namespaces begin with `prefix`.
    pub fn create(prefix: &str) -> Result<Self> {
        let switch = Netns::create(&format!("{prefix}switch"))?;
        link::add_bridge(&switch, BRIDGE)?;
        Ok(Self {
            prefix: prefix.to_owned(),
            switch,
        })
    }

    /// Plugs in a host. `name` is an interface name: 15 characters at most.
    pub fn add_host<'a>(
        &self,
        name: &str,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<Host> {
        self.add_host_by(name, INTERFACE, addresses)
    }

    /// Plugs in a host whose interface has a name of its own.
    pub fn add_host_by<'a>(
        &self,
        name: &str,
        interface: &str,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<Host> {
        let netns = Netns::create(&format!("{}{name}", self.prefix))?;
        let mac = self.plug(name, (&netns, interface), addresses)?;
        Ok(Host {
            name: name.to_owned(),
            netns,
            mac,
        })
    }

    /// Plugs a host of another switch in here too, by another `interface`; returns its MAC.
    pub fn join<'a>(
        &self,
        host: &Host,
        interface: &str,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<String> {
        self.plug(&host.name, (&host.netns, interface), addresses)
    }

    fn plug<'a>(
        &self,
        name: &str,
        (netns, interface): (&Netns, &str),
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<String> {
        link::add_bridged_veth((&self.switch, BRIDGE, name), (netns, interface))?;
        link::add_addresses(netns, interface, addresses)?;
        link::finish_frames_when_sending(netns, interface)?;
        Ok(link::show(netns, interface)?.address)
    }

    /// The namespace of the switch; each host's port there has the host's name.
    pub const fn switch(&self) -> &Netns {
        &self.switch
    }

    /// Pulls a host's cable, or puts it back: either end sees it.
    pub fn set_cable(&self, host: &str, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.ip(&format!("link set dev {host} {state}"))
    }

    /// Stops a host's port from forwarding, or lets it forward again: neither end sees it.
    pub fn set_forwarding(&self, host: &str, forwards: bool) -> Result<()> {
        // BR_STATE_FORWARDING and BR_STATE_DISABLED of linux/if_bridge.h.
        self.set_port(host, "state", if forwards { "3" } else { "0" })
    }

    /// Keeps multicast frames from a host, or lets them through again. Broadcast and unicast pass.
    pub fn set_multicast(&self, host: &str, passes: bool) -> Result<()> {
        self.set_port(host, "mcast_flood", if passes { "on" } else { "off" })
    }

    fn set_port(&self, host: &str, option: &str, value: &str) -> Result<()> {
        // `ip link` takes the same words and leaves the state as it is.
        let mut command = Command::new("bridge");
        command.args(["link", "set", "dev", host, option, value]);
        self.switch.output(&mut command).map(drop)
    }

    /// Makes it so that the switch outlives this value.
    pub fn keep(&mut self) {
        self.switch.keep();
    }
}
