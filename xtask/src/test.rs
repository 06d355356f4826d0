//! Runs every test. The crate in tests/ holds the suites that need root and a kernel with BPF.

use std::env;
use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::progress::say;
use crate::{ebpf, kernel, packages, tree};

/// Programs that the suites call.
const PACKAGES: [&str; 9] = [
    "dnsmasq-base",
    "ethtool",
    "iproute2",
    // For rules that mark packets.
    "iptables",
    // For no_accept.
    "nftables",
    "openssl",
    "psmisc",
    "python3-aiosmtpd",
    "tcpdump",
];

/// The verb `test`.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    let objects = ebpf::build()?;
    let mut obstacles = kernel::obstacles(&objects.rig);
    if obstacles.is_empty() {
        let needed = packages::ensure(&PACKAGES)
            .and_then(|()| packages::ensure_keepalived())
            .and_then(|()| packages::ensure_nginx());
        obstacles.extend(needed.err().map(|error| format!("{error:#}")));
    }
    if obstacles.is_empty() {
        return cargo_test(&["--workspace"], args);
    }
    let list = obstacles.join("; ");
    if env::var_os("CI").is_some_and(|value| value == "true") {
        bail!("the suites in tests/ cannot run: {list}");
    }
    if !args.is_empty() {
        say(format_args!(
            "note: the suites in tests/ would fail here ({list})"
        ));
        return cargo_test(&[], args);
    }
    let notice = format!("SKIPPED: the suites in tests/ ({list})");
    say(format_args!("{notice}"));
    cargo_test(&["--workspace", "--exclude", "xdp-lb-tests"], args)?;
    // Again where a person looks for the outcome.
    say(format_args!("{notice}"));
    Ok(())
}

/// `chosen` by the user takes the place of the usual selection. One suite that fails does not hide
/// the others.
fn cargo_test(usual: &[&str], chosen: &[OsString]) -> Result<()> {
    let mut args: Vec<OsString> = vec!["test".into()];
    if chosen.is_empty() {
        // Builds the program too, which suites of its own package call.
        args.push("--no-fail-fast".into());
        args.extend(usual.iter().map(OsString::from));
    } else {
        // The end-to-end suites run the program, and cargo does not know that they need it.
        let release = chosen.iter().take_while(|arg| *arg != "--");
        let release = release.filter(|arg| *arg == "--release" || *arg == "-r");
        let build = ["build", "--package", "xdp-lb"].map(OsString::from);
        tree::run_cargo(build.into_iter().chain(release.cloned()))?;
        args.extend_from_slice(chosen);
    }
    tree::run_cargo(args)
}
