//! `cargo xtask lab down`: removes clusters that no running lab owns.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use xdp_lb_tests::netns::Netns;
use xdp_lb_tests::process::end_group;

use super::ledger::{self, Entries, Undo};
use super::steps::tell;

/// What a process gets to end by itself; the director takes back its VIPs and pins meanwhile.
const GRACE: Duration = Duration::from_secs(5);

/// Removes them all.
pub(crate) fn run() -> Result<()> {
    let mut removed = 0;
    for (path, entries) in ledger::all()? {
        if entries.owner.is_alive() && !entries.kept {
            tell(&format!(
                "left alone: lab {} is running\n",
                entries.owner.pid
            ));
            continue;
        }
        take_down(&entries)?;
        ledger::forget(&path)?;
        removed += 1;
        tell(&format!(
            "removed the cluster of lab {}\n",
            entries.owner.pid
        ));
    }
    if removed == 0 {
        tell("no cluster to remove\n");
    }
    Ok(())
}

fn take_down(entries: &Entries) -> Result<()> {
    // Last started, first ended: the director before the servers.
    for process in entries.processes.iter().rev() {
        end_group(process.pid, process.started, GRACE)?;
    }
    for Undo { namespace, words } in &entries.undo {
        if let (Some(netns), [program, rest @ ..]) = (Netns::existing(namespace), &words[..]) {
            // Of what it could undo, most goes with the namespace.
            if let Err(error) = netns.output(Command::new(program).args(rest)) {
                tell(&format!("warning: {error:#}\n"));
            }
        }
    }
    for name in &entries.namespaces {
        if let Some(mut netns) = Netns::existing(name) {
            netns.delete()?;
        }
    }
    for path in &entries.paths {
        remove(path)?;
    }
    Ok(())
}

/// Removes a file or a folder with all it holds; nothing there is well, too.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    result.map_err(|error| anyhow::anyhow!("cannot remove {}: {error}", path.display()))
}
