//! The Debian packages the lab drives: real nginx, a real WebSocket library, the tools to build networks.

use anyhow::Result;

use crate::packages;

/// Debian's Python: `python3` on the path may be another, without Debian's packages.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Installs what is missing, saying so.
pub(crate) fn ensure() -> Result<()> {
    packages::ensure(&[
        "iproute2",
        "ethtool",
        "tcpdump",
        "nginx-light",
        "python3-websockets",
    ])
}
