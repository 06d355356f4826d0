//! A director's machine: its files, its nginx and its program.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xdp_lb_tests::director::traces;
use xdp_lb_tests::lan::Host;
use xdp_lb_tests::machine::Machine;
use xdp_lb_tests::peer::{Peer, Program};
use xdp_lb_tests::process::Process;

use super::ledger::Ledger;
use super::needs::Built;
use super::pair::{NAMES, Plan};
use super::server::{configure_nginx, start_nginx};

/// One of the directors.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its program.
    pub(crate) peer: Peer,
    /// nginx, while the lab started it and has not stopped it.
    pub(super) nginx: Option<Process>,
    /// Its processes and files.
    pub(crate) machine: Machine,
    /// Its namespace and link.
    pub(crate) host: Host,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    pub(super) folder: PathBuf,
}

impl Node {
    /// Writes its files, switches it on and starts nginx.
    pub(super) fn create(
        built: &Built,
        (plan, number): (&Plan, usize),
        host: Host,
        program: &Program,
        scratch: &Path,
        ledger: &mut Ledger,
    ) -> Result<Self> {
        let folder = scratch.join(NAMES[number]);
        fs::create_dir(&folder)?;
        let file = folder.join("director.conf");
        fs::write(&file, &plan.texts[number])?;
        let mut mounts = Vec::new();
        for (place, files) in plan.folders {
            let inside = folder.join(place.trim_start_matches('/').replace('/', "_"));
            for name in *files {
                // A name may have folders in it, of which the scenario's folder has none.
                let to = inside.join(name);
                let parent = to.parent().context("a file without a folder")?;
                fs::create_dir_all(parent)?;
                let from = built
                    .scenario
                    .join(to.file_name().context("a file without a name")?);
                fs::copy(&from, &to).with_context(|| from.display().to_string())?;
            }
            mounts.push((inside, PathBuf::from(place)));
        }
        configure_nginx(&built.scenarios.join("nginx.conf"), &host.name, &folder)?;
        let instance = format!("lab-{}-{}", std::process::id(), number + 1);
        if let Program::XdpLb(_) = program {
            for path in traces(&instance) {
                ledger.path(&path)?;
            }
        }
        let mut machine = Machine::new(&host.name, &host.netns, &folder, mounts);
        ledger.process(machine.power_on()?)?;
        let nginx = start_nginx(&machine.inside()?, &folder)?;
        ledger.process(&nginx)?;
        Ok(Self {
            peer: Peer::new(program.clone(), &instance, &file, &folder),
            nginx: Some(nginx),
            machine,
            address: plan.directors[number],
            host,
            folder,
        })
    }

    /// Makes it so that everything outlives this value.
    pub(super) fn keep(&mut self) {
        self.peer.keep();
        if let Some(nginx) = &mut self.nginx {
            nginx.keep();
        }
        self.machine.keep();
        self.host.netns.keep();
    }
}
