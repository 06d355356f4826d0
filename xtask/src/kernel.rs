//! Can this machine run the suites that load programs and make namespaces? Asked by doing it.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::Xdp;
use aya::{Ebpf, TestRun as _, TestRunOptions};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use nix::unistd::geteuid;

/// Where programs and maps are pinned.
const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
/// Of linux/bpf.h.
const XDP_PASS: u32 = 2;

/// What stands in the way, one line each; nothing if the suites can run. `rig` is a built object.
pub(crate) fn obstacles(rig: &Path) -> Vec<String> {
    if !geteuid().is_root() {
        // All else would fail for this reason.
        return vec!["not root: programs cannot be loaded, nor namespaces made".to_owned()];
    }
    let checks: [(&str, Result<()>); 4] = [
        ("no BTF of the kernel", has_btf()),
        ("no network namespace can be made", makes_namespace()),
        ("the kernel does not run an XDP program", runs_program(rig)),
        ("no file system for pins", has_bpffs()),
    ];
    let failed = checks
        .into_iter()
        .filter_map(|(what, check)| Some((what, check.err()?)));
    failed
        .map(|(what, error)| format!("{what}: {error:#}"))
        .collect()
}

fn has_btf() -> Result<()> {
    let btf = "/sys/kernel/btf/vmlinux";
    fs::metadata(btf).with_context(|| format!("{btf} (CONFIG_DEBUG_INFO_BTF)"))?;
    Ok(())
}

/// Only the thread that asks moves into the new namespace; it dies with it.
fn makes_namespace() -> Result<()> {
    let made = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    let Ok(made) = made else {
        bail!("the thread panicked")
    };
    made.context("unshare(CLONE_NEWNET)")
}

/// Loads the smallest program there is and gives it a frame through the kernel's test run.
fn runs_program(rig: &Path) -> Result<()> {
    let mut object = Ebpf::load_file(rig).with_context(|| rig.display().to_string())?;
    let program = object
        .program_mut("pass")
        .context("the rig has no program `pass`")?;
    let program: &mut Xdp = program.try_into()?;
    program.load()?;
    let frame = [0; 64];
    let run = program.test_run(TestRunOptions {
        data_in: Some(&frame),
        ..Default::default()
    })?;
    ensure!(
        run.return_value == XDP_PASS,
        "a program that passes returned {}",
        run.return_value
    );
    Ok(())
}

fn has_bpffs() -> Result<()> {
    if statfs(BPFFS).is_ok_and(|found| found.filesystem_type().0 == BPFFS_MAGIC) {
        return Ok(());
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount -t bpf bpf {BPFFS}"))
}
