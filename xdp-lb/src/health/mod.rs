//! Which real servers live: pure bookkeeping over the outcomes of probes.
//!
//! In: the targets of the configuration, and what became of each probe ([`Outcome`]). Out: probes to
//! start, verdicts that changed, and the map of all verdicts. [`target`] says what is to be checked;
//! [`check`] is one health check with its retries; [`monitor`] is all of them: a server lives while
//! all of its checks pass; [`report`] puts a verdict in words,
//! [`weighing`] adds up what checks make of a weight.
//!
//! Nothing here opens a socket or reads a clock, and nothing here knows what a real server's verdict
//! is used for.

pub mod check;
pub mod monitor;
pub mod report;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod weighing;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The real server did what it should.
    Passed,
    /// The same, and it is to have another weight.
    Weighed(Weighing),
    /// It did not.
    Failed(Failure),
    /// The probe says nothing about the server, for this host could not carry it out: out of file
    /// descriptors, memory or ports. The verdict stands, as in keepalived.
    Inconclusive(String),
}

/// What a check makes of the weight of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighing {
    /// This, whatever is configured: `misc_dynamic`.
    Set(u32),
    /// So much more than configured, or less: `dynamic` of a `FILE_CHECK`.
    Add(i64),
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens on the port.
    Refused,
    /// No answer within the time allowed.
    TimedOut(Duration),
    /// The network says that there is no way to the host.
    Unreachable,
    /// The connection was closed at once.
    Reset,
    /// The address to probe from (`bindto`) is not on this host.
    NoSource(IpAddr),
    /// Something else, in the kernel's words.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(after) => {
                write!(f, "connect timed out after {} s", after.as_secs_f64())
            }
            Self::Unreachable => f.write_str("host unreachable"),
            Self::Reset => f.write_str("connection reset"),
            Self::NoSource(address) => write!(f, "source address {address} is not on this host"),
            Self::Other(message) => f.write_str(message),
        }
    }
}
