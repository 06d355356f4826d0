//! `xdp_lb`: our own settings, in a block that keepalived skips.

use super::Status::Supported;
use super::{Keyword, many, one};

#[rustfmt::skip] // a table: one row per line
pub(super) const XDP_LB: &[Keyword] = &[
    many("interface", "DEVICE…", Supported, "Interfaces to attach the XDP program to").repeated(),
    one("xdp_mode", "auto|native|generic", Supported, "How the XDP program is attached; default auto"),
    one("metrics", "ADDRESS:PORT", Supported, "Where Prometheus scrapes; default 127.0.0.1:9165"),
    one("connections", "1024-16777216", Supported, "Entries the connection table is made for; default 1048576"),
];
