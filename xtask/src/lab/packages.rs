//! The Debian packages the lab drives: real nginx, a real WebSocket library, the tools to build networks.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xdp_lb_tests::netns::output;

use super::steps::tell;

/// Debian's Python: `python3` on the path may be another, without Debian's packages.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A program that must start, and the package that brings it.
struct Need {
    package: &'static str,
    probe: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need {
        package: "iproute2",
        probe: &["ip", "-V"],
    },
    Need {
        package: "ethtool",
        probe: &["ethtool", "--version"],
    },
    Need {
        package: "tcpdump",
        probe: &["tcpdump", "--version"],
    },
    Need {
        package: "nginx-light",
        probe: &["nginx", "-v"],
    },
    Need {
        package: "python3-websockets",
        probe: &[PYTHON, "-c", "import websockets"],
    },
];

/// Installs what is missing, saying so.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<_> = NEEDS
        .iter()
        .filter(|need| !starts(need.probe))
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("the lab needs these Debian packages or their like: {names}; install them");
    }
    tell(&format!("\n  installing {names} from Debian, about 15 s\n"));
    install(&missing).with_context(|| format!("try it by hand: apt-get install {names}"))
}

fn starts(probe: &[&str]) -> bool {
    let [program, arguments @ ..] = probe else {
        return false;
    };
    output(Command::new(program).args(arguments)).is_ok()
}

fn install(packages: &[&str]) -> Result<()> {
    let _quiet = NoServices::begin()?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    output(apt().args(["update", "-q"]))?;
    output(
        apt()
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages),
    )?;
    if packages.contains(&"nginx-light") && Path::new("/run/systemd/system").exists() {
        // The lab runs an nginx of its own in each namespace; the machine asked for none.
        output(Command::new("systemctl").args(["disable", "nginx"]))?;
    }
    Ok(())
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While this lives, packages that are installed start no services.
struct NoServices {
    remove: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        use std::io::Write as _;
        if Path::new(POLICY).exists() {
            // The machine has a policy of its own, as containers do.
            return Ok(Self { remove: false });
        }
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY)
            .and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n"))
            .with_context(|| format!("cannot write {POLICY}"))?;
        Ok(Self { remove: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.remove {
            drop(fs::remove_file(POLICY));
        }
    }
}
