//! Finds what builds the BPF object; installs nothing.
//!
//! In: the environment ([`Surroundings`]). Out: a [`Toolchain`], or [`Missing`], which says what was
//! looked at, what is wrong with it and which commands put it right.
//!
//! Two things are needed: a rustc that has the source of `core` beside it (nobody distributes `core`
//! compiled for BPF), and a `bpf-linker` that reads what this rustc writes. Both speak LLVM bitcode,
//! and an LLVM reads bitcode of its own version and of older ones, never of newer ones.
//!
//! This file is compiled twice, into `cargo xtask` and into the build script of the agent, so that
//! both agree. So it uses `std` alone, and it is cheap: a few short processes.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Uses this rustc and no other.
pub(crate) const RUSTC_VARIABLE: &str = "XDP_LB_BPF_RUSTC";
/// Uses this bpf-linker and no other.
pub(crate) const LINKER_VARIABLE: &str = "XDP_LB_BPF_LINKER";

/// The oldest rustc that compiles `xdp-lb-ebpf`, as its manifest says.
const OLDEST_RUSTC: (u32, u32) = (1, 95);

/// What builds the BPF object.
pub(crate) struct Toolchain {
    /// The compiler, by its own path and not through rustup's proxy.
    pub(crate) rustc: Rustc,
    /// The linker that fits it.
    pub(crate) linker: Linker,
}

impl Toolchain {
    /// Finds a compiler and a linker that fit each other, the first in the order of preference.
    pub(crate) fn find(around: &Surroundings) -> Result<Self, Missing> {
        let mut findings = Vec::new();
        let compilers = around.compilers(&mut findings);
        let linkers = around.linkers(&mut findings);
        for rustc in compilers {
            match linkers.iter().find(|linker| linker.reads(&rustc)) {
                Some(linker) => {
                    return Ok(Self {
                        rustc,
                        linker: linker.clone(),
                    });
                }
                None => findings.extend(linkers.iter().map(|linker| linker.complaint(&rustc))),
            }
        }
        Err(Missing { findings })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.rustc, self.linker)
    }
}

/// A compiler that can build `core` for BPF.
pub(crate) struct Rustc {
    /// The program.
    pub(crate) path: PathBuf,
    /// The cargo of the same release, where it is known to be one.
    pub(crate) cargo: Option<PathBuf>,
    /// As `rustc -vV` prints it: `1.96.0`.
    release: String,
    /// Major version of the LLVM inside.
    pub(crate) llvm: u32,
}

impl Rustc {
    /// Asks a compiler what it is. The error is a finding.
    pub(crate) fn ask(Candidate { path, cargo }: Candidate) -> Result<Self, String> {
        let shown = path.display();
        let said = run(Command::new(&path).arg("-vV")).map_err(|why| format!("{shown}: {why}"))?;
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
        let (Some(release), Some(llvm)) = (
            field("release: "),
            field("LLVM version: ").and_then(|version| version.split('.').next()?.parse().ok()),
        ) else {
            return Err(format!("{shown}: is no rustc that uses LLVM"));
        };
        if version(release) < Some(OLDEST_RUSTC) {
            let (major, minor) = OLDEST_RUSTC;
            return Err(format!(
                "{shown}: is {release}, too old; {major}.{minor} is needed"
            ));
        }
        let sysroot = run(Command::new(&path).args(["--print", "sysroot"]))
            .map_err(|why| format!("{shown}: {why}"))?;
        if !has_core_source(Path::new(sysroot.trim())) {
            return Err(format!(
                "{shown}: the source of core (rust-src) is not beside it"
            ));
        }
        let release = release.to_owned();
        Ok(Self {
            path,
            cargo,
            release,
            llvm,
        })
    }
}

impl fmt::Display for Rustc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rustc       {} (LLVM {}), {}",
            self.release,
            self.llvm,
            self.path.display()
        )
    }
}

/// A place where a compiler may be.
pub(crate) struct Candidate {
    path: PathBuf,
    /// The cargo of the same release, where it is known to be one.
    cargo: Option<PathBuf>,
}

impl From<PathBuf> for Candidate {
    fn from(path: PathBuf) -> Self {
        Self { path, cargo: None }
    }
}

/// A linker that runs.
#[derive(Clone)]
pub(crate) struct Linker {
    /// The program.
    pub(crate) path: PathBuf,
    /// What it prints as its version: `bpf-linker 0.13.0`. LLVM's is not in there.
    version: String,
    /// Major version of the LLVM it loads; none if LLVM is linked into it, which only the release
    /// binaries do.
    llvm: Option<u32>,
}

