//! Interfaces of every kind that this kernel has: whether they take a program, natively and in the stack,
//! against what the agent believes of them.

use std::io::Write;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aya::VerifierLogLevel;
use aya::programs::{Xdp, XdpMode};
use xdp_lb::net::link;
use xdp_lb::plan::interfaces::{Sort, is_only_generic, refusal};
use xdp_lb::sys::bpffs;
use xdp_lb_common::watch::mode;

use super::verify;

/// The smallest program of the object.
const PROGRAM: &str = "tick";

/// The interface that is looked at.
const NAME: &str = "x0";

/// What makes it, on or beside `under`, which is a veth.
const KINDS: [(&str, &str); 20] = [
    ("bond", "link add x0 type bond"),
    ("bridge", "link add x0 type bridge"),
    ("dummy", "link add x0 type dummy"),
    ("geneve", "link add x0 type geneve id 5 remote 10.0.0.1"),
    (
        "gretap",
        "link add x0 type gretap remote 10.0.0.1 local 10.0.0.2",
    ),
    ("ifb", "link add x0 type ifb"),
    (
        "ipip",
        "link add x0 type ipip remote 10.0.0.1 local 10.0.0.2",
    ),
    ("ipvlan l2", "link add x0 link under type ipvlan mode l2"),
    ("ipvlan l3", "link add x0 link under type ipvlan mode l3"),
    ("ipvtap", "link add x0 link under type ipvtap"),
    ("macvlan", "link add x0 link under type macvlan"),
    ("macvtap", "link add x0 link under type macvtap"),
    ("tap", "tuntap add dev x0 mode tap"),
    ("team", "link add x0 type team"),
    ("tun", "tuntap add dev x0 mode tun"),
    ("veth", "link add x0 type veth peer name x1"),
    ("vlan", "link add x0 link under type vlan id 10"),
    ("vrf", "link add x0 type vrf table 10"),
    (
        "vxlan",
        "link add x0 type vxlan id 5 dev under dstport 4789",
    ),
    ("wireguard", "link add x0 type wireguard"),
];

/// One line for each kind; where the kernel and the agent differ, it has the word REFUSED.
pub(crate) fn run(out: &mut dyn Write) -> Result<()> {
    bpffs::ensure()?;
    let mut bare = verify::open(mode::FORWARD, VerifierLogLevel::DISABLE)?;
    let program = bare.object().program_mut(PROGRAM).context(PROGRAM)?;
    let program: &mut Xdp = program.try_into()?;
    program.load()?;
    ip("link add under type veth peer name other")?;
    ip("link set dev under up")?;
    writeln!(
        out,
        "{:12} {:>8} {:>8}  held for",
        "interface", "native", "generic"
    )?;
    for (kind, words) in KINDS {
        // A kernel need not have all of them.
        if ip(words).is_err() {
            writeln!(out, "{kind:12} does not exist here")?;
            continue;
        }
        let found = link::named(NAME)?.context("it was just made")?;
        let (native, generic) = (
            takes(program, XdpMode::Driver)?,
            takes(program, XdpMode::Skb)?,
        );
        let word = |takes| if takes { "yes" } else { "no" };
        let wrong = if is_right(found.sort, native, generic) {
            ""
        } else {
            "  REFUSED otherwise than the agent believes"
        };
        writeln!(
            out,
            "{kind:12} {:>8} {:>8}  {:?}{wrong}",
            word(native),
            word(generic),
            found.sort
        )?;
        ip("link del x0")?;
    }
    ip("link del under")
}

/// What is refused for other reasons may take a program or not.
fn is_right(sort: Sort, native: bool, generic: bool) -> bool {
    let is_useless = refusal(NAME, sort).is_some();
    let has_native = matches!(sort, Sort::Bond | Sort::Veth | Sort::Tap);
    is_useless || generic && (native == has_native) && native != is_only_generic(sort)
}

/// Whether the kernel takes the program on the interface.
fn takes(program: &mut Xdp, how: XdpMode) -> Result<bool> {
    let Ok(link) = program.attach(NAME, how) else {
        return Ok(false);
    };
    program.detach(link)?;
    Ok(true)
}

fn ip(words: &str) -> Result<()> {
    let done = Command::new("ip").args(words.split(' ')).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "ip {words}: {}", said.trim());
    Ok(())
}
