//! `xdp_lb`: our own settings, in a block that keepalived skips.

use super::Kind::{Device, OneOf, Path, Port, Words};
use super::Scope::{self, Lines};
use super::Status::Supported;
use super::kind::number;
use super::lines;
use super::row::{Keyword, OURS, block, many, named, one};

#[rustfmt::skip] // a table: one row per line
pub(super) const XDP_LB: &[Keyword] = &[
    many("interface", Device, Supported, "Interfaces to attach the XDP program to").repeated().only(OURS),
    one("xdp_mode", OneOf(&["auto", "native", "generic"]), Supported, "How the XDP program is attached; default auto").only(OURS),
    one("metrics", Words("ADDRESS:PORT"), Supported, "Where Prometheus scrapes; default 127.0.0.1:9165").only(OURS),
    one("connections", number(1_024, 16_777_216), Supported, "Entries the connection table is made for; default 1048576").only(OURS),
    one("fail_static", OneOf(&["on", "off"]), Supported, "Balance on when the agent is silent for longer than the master down interval, though another director may have taken over; default off").only(OURS),
    one("empty_pool", OneOf(&["unreachable", "reset", "silent"]), Supported, "What clients of a service without an eligible real server are told: ICMP's port unreachable, a TCP reset (UDP: port unreachable), or nothing; default unreachable, as IPVS").only(OURS),
    named("fwmark", 1, 1, number(0, 4_294_967_295), Lines, Supported, "Which packets have a firewall mark that is balanced; without it the rules of the firewall are read").only(OURS).of(lines::MARKED),
    one("drain_timeout", number(0, 86_400), Supported, "Seconds for which a server that left the file keeps its connections at most; default 900").only(OURS),
    block("sync", Scope::StateSync, Supported, "State sync: the directors of a cluster tell each other of their connections").only(OURS),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SYNC: &[Keyword] = &[
    many("peer", Words("ADDRESS[:PORT]"), Supported, "Another director of the cluster; without any, directors find each other on a multicast group").repeated().only(OURS),
    one("key_file", Path, Supported, "File with the secret that all directors of the cluster share, 16 to 256 bytes; nobody but its owner may read it").only(OURS),
    one("key", Words("SECRET"), Supported, "The secret itself, 16 to 256 characters; whoever may read this file knows it").only(OURS),
    one("interface", Device, Supported, "Interface that datagrams take; default that of `lvs_sync_daemon`, else what the routes say").only(OURS),
    one("port", Port, Supported, "UDP port; default that of `lvs_sync_daemon`, else 8848").only(OURS),
    one("maxlen", number(512, 65_507), Supported, "Longest datagram, bytes; default that of `lvs_sync_daemon`, else 1400").only(OURS),
    one("wait", number(0, 3600), Supported, "Seconds that a director which returns leaves a worse master alone at most, until the connections of its peers have come; default 30").only(OURS),
];