impl Linker {
    /// Asks the linker at `path` what it is. The error is a finding.
    fn ask(path: &Path) -> Result<Self, String> {
        // A linker whose LLVM was removed does not even start: that is found here.
        let said = run(Command::new(path).arg("--version"))
            .map_err(|why| format!("{}: {why}", path.display()))?;
        let libraries = run(Command::new("ldd").arg(path)).unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            version: said.trim().to_owned(),
            llvm: llvm_among(&libraries),
        })
    }

    /// Can it read what this compiler writes?
    fn reads(&self, rustc: &Rustc) -> bool {
        self.llvm.is_none_or(|llvm| llvm >= rustc.llvm)
    }

    fn complaint(&self, rustc: &Rustc) -> String {
        format!(
            "{}: linked against LLVM {}, and cannot read what {} writes (LLVM {})",
            self.path.display(),
            self.llvm
                .map_or_else(|| "?".to_owned(), |llvm| llvm.to_string()),
            rustc.path.display(),
            rustc.llvm,
        )
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its version line begins with its name.
        let version = self
            .version
            .strip_prefix("bpf-linker ")
            .unwrap_or(&self.version);
        let llvm = self
            .llvm
            .map_or_else(|| "LLVM inside".to_owned(), |llvm| format!("LLVM {llvm}"));
        write!(f, "bpf-linker  {version} ({llvm}), {}", self.path.display())
    }
}

/// Where to look.
pub(crate) struct Surroundings {
    /// The search path for programs.
    pub(crate) path: OsString,
    /// Where `cargo install` puts programs: in its `bin`.
    pub(crate) cargo_home: PathBuf,
    /// Where rustup keeps toolchains.
    pub(crate) rustup_home: PathBuf,
    /// Where Debian's package puts its compiler.
    pub(crate) debian_rustc: PathBuf,
    /// The user's choice of a compiler.
    pub(crate) only_rustc: Option<PathBuf>,
    /// The user's choice of a linker.
    pub(crate) only_linker: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(set("HOME").unwrap_or_else(|| "/root".into()));
        Self {
            path: set("PATH").unwrap_or_default(),
            cargo_home: set("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from),
            rustup_home: set("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from),
            debian_rustc: PathBuf::from("/usr/bin/rustc"),
            only_rustc: set(RUSTC_VARIABLE).map(PathBuf::from),
            only_linker: set(LINKER_VARIABLE).map(PathBuf::from),
        }
    }

    /// Compilers that will do, best first. What will not do is noted.
    fn compilers(&self, findings: &mut Vec<String>) -> Vec<Rustc> {
        let mut candidates = Vec::new();
        if let Some(only) = &self.only_rustc {
            findings.push(format!("{RUSTC_VARIABLE} is set: no other rustc is tried"));
            candidates.push(only.clone().into());
        } else {
            candidates.extend(self.nightlies(findings));
            if self.debian_rustc.is_file() {
                candidates.push(self.debian_rustc.clone().into());
            } else {
                findings.push(format!("{}: not there", self.debian_rustc.display()));
            }
        }
        sift(candidates.into_iter().map(Rustc::ask), findings)
    }

    /// The rustc of each nightly that rustup installed with the source of `core`: first `nightly`
    /// itself, then dated ones, newest first.
    fn nightlies(&self, findings: &mut Vec<String>) -> Vec<Candidate> {
        let directory = self.rustup_home.join("toolchains");
        let mut names: Vec<_> = fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("nightly"))
            .collect();
        if names.is_empty() {
            findings.push(format!("{}: no nightly", directory.display()));
        }
        // `nightly-x86_64-…` sorts above `nightly-2026-…`, and dates by age.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let rustcs = names.into_iter().map(|name| {
            let toolchain = directory.join(name);
            if !has_core_source(&toolchain) {
                return Err(format!(
                    "{}: without the component rust-src",
                    toolchain.display()
                ));
            }
            let cargo = toolchain.join("bin/cargo");
            let cargo = cargo.is_file().then_some(cargo);
            Ok(Candidate {
                path: toolchain.join("bin/rustc"),
                cargo,
            })
        });
        sift(rustcs, findings)
    }

    /// Linkers that run, in the order of the search path; where `cargo install` puts one comes last.
    fn linkers(&self, findings: &mut Vec<String>) -> Vec<Linker> {
        let mut candidates: Vec<PathBuf> = Vec::new();
        if let Some(only) = &self.only_linker {
            findings.push(format!(
                "{LINKER_VARIABLE} is set: no other bpf-linker is tried"
            ));
            candidates.push(only.clone());
        } else {
            let installed = self.cargo_home.join("bin");
            for directory in env::split_paths(&self.path).chain([installed]) {
                let linker = directory.join("bpf-linker");
                if linker.is_file() && !candidates.contains(&linker) {
                    candidates.push(linker);
                }
            }
            if candidates.is_empty() {
                findings.push("bpf-linker: not on the PATH and not installed by cargo".to_owned());
            }
        }
        sift(candidates.iter().map(|path| Linker::ask(path)), findings)
    }
}

