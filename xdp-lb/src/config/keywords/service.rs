//! `virtual_server` and `real_server`.

use super::Kind::{Boolean, Endpoint, Name, Netmask, OneOf, Seconds, Words};
use super::Scope::{
    BfdCheck, DnsCheck, FileCheck, HttpGet, MiscCheck, PingCheck, RealServer, SmtpCheck, TcpCheck,
    UdpCheck,
};
use super::Status::{NotNeeded, NotYet, Rejected, Supported};
use super::kind::{ANY, number};
use super::row::{
    Keyword, OLD, OURS, Status, block, flag, line, many, maybe, named, one, pair, script,
};

const NO_BFD: Status = Rejected(
    "there are no BFD sessions in this version; without this check the server would count as up for ever: use TCP_CHECK",
);
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq", "fo", "ovf", "twos",
];

#[rustfmt::skip] // a table: one row per line
pub(super) const VIRTUAL_SERVER: &[Keyword] = &[
    one("lb_algo", OneOf(SCHEDULERS), Supported, "Scheduler"),
    one("lvs_sched", OneOf(SCHEDULERS), Supported, "Scheduler; the same as lb_algo"),
    line("lb_kind", 1, usize::MAX, Words("DR|NAT|TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]"), Supported, "How packets reach real servers"),
    line("lvs_method", 1, usize::MAX, Words("DR|NAT|TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]"), Supported, "How packets reach real servers; the same as lb_kind"),
    one("protocol", OneOf(&["TCP", "UDP"]), Supported, "Protocol; default UDP"),
    maybe("persistence_timeout", number(1, 2_678_400), Supported, "Clients stay with their server for so many seconds; bare: 360"),
    one("persistence_granularity", Netmask, Supported, "Clients of one such network stay together"),
    one("delay_loop", Seconds, Supported, "Time from one check to the next; default 60"),
    one("connect_timeout", Seconds, Supported, "connect_timeout of the checkers; default 5"),
    one("retry", number(1, 4_294_967_295), Supported, "retry of the checkers; default 1"),
    one("delay_before_retry", Seconds, Supported, "delay_before_retry of the checkers; default 1"),
    one("warmup", Seconds, Supported, "warmup of the checkers; default delay_loop"),
    named("real_server", 1, 2, Endpoint, RealServer, Supported, "A server of the pool"),
    one("weight", number(1, 2_147_483_647), Supported, "Weight of real servers that set none; default 1"),
    pair("sorry_server", Endpoint, Supported, "Takes the place of all real servers while the quorum is lost"),
    flag("sorry_server_inhibit", Supported, "The sorry server stays in the pool with weight 0 while it is not needed"),
    many("sorry_server_lvs_method", Words("DR|NAT|TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]"), Supported, "lb_kind of the sorry server").passed_over(),
    one("quorum", number(1, 4_294_967_295), Supported, "Weight that must be up"),
    one("hysteresis", number(0, 4_294_967_295), Supported, "Margin around the quorum"),
    script("quorum_up", Supported, "Command when the quorum is gained"),
    script("quorum_down", Supported, "Command when the quorum is lost"),
    flag("alpha", Supported, "Real servers start as down; a value, 'off' too, changes nothing"),
    flag("omega", Supported, "Run the commands for down at the end"),
    flag("inhibit_on_failure", Supported, "Weight 0 instead of removal"),
    flag("ha_suspend", Supported, "No checks while the virtual IP is elsewhere"),
    flag("expire_quiescent", Supported, "Sticky clients of a server with weight 0 move with their next connection").only(OURS),
    flag("ops", Supported, "Schedule each datagram by itself"),
    one("persistence_engine", OneOf(&["sip"]), Rejected("clients would be told apart by address instead of by call: remove it to balance by address"), "Stickiness by SIP call"),
    flag("hashed", Supported, "Old name of flag-1"),
    flag("flag-1", Supported, "First flag of the scheduler"),
    flag("flag-2", Supported, "Second flag of the scheduler"),
    flag("flag-3", Supported, "Third flag of the scheduler"),
    flag("sh-port", Supported, "sh hashes the port as well"),
    flag("sh-fallback", Supported, "sh passes over servers that are out"),
    flag("mh-port", Supported, "mh hashes the port as well"),
    flag("mh-fallback", Supported, "mh passes over servers that are out"),
    one("virtualhost", Name, NotYet, "Host header of HTTP checks").passed_over(),
    maybe("smtp_alert", Boolean, Supported, "Mail when the quorum is gained or lost"),
    one("ip_family", OneOf(&["inet", "inet6"]), NotYet, "Family of a fwmark service"),
    one("snmp_name", Name, NotYet, "Name in SNMP").passed_over(),
    maybe("nat_mask", Netmask, NotNeeded("keepalived dropped it long ago"), "Old, without effect").only(OLD),
    maybe("lvs_id", Name, NotNeeded("keepalived dropped it long ago"), "Old, without effect").only(OLD),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const REAL_SERVER: &[Keyword] = &[
    one("weight", number(0, 2_147_483_647), Supported, "Share of new connections; default 1"),
    line("lvs_method", 1, usize::MAX, Words("DR|NAT|TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]"), Supported, "lb_kind of this server"),
    one("delay_loop", Seconds, Supported, "delay_loop of its checkers"),
    one("connect_timeout", Seconds, Supported, "connect_timeout of its checkers"),
    one("retry", number(1, 4_294_967_295), Supported, "retry of its checkers"),
    one("delay_before_retry", Seconds, Supported, "delay_before_retry of its checkers"),
    one("warmup", Seconds, Supported, "warmup of its checkers"),
    block("TCP_CHECK", TcpCheck, Supported, "Up while it takes connections"),
    block("HTTP_GET", HttpGet, Supported, "Up while it answers HTTP requests"),
    block("SSL_GET", HttpGet, Supported, "Up while it answers HTTPS requests"),
    block("MISC_CHECK", MiscCheck, Supported, "Up while a command succeeds"),
    block("SMTP_CHECK", SmtpCheck, Supported, "Up while it speaks SMTP"),
    block("DNS_CHECK", DnsCheck, Supported, "Up while it answers a DNS query"),
    block("UDP_CHECK", UdpCheck, Supported, "Up while it answers a datagram"),
    block("PING_CHECK", PingCheck, Supported, "Up while it answers ICMP echo"),
    block("FILE_CHECK", FileCheck, Supported, "Up or weighted by the number in a file"),
    block("BFD_CHECK", BfdCheck, NO_BFD, "Up while the BFD session is"),
    maybe("inhibit_on_failure", Boolean, Supported, "Weight 0 instead of removal"),
    maybe("alpha", Boolean, Supported, "Starts as down"),
    one("uthreshold", ANY, Supported, "Most connections"),
    one("lthreshold", ANY, Supported, "Below this it takes connections again"),
    one("slow_start", Seconds, Supported, "Time in which a server that came back grows to its full weight, in ten steps").only(OURS),
    script("notify_up", Supported, "Command when it goes up"),
    script("notify_down", Supported, "Command when it goes down"),
    maybe("smtp_alert", Boolean, Supported, "Mail when it goes up or down; default on"),
    one("virtualhost", Name, NotYet, "Host header of HTTP checks").passed_over(),
    one("snmp_name", Name, NotYet, "Name in SNMP").passed_over(),
];
