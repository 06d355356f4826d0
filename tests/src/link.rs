//! Links inside a namespace: bridges, veth pairs, addresses, offloads.

use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::netns::Netns;

/// What `ip -json` says about a link.
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// MAC, as text in lower case.
    #[serde(default)]
    pub address: String,
    /// The XDP program that is attached, if any.
    pub xdp: Option<LinkXdp>,
    /// Its addresses; filled in by [`addresses`] only.
    #[serde(default)]
    pub addr_info: Vec<Address>,
}

/// An attached XDP program.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LinkXdp {
    /// How it is attached, as the kernel numbers it: 1 native, 2 generic, 3 in hardware, 4 several.
    pub mode: u8,
    /// The program.
    pub prog: LinkProgram,
}

/// A program in the kernel.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LinkProgram {
    /// Its number.
    pub id: u32,
}

impl LinkXdp {
    /// `native`, `generic`, …
    pub const fn name(self) -> &'static str {
        match self.mode {
            1 => "native",
            2 => "generic",
            3 => "hardware",
            _ => "several",
        }
    }
}

/// An address of a link.
#[derive(Clone, Debug, Deserialize)]
pub struct Address {
    /// The address without its prefix.
    pub local: Option<String>,
    /// The length of its prefix.
    pub prefixlen: Option<u8>,
    /// Its label; the interface's name unless someone chose another.
    pub label: Option<String>,
}

/// An entry of the neighbour table.
#[derive(Clone, Debug, Deserialize)]
pub struct Neighbour {
    /// IP address.
    pub dst: String,
    /// MAC, once it is known.
    pub lladdr: Option<String>,
}

/// A bridge that learns and forwards at once.
pub fn add_bridge(netns: &Netns, name: &str) -> Result<()> {
    netns.ip(&format!(
        "link add name {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set dev {name} up"
    ))
}

/// A veth pair from `inner` in `inside` to `outer`, which becomes a port of `bridge` in `outside`.
pub fn add_bridged_veth(
    (outside, bridge, outer): (&Netns, &str, &str),
    (inside, inner): (&Netns, &str),
) -> Result<()> {
    outside.ip(&format!(
        "link add name {outer} type veth peer name {inner} netns {}\n\
         link set dev {outer} master {bridge} up",
        inside.name()
    ))?;
    inside.ip(&format!("link set dev {inner} up"))
}

/// Adds addresses, each with its prefix length.
pub fn add_addresses<'a>(
    netns: &Netns,
    device: &str,
    addresses: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let lines: Vec<_> = addresses
        .into_iter()
        .map(|address| format!("address add {address} dev {device}"))
        .collect();
    netns.ip(&lines.join("\n"))
}

/// Makes a veth send what a wire would carry: whole checksums, no frame longer than the MTU.
///
/// A local socket otherwise leaves both to the device, and XDP would forward the unfinished frame.
pub fn finish_frames_when_sending(netns: &Netns, device: &str) -> Result<()> {
    let off = ["tx", "off", "tso", "off", "gso", "off"];
    netns
        .output(Command::new("ethtool").arg("-K").arg(device).args(off))
        .map(drop)
}

/// The link as it is now, without addresses.
pub fn show(netns: &Netns, device: &str) -> Result<Link> {
    first(netns, &["-d", "link", "show", "dev", device])
}

/// The link with its addresses.
pub fn addresses(netns: &Netns, device: &str) -> Result<Link> {
    first(netns, &["address", "show", "dev", device])
}

/// The neighbour table of a link.
pub fn neighbours(netns: &Netns, device: &str) -> Result<Vec<Neighbour>> {
    list(netns, &["neighbour", "show", "dev", device])
}

fn first(netns: &Netns, arguments: &[&str]) -> Result<Link> {
    list(netns, arguments)?
        .into_iter()
        .next()
        .with_context(|| format!("`ip {}` lists nothing", arguments.join(" ")))
}

fn list<T: for<'de> Deserialize<'de>>(netns: &Netns, arguments: &[&str]) -> Result<Vec<T>> {
    let text = netns.output(Command::new("ip").arg("-json").args(arguments))?;
    serde_json::from_str(&text)
        .with_context(|| format!("`ip -json {}` said: {text}", arguments.join(" ")))
}