/// Why there is no toolchain, and what to do.
#[derive(Debug)]
pub(crate) struct Missing {
    findings: Vec<String>,
}

impl std::error::Error for Missing {}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the XDP program cannot be built: no BPF toolchain. What was looked at:"
        )?;
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        f.write_str(INSTRUCTIONS)
    }
}

/// The commands of both ways. `cargo xtask toolchain` does the second by itself.
const INSTRUCTIONS: &str = r"On Debian, as root, this sets it up (about two minutes):
  cargo xtask toolchain
By hand it is either, with rustup (anywhere):
  rustup toolchain install nightly --component rust-src
  cargo install cargo-binstall && cargo binstall bpf-linker
or, with Debian's own compiler, as root:
  apt-get update
  apt-get install --no-install-recommends rustc-web rust-web-src libzstd-dev zlib1g-dev
  N=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  apt-get install --no-install-recommends llvm-$N-dev libpolly-$N-dev
  LLVM_PREFIX=/usr/lib/llvm-$N PATH=/usr/lib/llvm-$N/bin:$PATH cargo install bpf-linker \
    --version 0.13.0 --locked --force --no-default-features --features llvm-$N";

/// Keeps what will do; notes what will not.
fn sift<T>(
    asked: impl IntoIterator<Item = Result<T, String>>,
    findings: &mut Vec<String>,
) -> Vec<T> {
    let keep = |answer: Result<T, String>| answer.map_err(|finding| findings.push(finding)).ok();
    asked.into_iter().filter_map(keep).collect()
}

/// Is the standard library's source where `-Z build-std` looks for it?
fn has_core_source(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .is_file()
}

/// `1.97.0-nightly` is (1, 97).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The major version of LLVM among the shared libraries that `ldd` printed: `libLLVM.so.22.1`,
/// before LLVM 18 `libLLVM-14.so.1`.
fn llvm_among(libraries: &str) -> Option<u32> {
    let name = libraries
        .split_whitespace()
        .find(|word| word.starts_with("libLLVM"))?;
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// What a program prints; the error is the reason why it printed nothing useful.
fn run(command: &mut Command) -> Result<String, String> {
    // Cargo's own settings for the code that it is building now must not leak into the question.
    command.env_remove("RUSTUP_TOOLCHAIN");
    let output = command
        .output()
        .map_err(|error| format!("does not run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("says nothing");
        return Err(format!("fails ({}): {last}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rustc(llvm: u32) -> Rustc {
        Rustc {
            path: "rustc".into(),
            cargo: None,
            release: "1.96.0".to_owned(),
            llvm,
        }
    }

    fn linker(llvm: Option<u32>) -> Linker {
        Linker {
            path: "bpf-linker".into(),
            version: "bpf-linker 0.13.0".to_owned(),
            llvm,
        }
    }

    #[test]
    fn bitcode_is_read_by_the_same_llvm_or_a_newer_one() {
        for (ours, theirs, fits) in [
            (Some(22), 22, true),
            (Some(23), 22, true),
            (Some(21), 22, false),
            (None, 22, true),
        ] {
            assert_eq!(
                linker(ours).reads(&rustc(theirs)),
                fits,
                "{ours:?} reads {theirs}"
            );
        }
        let said = linker(Some(21)).complaint(&rustc(22));
        assert!(
            said.contains("linked against LLVM 21") && said.contains("(LLVM 22)"),
            "{said}"
        );
    }

    #[test]
    fn the_llvm_of_a_linker_is_read_from_the_names_of_its_libraries() {
        let ldd = |library: &str| format!("\tlinux-vdso.so.1 (0x1)\n\t{library} => /x (0x2)\n");
        assert_eq!(llvm_among(&ldd("libLLVM.so.22.1")), Some(22));
        assert_eq!(llvm_among(&ldd("libLLVM-14.so.1")), Some(14));
        assert_eq!(llvm_among(&ldd("libc.so.6")), None);
        assert_eq!(llvm_among("\tnot a dynamic executable\n"), None);
    }

    #[test]
    fn the_oldest_rustc_is_the_one_that_the_manifest_names() {
        let manifest = include_str!("../../../xdp-lb-ebpf/Cargo.toml");
        let (major, minor) = OLDEST_RUSTC;
        let line = format!("rust-version = \"{major}.{minor}\"");
        assert!(
            manifest.lines().any(|found| found == line),
            "no {line} in xdp-lb-ebpf"
        );
    }
}
