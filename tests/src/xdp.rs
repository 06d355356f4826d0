//! The XDP program that a veth needs at its far end.
//!
//! `XDP_TX` on a veth hands frames to the peer's ring, and a veth reads that ring only while it has a
//! program itself. Without one the frames are counted as sent and never arrive.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};

use crate::netns::Netns;

/// Where the BPF build leaves it, below the target directory.
const RIG: &str = "bpf/bpfel-unknown-none/release/rig";

/// The object file with the programs of lab and benches. It lies in the target directory, and so does
/// whatever program asks.
pub fn rig() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let mut places = this.ancestors().map(|folder| folder.join(RIG));
    places
        .find(|path| path.is_file())
        .with_context(|| format!("no {RIG} above {}: run `cargo xtask ebpf`", this.display()))
}

/// A program that passes everything, attached to an interface until dropped.
#[derive(Debug)]
pub struct Pass {
    link: Option<FdLink>,
}

impl Pass {
    /// Attaches program `pass` of the object file `rig` to `device` in `netns`, in native mode.
    pub fn attach(rig: &Path, netns: &Netns, device: &str) -> Result<Self> {
        let link = netns
            .run(|| attach(rig, device))?
            .with_context(|| format!("cannot put XDP on {device} in {}", netns.name()))?;
        Ok(Self { link: Some(link) })
    }

    /// Leaves the program attached until `pin`, a path on a bpffs, is removed.
    pub fn keep(mut self, pin: &Path) -> Result<()> {
        if let Some(link) = self.link.take() {
            link.pin(pin)
                .with_context(|| format!("cannot pin {}", pin.display()))?;
        }
        Ok(())
    }
}

fn attach(rig: &Path, device: &str) -> Result<FdLink> {
    let mut object =
        Ebpf::load_file(rig).with_context(|| format!("cannot load {}", rig.display()))?;
    let program: &mut Xdp = object
        .program_mut("pass")
        .context("no program `pass` in the object")?
        .try_into()?;
    program.load()?;
    let id = program.attach(device, XdpMode::Driver)?;
    // The link keeps the program; the object may go.
    Ok(program.take_link(id)?.try_into()?)
}
