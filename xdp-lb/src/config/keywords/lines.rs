//! Blocks whose lines start with no keyword: what a line looks like.

/// A form that a line can have, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line; one that starts with `…` goes behind those above it.
    pub form: &'static str,
    /// What it says.
    pub doc: &'static str,
}

const fn line(form: &'static str, doc: &'static str) -> Line {
    Line { form, doc }
}

#[rustfmt::skip] // a table: one row per line
pub(super) const ADDRESSES: &[Line] = &[
    line("ADDRESS[/LENGTH]", "An address; its length is 32, or 128 of IPv6, when it is not given"),
    line("… dev DEVICE", "Its interface; default that of the instance"),
    line("… label NAME", "Name of an IPv4 address, at most 15 characters: DEVICE:TEXT"),
    line("… brd ADDRESS|+|-", "Broadcast address; + and - set or clear the bits of the host"),
    line("… scope global|site|link|host|nowhere|NUMBER", "Scope; default global"),
    line("… peer ADDRESS[/LENGTH]", "The other end of a point-to-point link"),
    line("… preferred_lft SECONDS|forever", "How long the director sends from it, IPv6 only; default 0 of a VIP and of length 128"),
    line("… home, -nodad, mngtmpaddr, noprefixroute, autojoin", "Flags that the kernel gives the address; -nodad has it look for duplicates"),
    line("… use_vmac, no_track, track_group NAME", "How keepalived keeps the address"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const ROUTES: &[Line] = &[
    line("[blackhole|unreachable|prohibit|throw] DESTINATION", "A route, in the words of 'ip route add', not shortened"),
    line("… via ADDRESS, dev DEVICE, src ADDRESS", "Where it leads"),
    line("… table TABLE, metric NUMBER, scope SCOPE, protocol NAME, tos NUMBER, mtu BYTES", "Its properties; more as in 'ip route add'"),
    line("… nexthop via ADDRESS dev DEVICE weight NUMBER", "One of several ways"),
    line("… no_track, track_group NAME", "Whether an instance fails when the route is gone"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const RULES: &[Line] = &[
    line("[from PREFIX] [to PREFIX] SELECTOR… table TABLE", "A routing rule, in the words of 'ip rule add', not shortened"),
    line("… iif DEVICE, oif DEVICE, fwmark MARK[/MASK], tos NUMBER, ip_proto NAME, sport RANGE, dport RANGE", "What it selects"),
    line("… preference NUMBER", "Its place among the rules; give one"),
    line("… no_track, track_group NAME", "Whether an instance fails when the rule is gone"),
];

pub(super) const TRACK_INTERFACE: &[Line] = &[
    line("DEVICE", "It must be up"),
    line(
        "… weight -253..253 [reverse|noreverse]",
        "It changes the priority instead; default 0",
    ),
];

pub(super) const TRACK_SCRIPT: &[Line] = &[
    line("NAME", "A vrrp_script, which must succeed"),
    line(
        "… weight -253..253 [reverse|noreverse]",
        "It changes the priority instead; default that of the script",
    ),
];

pub(super) const TRACK_FILE: &[Line] = &[
    line("NAME", "A track_file"),
    line(
        "… weight -254..254 [reverse|noreverse]",
        "Factor of the number in the file; default that of the file",
    ),
];

pub(super) const TRACK_PROCESS: &[Line] = &[
    line("NAME", "A vrrp_track_process"),
    line(
        "… weight -254..254 [reverse|noreverse]",
        "It changes the priority; default that of the process",
    ),
];

pub(super) const TRACK_BFD: &[Line] = &[
    line("NAME", "A bfd_instance, which must be up"),
    line(
        "… weight -253..253 [reverse|noreverse]",
        "It changes the priority instead; default that of the session",
    ),
];

pub(super) const PEERS: &[Line] = &[
    line("ADDRESS", "A director that gets the adverts"),
    line(
        "… min_ttl 0-255, max_ttl 0-255",
        "TTL that its adverts must arrive with",
    ),
];

pub(super) const INSTANCES: &[Line] = &[line("NAME", "A vrrp_instance; several may share a line")];

pub(super) const SERVICE_GROUP: &[Line] = &[
    line("ADDRESS [PORT]", "An address"),
    line(
        "ADDRESS-LAST [PORT]",
        "Addresses up to LAST, which takes the place of the last part",
    ),
    line(
        "fwmark NUMBER [inet|inet6]",
        "Packets that a firewall rule has marked",
    ),
];

pub(super) const MAIL: &[Line] = &[line("MAIL-ADDRESS", "Somebody who gets mail")];

pub(super) const DEVICES: &[Line] = &[line("DEVICE", "An interface")];

pub(super) const LINKBEAT: &[Line] = &[line(
    "DEVICE [MII|ETHTOOL|IOCTL]",
    "An interface and how its link is polled",
)];

pub(super) const DELAYS: &[Line] = &[line(
    "DEVICE SECONDS [SECONDS]",
    "How long the interface must be down, and up, to count as such; at most 255",
)];

pub(super) const HMAC: &[Line] = &[line("WORD…", "Keys of the signature")];

#[rustfmt::skip] // a table: one row per line
pub(super) const MARKED: &[Line] = &[
    line("tcp|udp ADDRESS:PORT[,PORT|,FIRST-LAST]…", "Packets to the ports of an address; [ADDRESS]:PORT of IPv6"),
    line("tcp|udp ADDRESS", "Packets to every port of it"),
];
