//! `virtual_server` and `real_server`.

use super::Scope::{
    BfdCheck, DnsCheck, FileCheck, HttpGet, MiscCheck, PingCheck, RealServer, SmtpCheck, TcpCheck,
    UdpCheck,
};
use super::Status::{NotNeeded, NotRun, NotYet, NotYetNoticeable, Rejected, Supported};
use super::{Keyword, Status, block, flag, line, maybe, named, one, script};

const CHECKER: Status = NotRun(
    "of the checkers only TCP_CHECK works in this version; without this one the server would count as up for ever: use TCP_CHECK",
);
const NO_BFD: Status = Rejected(
    "there are no BFD sessions in this version; without this check the server would count as up for ever: use TCP_CHECK",
);
const KEPT_OUT: Status =
    NotYetNoticeable("a server that fails is taken out of the pool instead of given weight 0");
const STARTS_UP: Status =
    NotYetNoticeable("real servers count as up until their first check fails");
const UNLIMITED: Status = NotYetNoticeable("the number of connections is not limited");

#[rustfmt::skip] // a table: one row per line
pub(super) const VIRTUAL_SERVER: &[Keyword] = &[
    one("lb_algo", "rr|wrr", Supported, "Scheduler"),
    one("lvs_sched", "rr|wrr", Supported, "Scheduler; the same as lb_algo"),
    line("lb_kind", 1, usize::MAX, "DR", Supported, "How packets reach real servers"),
    line("lvs_method", 1, usize::MAX, "DR", Supported, "How packets reach real servers; the same as lb_kind"),
    one("protocol", "TCP|UDP", Supported, "Protocol; default UDP"),
    maybe("persistence_timeout", "[1-2678400]", Supported, "Clients stay with their server for so many seconds; bare: 360"),
    one("persistence_granularity", "NETMASK", Supported, "Clients of one such network stay together"),
    one("delay_loop", "SECONDS", Supported, "Time from one check to the next; default 60"),
    one("connect_timeout", "SECONDS", Supported, "connect_timeout of the checkers; default 5"),
    one("retry", "NUMBER", Supported, "retry of the checkers; default 1"),
    one("delay_before_retry", "SECONDS", Supported, "delay_before_retry of the checkers; default 1"),
    one("warmup", "SECONDS", Supported, "warmup of the checkers; default delay_loop"),
    named("real_server", 1, 2, "ADDRESS [PORT]", RealServer, Supported, "A server of the pool"),
    one("weight", "0-2147483647", Supported, "Weight of real servers that set none; default 1"),
    line("sorry_server", 1, 2, "ADDRESS [PORT]", NotYetNoticeable("clients get no server at all once every real server is down"), "Takes over when no real server is left"),
    flag("sorry_server_inhibit", NotYet, "inhibit_on_failure for the sorry server"),
    line("sorry_server_lvs_method", 0, usize::MAX, "DR|NAT|TUN", NotYet, "lb_kind of the sorry server"),
    one("quorum", "NUMBER", NotYet, "Weight that must be up"),
    one("hysteresis", "NUMBER", NotYet, "Margin around the quorum"),
    script("quorum_up", NotYet, "Command when the quorum is gained"),
    script("quorum_down", NotYet, "Command when the quorum is lost"),
    maybe("alpha", "BOOLEAN", STARTS_UP, "Real servers start as down"),
    flag("omega", NotYet, "Run the commands for down at the end"),
    flag("inhibit_on_failure", KEPT_OUT, "Weight 0 instead of removal"),
    flag("ha_suspend", NotYet, "No checks while the virtual IP is elsewhere"),
    flag("ops", NotYetNoticeable("datagrams of one flow stay with one server"), "Schedule each datagram by itself"),
    one("persistence_engine", "sip", Rejected("clients would be told apart by address instead of by call: remove it to balance by address"), "Stickiness by SIP call"),
    flag("hashed", NotYet, "Old name of flag-1"),
    flag("flag-1", NotYet, "First flag of the scheduler"),
    flag("flag-2", NotYet, "Second flag of the scheduler"),
    flag("flag-3", NotYet, "Third flag of the scheduler"),
    flag("sh-port", NotYet, "sh hashes the port as well"),
    flag("sh-fallback", NotYet, "sh passes over servers that are out"),
    flag("mh-port", NotYet, "mh hashes the port as well"),
    flag("mh-fallback", NotYet, "mh passes over servers that are out"),
    maybe("virtualhost", "NAME", NotYet, "Host header of HTTP checks"),
    maybe("smtp_alert", "BOOLEAN", NotYet, "Mail when servers go up or down"),
    one("ip_family", "inet|inet6", NotYet, "Family of a fwmark service"),
    maybe("snmp_name", "NAME", NotYet, "Name in SNMP"),
    maybe("nat_mask", "NETMASK", NotNeeded("keepalived dropped it long ago"), "Old, without effect"),
    maybe("lvs_id", "NAME", NotNeeded("keepalived dropped it long ago"), "Old, without effect"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const REAL_SERVER: &[Keyword] = &[
    one("weight", "0-2147483647", Supported, "Share of new connections; default 1"),
    line("lvs_method", 1, usize::MAX, "DR", Supported, "lb_kind of this server"),
    one("delay_loop", "SECONDS", Supported, "delay_loop of its checkers"),
    one("connect_timeout", "SECONDS", Supported, "connect_timeout of its checkers"),
    one("retry", "NUMBER", Supported, "retry of its checkers"),
    one("delay_before_retry", "SECONDS", Supported, "delay_before_retry of its checkers"),
    one("warmup", "SECONDS", Supported, "warmup of its checkers"),
    block("TCP_CHECK", TcpCheck, Supported, "Up while it takes connections"),
    block("HTTP_GET", HttpGet, CHECKER, "Up while it answers HTTP requests"),
    block("SSL_GET", HttpGet, CHECKER, "Up while it answers HTTPS requests"),
    block("MISC_CHECK", MiscCheck, CHECKER, "Up while a command succeeds"),
    block("SMTP_CHECK", SmtpCheck, CHECKER, "Up while it speaks SMTP"),
    block("DNS_CHECK", DnsCheck, CHECKER, "Up while it answers a DNS query"),
    block("UDP_CHECK", UdpCheck, CHECKER, "Up while it answers a datagram"),
    block("PING_CHECK", PingCheck, CHECKER, "Up while it answers ICMP echo"),
    block("FILE_CHECK", FileCheck, CHECKER, "Up or weighted by the number in a file"),
    block("BFD_CHECK", BfdCheck, NO_BFD, "Up while the BFD session is"),
    flag("inhibit_on_failure", KEPT_OUT, "Weight 0 instead of removal"),
    maybe("alpha", "BOOLEAN", STARTS_UP, "Starts as down"),
    one("uthreshold", "NUMBER", UNLIMITED, "Most connections"),
    one("lthreshold", "NUMBER", NotYet, "Below this it takes connections again"),
    one("slow_start", "SECONDS", NotYetNoticeable("a server that comes up gets its full share at once"), "Time to grow to the full weight; keepalived does not know it"),
    script("notify_up", NotYet, "Command when it goes up"),
    script("notify_down", NotYet, "Command when it goes down"),
    maybe("smtp_alert", "BOOLEAN", NotYet, "Mail when it goes up or down"),
    maybe("virtualhost", "NAME", NotYet, "Host header of HTTP checks"),
    maybe("snmp_name", "NAME", NotYet, "Name in SNMP"),
];
