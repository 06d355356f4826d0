//! Debian packages, fetched by an apt that knows nothing of this system's packages: with all they depend
//! on, so that they run wherever there is an apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::progress;

/// What signs Debian's archives.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The folder of what signs Ubuntu's.
const UBUNTU_KEYS: &str = "ubuntu-keys";

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// Debian 12.
    Stable,
    /// Its backports: QEMU 7.2 of Debian 12 itself miscomputes flags, and the guest dies of it.
    Backports,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Stable => "bookworm",
            Self::Backports => "bookworm-backports",
        }
    }
}

/// The packages below a folder.
pub(super) struct Debs {
    folder: PathBuf,
}

impl Debs {
    /// Nothing is fetched yet.
    pub(super) const fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A folder with packages and all they depend on, unpacked; fetched if it is not there.
    pub(super) fn tree(&self, name: &str, suite: Suite, packages: &[&str]) -> Result<PathBuf> {
        self.unpacked(name, || {
            let archives = self.folder.join("apt/archives");
            let mut apt = self.apt("apt-get");
            apt.args([
                "install",
                "--yes",
                "--download-only",
                "--no-install-recommends",
            ])
            .args(["--target-release", suite.name()])
            .args(packages);
            progress::run(&format!("fetching {}", packages.join(" ")), apt)?;
            Ok(archives)
        })
    }

    /// Lets apt see Ubuntu's archive as well, which has kernels that Debian has not any more.
    pub(super) fn know_ubuntu(&self) -> Result<()> {
        self.tree(UBUNTU_KEYS, Suite::Stable, &["ubuntu-archive-keyring"])
            .map(drop)
    }

    /// A folder with the newest kernel whose package is called `prefix`…`suffix`, unpacked.
    pub(super) fn kernel(&self, prefix: &str, suffix: &str) -> Result<PathBuf> {
        let name = prefix.trim_end_matches(['-', '.']);
        self.unpacked(name, || {
            let listing = self.apt("apt-cache").args(["pkgnames", prefix]).output()?;
            let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
            let package = newest(&listing, suffix)
                .with_context(|| format!("there is no package {prefix}…{suffix} any more"))?;
            let archives = self.folder.join("apt/archives");
            let mut apt = self.apt("apt-get");
            apt.args(["download", &package]).current_dir(&archives);
            progress::run(&format!("fetching {package}"), apt)?;
            Ok(archives)
        })
    }

    /// Has `fetch` say in which folder packages lie, and unpacks them. A folder that is there is whole.
    fn unpacked(&self, name: &str, fetch: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
        let whole = self.folder.join(name);
        if whole.is_dir() {
            return Ok(whole);
        }
        self.set_up().with_context(|| {
            format!("{name} for the emulated guest comes from Debian's archive, and that cannot be asked")
        })?;
        let archives = fetch()?;
        let part = self.folder.join(format!("{name}.part"));
        remove(&part)?;
        fs::create_dir_all(&part)?;
        let mut unpacked = 0;
        for entry in fs::read_dir(&archives)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let mut dpkg = Command::new("dpkg-deb");
                let status = dpkg.arg("--extract").arg(&path).arg(&part).status();
                let status = status.context("dpkg-deb does not run")?;
                ensure!(
                    status.success(),
                    "dpkg-deb cannot unpack {}",
                    path.display()
                );
                fs::remove_file(&path)?;
                unpacked += 1;
            }
        }
        ensure!(unpacked > 0, "apt-get fetched no package for {name}");
        fs::rename(&part, &whole)?;
        Ok(whole)
    }

    /// An apt of our own, its lists read.
    fn set_up(&self) -> Result<()> {
        if !Path::new(KEYS).exists() {
            bail!("no {KEYS}: it takes apt and the package debian-archive-keyring");
        }
        let apt = self.folder.join("apt");
        for folder in ["lists/partial", "cache", "archives/partial", "etc"] {
            fs::create_dir_all(apt.join(folder))?;
        }
        // As if nothing were installed: what is fetched needs nothing of this system.
        fs::write(apt.join("status"), "")?;
        let ubuntu = self.folder.join(UBUNTU_KEYS);
        let ubuntu = ubuntu.is_dir().then_some(ubuntu.as_path());
        fs::write(apt.join("sources.list"), sources(&mirrors(), ubuntu))?;
        fs::write(apt.join("apt.conf"), settings(&apt))?;
        let mut update = self.apt("apt-get");
        update.args(["--quiet", "update"]);
        progress::run("reading Debian's lists of packages", update)
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.env("APT_CONFIG", self.folder.join("apt/apt.conf"));
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    }
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn settings(apt: &Path) -> String {
    let at = |name: &str| apt.join(name).display().to_string();
    let rows = [
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", at("etc")),
        ("Dir::Etc::preferences", at("etc/none")),
        ("Dir::Etc::preferencesparts", at("etc")),
        ("Dir::State", at("")),
        ("Dir::State::lists", at("lists")),
        ("Dir::State::status", at("status")),
        ("Dir::Cache", at("cache")),
        ("Dir::Cache::archives", at("archives")),
        ("APT::Architecture", "amd64".to_owned()),
        // Everything below lies in a folder that only its owner may read.
        ("APT::Sandbox::User", "root".to_owned()),
    ];
    rows.map(|(name, value)| format!("{name} \"{value}\";\n"))
        .concat()
}

