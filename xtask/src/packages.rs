//! Debian packages that the toolchain, the suites and the lab need. Installs what is missing and
//! says so; elsewhere than on Debian it says what has to be there and goes on.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context as _, Result, bail};

use crate::progress::{self, say};

/// Makes sure that these packages are installed. Costs one short process if they are. A service
/// that a package brings is not started.
pub(crate) fn ensure(names: &[&str]) -> Result<()> {
    let Some(missing) = missing(names)? else {
        say(format_args!(
            "note: no dpkg here, so this cannot be checked: needed is what Debian calls {}",
            names.join(", ")
        ));
        return Ok(());
    };
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        bail!("not installed: {list}. Run as root: apt-get install {list}");
    }
    // Lists that are there spare the network one round; they may be stale, then it takes two.
    if have_lists() && install(&missing).is_ok() {
        return Ok(());
    }
    update()?;
    install(&missing)
}

/// What xdp-lb is compared with. Its package brings a service as well.
const KEEPALIVED: &str = "keepalived";

/// Installs keepalived if it is missing. Suites and lab run it themselves, so its service is neither
/// started nor left for the next boot; one that was here before is left as it is.
pub(crate) fn ensure_keepalived() -> Result<()> {
    if Path::new("/usr/sbin/keepalived").exists() {
        return Ok(());
    }
    ensure(&[KEEPALIVED])?;
    if Path::new("/run/systemd/system").exists() {
        let mut disable = Command::new("systemctl");
        disable.args(["disable", KEEPALIVED]);
        progress::run("disabling the service of keepalived", disable)?;
    }
    Ok(())
}

/// Installs nginx if there is none; whichever of Debian's builds is there will do, as they exclude each
/// other. Its service is neither started nor left for the next boot.
pub(crate) fn ensure_nginx() -> Result<()> {
    const NGINX: &str = "nginx-light";
    if is_on_path("nginx") {
        return Ok(());
    }
    ensure(&[NGINX])?;
    if Path::new("/run/systemd/system").exists() {
        let mut disable = Command::new("systemctl");
        disable.args(["disable", "nginx"]);
        progress::run("disabling the service of nginx", disable)?;
    }
    Ok(())
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Fetches the lists of packages.
pub(crate) fn update() -> Result<()> {
    let mut apt = apt();
    apt.arg("update");
    progress::run("apt-get update", apt)
}

/// Installs packages, or brings them to the newest version that the lists name.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    let _quiet = NoServices::begin()?;
    let mut apt = apt();
    // What conflicts with something that the user installed is refused, not put in its place.
    apt.args(["install", "--yes", "--no-install-recommends", "--no-remove"])
        .args(names);
    progress::run(&format!("installing {}", names.join(" ")), apt)
}

/// Is this Debian itself? (Its derivatives do not carry `rustc-web`.)
pub(crate) fn on_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| {
        text.lines()
            .any(|line| matches!(line, "ID=debian" | "ID=\"debian\""))
    })
}

/// Which of these are not installed; none if there is no dpkg.
fn missing<'a>(names: &[&'a str]) -> Result<Option<Vec<&'a str>>> {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(names)
        .output();
    // It fails if it does not know one of them; what it prints is right all the same.
    match query {
        Ok(output) => Ok(Some(not_installed(
            names,
            &String::from_utf8_lossy(&output.stdout),
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("dpkg-query does not run"),
    }
}

fn not_installed<'a>(names: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed: BTreeSet<_> = listing
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    names
        .iter()
        .copied()
        .filter(|name| !installed.contains(name))
        .collect()
}

fn have_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    // Somebody else's apt may be at work: wait for it.
    apt.args([
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Dpkg::Use-Pty=0",
        "--quiet",
    ]);
    apt
}

/// While this lives, packages that are installed start no services: Debian asks a policy script
/// before each start. If we die the script is left, so it forbids only while our process lives.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn begin() -> Result<Self> {
        let script = Path::new("/usr/sbin/policy-rc.d");
        if script.exists() {
            return Ok(Self(None));
        }
        let text = format!(
            "#!/bin/sh\n# From `cargo xtask`, while it installs packages: no service starts.\n\
             if [ -d /proc/{} ]; then exit 101; fi\nexit 0\n",
            process::id()
        );
        let written = fs::write(script, text)
            .and_then(|()| fs::set_permissions(script, fs::Permissions::from_mode(0o755)));
        written.with_context(|| script.display().to_string())?;
        Ok(Self(Some(script.to_owned())))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(script) = &self.0 {
            // If it stays it does no harm: it asks for our process.
            fs::remove_file(script).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_only_as_installed_when_it_is_wholly_there() {
        let listing = "nginx installed\nethtool config-files\ntcpdump half-configured\n";
        let missing = not_installed(&["nginx", "ethtool", "tcpdump", "iproute2"], listing);
        assert_eq!(missing, ["ethtool", "tcpdump", "iproute2"]);
    }

    #[test]
    fn a_name_is_not_mistaken_for_a_longer_one() {
        assert_eq!(
            not_installed(&["nginx"], "nginx-common installed\n"),
            ["nginx"]
        );
    }
}
