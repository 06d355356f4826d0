//! The first process of a guest: file systems, modules, the task, the end.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// Where the host reads what comes of the task.
const OUTPUT: &str = "/dev/ttyS1";
/// What to do.
const TASK: &str = "/job/task";
/// The modules to load, a path a line, in an order in which each finds what it needs.
const MODULES: &str = "/job/modules";

/// Runs the guest; it ends with it.
pub(crate) fn run() -> Result<()> {
    let done = whole();
    // On the console, if there was no other way to say it.
    if let Err(error) = &done {
        writeln!(std::io::stderr(), "@@failed {error:#}").ok();
    }
    nix::unistd::sync();
    reboot(RebootMode::RB_POWER_OFF)?;
    done
}

fn whole() -> Result<()> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        fs::create_dir_all(place)?;
        let mounted = mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        );
        mounted.with_context(|| format!("cannot mount {place}"))?;
    }
    fs::create_dir_all("/run/netns")?;
    let mut out = OpenOptions::new()
        .write(true)
        .open(OUTPUT)
        .context(OUTPUT)?;
    let done = work(&mut out);
    match &done {
        Ok(()) => writeln!(out, "@@done")?,
        Err(error) => writeln!(out, "@@failed {error:#}")?,
    }
    out.flush()?;
    Ok(())
}

fn work(out: &mut dyn Write) -> Result<()> {
    let modules = fs::read_to_string(MODULES).unwrap_or_default();
    for path in modules.lines() {
        load(Path::new(path)).with_context(|| format!("cannot load {path}"))?;
    }
    // Everybody who is refused is told.
    let limit = Path::new("/proc/sys/net/ipv4/icmp_msgs_per_sec");
    if limit.exists() {
        fs::write(limit, "1000000")?;
        fs::write("/proc/sys/net/ipv4/icmp_msgs_burst", "100000")?;
    }
    let task = fs::read_to_string(TASK).context(TASK)?;
    super::task(task.trim(), out)
}

fn load(module: &Path) -> Result<()> {
    match finit_module(File::open(module)?, c"", ModuleInitFlags::empty()) {
        // Another one brought it.
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