/// Debian 12's archive and that of its security updates: where this system has them from, else Debian's own.
fn mirrors() -> [String; 2] {
    let mut apt = Command::new("apt-get");
    let listing = apt
        .args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"])
        .output();
    let listing = listing.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let listing = listing.unwrap_or_default();
    let mirror = |release: &str, otherwise: &str| {
        let pairs = listing.lines().filter_map(|line| line.split_once(' '));
        let known = pairs
            .filter(|(name, _)| *name == release)
            .map(|(_, uri)| uri)
            .next();
        known.unwrap_or(otherwise).to_owned()
    };
    [
        mirror("bookworm", "http://deb.debian.org/debian"),
        mirror("bookworm-security", "http://deb.debian.org/debian-security"),
    ]
}

fn sources([archive, security]: &[String; 2], ubuntu: Option<&Path>) -> String {
    let debian = [
        (archive.as_str(), Suite::Stable.name()),
        (archive.as_str(), Suite::Backports.name()),
        (security.as_str(), "bookworm-security"),
    ];
    let line =
        |keys: &str, uri: &str, suite: &str| format!("deb [signed-by={keys}] {uri} {suite} main\n");
    let mut text = debian.map(|(uri, suite)| line(KEYS, uri, suite)).concat();
    if let Some(folder) = ubuntu {
        let keys = folder.join("usr/share/keyrings/ubuntu-archive-keyring.gpg");
        let uri = "http://archive.ubuntu.com/ubuntu";
        text += &line(&keys.display().to_string(), uri, "jammy-updates");
    }
    text
}

/// The newest kernel of a kind in a list of packages.
fn newest(listing: &str, suffix: &str) -> Option<String> {
    let kernels = listing.lines().filter(|name| name.ends_with(suffix));
    let numbers = |name: &&str| -> Vec<u64> {
        let parts = name.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    };
    kernels.max_by_key(numbers).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_so_by_its_numbers() {
        let listing = "linux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.12.95+deb12-amd64\n\
                       linux-image-6.12.95+deb12-cloud-amd64\nlinux-image-6.12.95+deb12-cloud-amd64-dbg\n";
        let found = newest(listing, "-cloud-amd64").unwrap();
        assert_eq!(found, "linux-image-6.12.95+deb12-cloud-amd64");
        assert_eq!(newest("linux-doc\n", "-cloud-amd64"), None);
    }

    #[test]
    fn apt_is_told_of_its_own_folders_alone() {
        let text = settings(Path::new("/x/apt"));
        assert!(
            text.contains("Dir::State::status \"/x/apt/status\";\n"),
            "{text}"
        );
        let mirrors = ["http://a", "http://b"].map(str::to_owned);
        let with_ubuntu = sources(&mirrors, Some(Path::new("/x")));
        assert!(with_ubuntu.contains("signed-by=/x/usr/") && with_ubuntu.contains("jammy-updates"));
        let sources = sources(&mirrors, None);
        assert!(
            sources.contains("http://a bookworm-backports main\n"),
            "{sources}"
        );
        assert!(
            sources.ends_with("http://b bookworm-security main\n"),
            "{sources}"
        );
    }
}
