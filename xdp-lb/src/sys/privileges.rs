//! Whether this process may do what a command needs.

use std::fmt;
use std::fs;

/// A capability of capabilities(7), numbered as in linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Addresses, neighbours, XDP, sysctls of the network.
    NetAdmin = 12,
    /// Packet sockets.
    NetRaw = 13,
    /// Tracing-like access of BPF programs.
    Perfmon = 38,
    /// BPF maps and programs.
    Bpf = 39,
}

/// `CAP_SYS_ADMIN` stands for the newer `CAP_BPF` and `CAP_PERFMON`, in the kernel too.
const SYS_ADMIN: u32 = 21;

/// What a director needs.
pub const DIRECTOR: &[Capability] = &[
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Bpf,
];

/// What setting up a real server needs.
pub const REAL_SERVER: &[Capability] = &[Capability::NetAdmin];

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// The process may not do what a command needs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command} must run as root: this process lacks {}", list(missing))]
pub struct Error {
    /// The command, as typed: `xdp-lb up`.
    pub command: &'static str,
    /// What is missing.
    pub missing: Vec<Capability>,
}

/// Checks that this process has all of `needed` for `command`.
pub fn require(command: &'static str, needed: &[Capability]) -> Result<(), Error> {
    // Without /proc nothing can be told; the kernel will then refuse by itself.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let Some(effective) = effective(&status) else {
        return Ok(());
    };
    match missing(effective, needed) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(Error { command, missing }),
    }
}

/// The effective capability set in a `status` file of proc(5).
fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64, needed: &[Capability]) -> Vec<Capability> {
    let has = |number: u32| effective >> number & 1 == 1;
    let lacks = |capability: &Capability| match capability {
        Capability::NetAdmin | Capability::NetRaw => !has(*capability as u32),
        Capability::Perfmon | Capability::Bpf => !has(*capability as u32) && !has(SYS_ADMIN),
    };
    needed.iter().copied().filter(lacks).collect()
}

fn list(missing: &[Capability]) -> String {
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_from_the_status_file() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(u64::MAX, DIRECTOR), []);
        assert_eq!(missing(0, DIRECTOR), DIRECTOR);
        assert_eq!(missing(1 << 12 | 1 << 13 | 1 << 38 | 1 << 39, DIRECTOR), []);
        let no_bpf = missing(1 << 12 | 1 << 13, DIRECTOR);
        assert_eq!(no_bpf, [Capability::Perfmon, Capability::Bpf]);
        let error = Error {
            command: "xdp-lb up",
            missing: no_bpf,
        };
        assert_eq!(
            error.to_string(),
            "xdp-lb up must run as root: this process lacks CAP_PERFMON, CAP_BPF"
        );
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_only() {
        let left = missing(1 << SYS_ADMIN, DIRECTOR);
        assert_eq!(left, [Capability::NetAdmin, Capability::NetRaw]);
    }
}
