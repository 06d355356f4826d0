//! `xdp_lb`: our own settings, in a block that keepalived skips.

use super::Kind::{Device, OneOf, Words};
use super::Scope::Lines;
use super::Status::Supported;
use super::kind::number;
use super::lines;
use super::row::{Keyword, OURS, many, named, one};

#[rustfmt::skip] // a table: one row per line
pub(super) const XDP_LB: &[Keyword] = &[
    many("interface", Device, Supported, "Interfaces to attach the XDP program to").repeated().only(OURS),
    one("xdp_mode", OneOf(&["auto", "native", "generic"]), Supported, "How the XDP program is attached; default auto").only(OURS),
    one("metrics", Words("ADDRESS:PORT"), Supported, "Where Prometheus scrapes; default 127.0.0.1:9165").only(OURS),
    one("connections", number(1_024, 16_777_216), Supported, "Entries the connection table is made for; default 1048576").only(OURS),
    one("fail_static", OneOf(&["on", "off"]), Supported, "Balance on when the agent is silent for longer than the master down interval, though another director may have taken over; default off").only(OURS),
    named("fwmark", 1, 1, number(0, 4_294_967_295), Lines, Supported, "Which packets have a firewall mark that is balanced; without it the rules of the firewall are read").only(OURS).of(lines::MARKED),
    one("drain_timeout", number(0, 86_400), Supported, "Seconds for which a server that left the file keeps its connections at most; default 900").only(OURS),
];
