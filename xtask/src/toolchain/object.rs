//! Builds the BPF objects: the crate `xdp-lb-ebpf`, for the target that only `-Z build-std` knows.
//!
//! In: a [`Toolchain`], the root of the repository, the target directory. Out: the directory that
//! holds [`PROGRAM`] and [`RIG`]. Like `find.rs` this is compiled into `cargo xtask` and into the
//! agent's build script, and uses `std` alone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use super::find::Toolchain;

/// The object that the agent embeds.
pub(crate) const PROGRAM: &str = "xdp-lb";
/// The object with programs for the lab and the benches.
pub(crate) const RIG: &str = "rig";

/// Little-endian: what the hosts are that the agent supports.
const TARGET: &str = "bpfel-unknown-none";

/// Builds both objects, or finds them up to date, and returns the directory that holds them. What
/// cargo says goes to stderr.
pub(crate) fn build(toolchain: &Toolchain, root: &Path, target: &Path) -> Result<PathBuf, Error> {
    // A directory of its own: the outer cargo holds the lock of the other one.
    let target = target.join("bpf");
    let mut cargo = cargo(toolchain, root);
    cargo.args([
        "build",
        "--release",
        "-Z",
        "build-std=core",
        "--target",
        TARGET,
    ]);
    cargo.arg("--target-dir").arg(&target);
    // The agent's feature `bpf-log`, as cargo tells its build script.
    if env::var_os("CARGO_FEATURE_BPF_LOG").is_some() {
        cargo.args(["--features", "log"]);
    }
    if env::var_os("CI").is_some_and(|value| value == "true") {
        cargo.arg("--locked");
    }
    let status = cargo
        .status()
        .map_err(|error| Error::Start(cargo.get_program().into(), error))?;
    if !status.success() {
        return Err(Error::Failed(status, toolchain.to_string()));
    }
    let objects = target.join(TARGET).join("release");
    for name in [PROGRAM, RIG] {
        let object = objects.join(name);
        if !object.is_file() {
            return Err(Error::Absent(object));
        }
    }
    Ok(objects)
}

/// The target directory that a file of this build lies in: cargo tags it.
pub(crate) fn target_directory(inside: &Path) -> Option<&Path> {
    inside
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
}

/// Cargo in the BPF crate, with this toolchain and without the settings of an outer build.
fn cargo(toolchain: &Toolchain, root: &Path) -> Command {
    let outer = || env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let program = toolchain
        .rustc
        .cargo
        .as_ref()
        .map_or_else(outer, OsString::from);
    let mut cargo = Command::new(program);
    cargo.current_dir(root.join("xdp-lb-ebpf"));
    for (name, _) in env::vars_os() {
        if is_of_outer_build(&name) {
            cargo.env_remove(name);
        }
    }
    cargo.env("RUSTC", &toolchain.rustc.path);
    // Debian's compiler is a stable one; -Z build-std is for nightlies unless told so.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    // Flags go to the target alone: build scripts and macros run on the host. v3 is what kernels
    // since 5.12 run, and it has the atomics that return the old value.
    let mut flags = OsString::from("-Clinker=");
    flags.push(&toolchain.linker.path);
    flags.push(
        "\x1f-Clink-arg=--btf\x1f-Ctarget-cpu=v3\x1f-Ctarget-feature=+allows-misaligned-mem-access",
    );
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
    cargo
}

/// Is this variable a setting that cargo makes for a build script or that the user made for the
/// host's code? Both would reach the BPF build through the environment.
fn is_of_outer_build(name: &OsStr) -> bool {
    /// About the network, the terminal, the place of the registry and the number of jobs: these hold
    /// for both.
    const SHARED: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_MAKEFLAGS",
        "CARGO_BUILD_JOBS",
    ];
    /// The rest of what cargo sets for a build script, and rustup's and clippy's.
    const OTHERS: [&str; 15] = [
        "CLIPPY_ARGS",
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    let Some(name) = name.to_str() else {
        return false;
    };
    let is_of_cargo =
        name.starts_with("CARGO_") && !SHARED.iter().any(|kept| name.starts_with(kept));
    is_of_cargo || OTHERS.contains(&name)
}

/// Why there is no object.
#[derive(Debug)]
pub(crate) enum Error {
    /// This cargo does not start.
    Start(PathBuf, io::Error),
    /// Cargo said why on stderr; here is what it was given.
    Failed(ExitStatus, String),
    /// Cargo succeeded without writing it.
    Absent(PathBuf),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(program, error) => write!(f, "{} does not run: {error}", program.display()),
            Self::Failed(status, toolchain) => {
                write!(
                    f,
                    "the XDP program does not build ({status}) with\n{toolchain}"
                )
            }
            Self::Absent(object) => write!(f, "cargo did not write {}", object.display()),
        }
    }
}
