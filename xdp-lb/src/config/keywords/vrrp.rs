//! `vrrp_instance` and what it tracks.

use super::Kind::{
    Address, Boolean, Device, Name, OneOf, Path, Quantity, Seconds, User, Weight, Words,
};
use super::Scope::Authentication;
use super::Status::{NotNeeded, NotYet, NotYetNoticeable, Supported};
use super::kind::{ANY, number};
use super::lines;
use super::row::{
    Keyword, NEWER, OLD, SINCE_2_2_8, SINCE_2_4, Status, block, flag, line, list, many, maybe,
    named, one, pair, script,
};

const NO_OTHER_VMAC: Status =
    NotYetNoticeable("addresses on other interfaces have the MAC of their interface");
const NO_IPVLAN: Status =
    NotYetNoticeable("addresses stand on the interface itself, where adverts leave, too");
const NO_VRF: Status =
    NotYetNoticeable("addresses stand on their interface, in whichever VRF that is");

#[rustfmt::skip] // a table: one row per line
pub(super) const INSTANCE: &[Keyword] = &[
    one("state", OneOf(&["MASTER", "BACKUP"]), Supported, "State it wishes to start in; default BACKUP"),
    one("interface", Device, Supported, "Interface of the instance"),
    one("virtual_router_id", number(1, 255), Supported, "VRID; required"),
    one("priority", number(1, 255), Supported, "Priority in the election; default 100"),
    one("advert_int", Seconds, Supported, "Time between adverts; default 1"),
    list("virtual_ipaddress", lines::ADDRESSES, Supported, "Addresses that the master owns"),
    block("authentication", Authentication, Supported, "Password of the adverts"),
    list("virtual_ipaddress_excluded", lines::ADDRESSES, Supported, "Addresses the master owns and does not advertise"),
    list("virtual_routes", lines::ROUTES, Supported, "Routes of the master"),
    list("virtual_rules", lines::RULES, Supported, "Routing rules of the master"),
    list("track_interface", lines::TRACK_INTERFACE, Supported, "Interfaces that must be up"),
    list("track_script", lines::TRACK_SCRIPT, Supported, "Scripts that must succeed"),
    list("track_file", lines::TRACK_FILE, Supported, "Files whose number changes the priority"),
    list("track_process", lines::TRACK_PROCESS, Supported, "Processes that must run"),
    list("track_bfd", lines::TRACK_BFD, NotYet, "BFD sessions that must be up"),
    flag("track_src_ip", Supported, "Fault while the source address is missing on the interface"),
    flag("dont_track_primary", Supported, "Its own interface may be down"),
    flag("nopreempt", Supported, "Leave a master of lower priority alone"),
    flag("preempt", Supported, "Take over from a master of lower priority"),
    one("preempt_delay", Seconds, Supported, "Wait before taking over"),
    line("unicast_src_ip", 1, 2, Words("ADDRESS [track]"), Supported, "Source address of unicast adverts"),
    list("unicast_peer", lines::PEERS, Supported, "Peers that get unicast adverts"),
    one("unicast_ttl", number(0, 255), Supported, "TTL of unicast adverts"),
    flag("check_unicast_src", Supported, "Adverts must come from a listed peer; a value, 'off' too, changes nothing"),
    flag("unicast_fault_no_peer", Supported, "Fault without a peer"),
    line("mcast_src_ip", 1, 2, Words("ADDRESS [track]"), Supported, "Source address of multicast adverts"),
    one("mcast_dst_ip", Address, Supported, "Multicast group"),
    script("notify_master", Supported, "Command on becoming master"),
    script("notify_backup", Supported, "Command on becoming backup"),
    script("notify_fault", Supported, "Command on a fault"),
    script("notify_stop", Supported, "Command at the end"),
    script("notify_deleted", Supported, "Command when a reload removes it").optional(),
    script("notify", Supported, "Command on every change of state"),
    script("notify_master_rx_lower_pri", Supported, "Command when the master hears a lower priority"),
    maybe("notify_priority_changes", Boolean, Supported, "Report changes of priority too"),
    maybe("smtp_alert", Boolean, Supported, "Mail on every change of state"),
    one("garp_master_delay", Seconds, Supported, "Wait before the second burst of gratuitous ARP"),
    one("garp_master_repeat", ANY, Supported, "Size of a burst"),
    one("garp_master_refresh", Seconds, Supported, "Time between refreshes; without it one goes with each advert, in keepalived none"),
    one("garp_master_refresh_repeat", ANY, Supported, "Size of a refresh"),
    one("garp_lower_prio_delay", Seconds, Supported, "garp_master_delay after a lower priority was heard"),
    one("garp_lower_prio_repeat", ANY, Supported, "garp_master_repeat after a lower priority was heard"),
    line("garp_extra_if", 1, 2, Words("[all] SECONDS"), NotYet, "Time between gratuitous ARPs on the other interfaces of addresses; all: not only virtual MAC ones").passed_over(),
    line("vmac_garp_intvl", 1, 2, Words("[all] SECONDS"), NotYet, "Old name of garp_extra_if").passed_over(),
    one("down_timer_adverts", number(1, 100), Supported, "Missed adverts before taking over"),
    maybe("lower_prio_no_advert", Boolean, Supported, "Do not answer a lower priority"),
    maybe("higher_prio_send_advert", Boolean, Supported, "A last advert to a higher priority; default on, in keepalived off"),
    maybe("owner_ignore_adverts", Boolean, Supported, "Priority 255 ignores adverts").only(NEWER),
    flag("timer_expired_backup", NotYet, "Yield when scheduled too late").only(NEWER),
    one("version", OneOf(&["2", "3"]), Supported, "Version of VRRP; default vrrp_version, and 3 with IPv6"),
    maybe("strict_mode", Boolean, NotYet, "Follow the RFC to the letter"),
    maybe("skip_check_adv_addr", Boolean, Supported, "Check the addresses of a known master once"),
    flag("accept", Supported, "Take packets to the addresses"),
    flag("no_accept", Supported, "Drop packets to the addresses"),
    line("use_vmac", 0, 2, Words("[NAME] [MAC]"), Supported, "Addresses on a virtual MAC"),
    maybe("use_vmac_addr", Name, NO_OTHER_VMAC, "The same for addresses elsewhere"),
    flag("vmac_xmit_base", Supported, "Adverts leave by the interface itself"),
    line("use_ipvlan", 0, 3, Words("[NAME] [ADDRESS] [bridge|private|vepa]"), NO_IPVLAN, "Addresses on an ipvlan interface"),
    one("lvs_sync_daemon_interface", Device, NotYet, "Interface of connection synchronisation; old"),
    maybe("lvs_sync_daemon_inteface", Device, NotYet, "The same, as some old files spell it").only(OLD),
    flag("native_ipv6", Supported, "An IPv6 instance"),
    flag("linkbeat_use_polling", NotNeeded("the kernel reports link changes"), "Poll the link state"),
    one("debug", number(0, 4), NotNeeded("use -v"), "Verbosity"),
    one("kernel_rx_buf_size", Quantity("BYTES"), Supported, "Receive buffer of the socket").passed_over(),
    flag("promote_secondaries", NotYet, "Keep other addresses when one goes"),
    maybe("old_unicast_checksum", OneOf(&["never"]), NotYet, "Checksum of old versions"),
    maybe("v3_checksum_as_v2", Boolean, Supported, "Checksum of version 3 without pseudo header").only(SINCE_2_2_8),
    one("vrf", Device, NO_VRF, "VRF of the adverts"),
    flag("no_virtual_ipaddress", Supported, "It has no addresses on purpose").only(SINCE_2_2_8),
    list("auth_hmac", lines::HMAC, Supported, "Signed adverts").only(SINCE_2_4),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const AUTHENTICATION: &[Keyword] = &[
    one("auth_type", OneOf(&["PASS", "AH"]), Supported, "Kind of authentication"),
    one("auth_pass", Words("PASSWORD"), Supported, "Password; eight characters count"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SCRIPT: &[Keyword] = &[
    script("script", Supported, "The command").passed_over(),
    one("interval", Seconds, Supported, "Time between runs; default 1"),
    one("timeout", Seconds, Supported, "Longest run; default interval"),
    pair("weight", Weight(253), Supported, "Change of priority; default 0"),
    one("fall", number(1, 2_147_483_647), Supported, "Failures in a row that count as failed; default 1"),
    one("rise", number(1, 2_147_483_647), Supported, "Successes in a row that count as good; default 1"),
    pair("user", User, Supported, "Who runs it"),
    flag("init_fail", Supported, "Starts as failed"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const TRACK_FILE: &[Keyword] = &[
    one("file", Path, Supported, "The file").passed_over(),
    pair("weight", Weight(254), Supported, "Factor of the number in the file; default 1").passed_over(),
    line("init_file", 0, 2, Words("[VALUE] [overwrite]"), Supported, "Create the file"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const TRACK_PROCESS: &[Keyword] = &[
    many("process", Words("COMMAND [ARGUMENT…]"), Supported, "The process"),
    maybe("param_match", OneOf(&["initial", "partial"]), Supported, "How arguments are compared"),
    pair("weight", Weight(254), Supported, "Change of priority; default 0").passed_over(),
    one("quorum", number(1, 65_535), Supported, "Fewest processes"),
    one("quorum_max", number(0, 65_535), Supported, "Most processes"),
    one("delay", Seconds, Supported, "Both delays"),
    one("fork_delay", Seconds, Supported, "Wait after a process appeared"),
    one("terminate_delay", Seconds, Supported, "Wait after a process ended"),
    flag("full_command", Supported, "Compare the whole command line; a value, 'off' too, changes nothing"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const BFD_INSTANCE: &[Keyword] = &[
    one("neighbor_ip", Address, NotYet, "The neighbour"),
    one("neighbour_ip", Address, NotYet, "Another spelling of neighbor_ip"),
    one("source_ip", Address, NotYet, "Source address"),
    one("min_rx", Quantity("MILLISECONDS"), NotYet, "Shortest time between packets received"),
    one("min_tx", Quantity("MILLISECONDS"), NotYet, "Shortest time between packets sent"),
    one("idle_tx", Quantity("MILLISECONDS"), NotYet, "Time between packets while down"),
    one("multiplier", number(1, 255), NotYet, "Missed packets before the session is down"),
    flag("passive", NotYet, "Wait for the neighbour"),
    one("ttl", number(1, 255), NotYet, "TTL of packets sent"),
    one("hoplimit", number(1, 255), NotYet, "Hop limit of packets sent"),
    one("max_hops", number(-1, 255), NotYet, "Most hops of packets received"),
    pair("weight", Weight(253), NotYet, "Change of priority"),
    flag("vrrp", NotYet, "Only virtual routers track the session"),
    flag("checker", NotYet, "Only checkers track the session"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SYNC_GROUP: &[Keyword] = &[
    list("group", lines::INSTANCES, Supported, "Instances that change state together").passed_over(),
    list("track_interface", lines::TRACK_INTERFACE, Supported, "Interfaces that must be up"),
    list("track_script", lines::TRACK_SCRIPT, Supported, "Scripts that must succeed"),
    list("track_file", lines::TRACK_FILE, Supported, "Files whose number changes the priority"),
    list("track_process", lines::TRACK_PROCESS, Supported, "Processes that must run"),
    list("track_bfd", lines::TRACK_BFD, NotYet, "BFD sessions that must be up"),
    script("notify_master", Supported, "Command on becoming master"),
    script("notify_backup", Supported, "Command on becoming backup"),
    script("notify_fault", Supported, "Command on a fault"),
    script("notify_stop", Supported, "Command at the end"),
    script("notify", Supported, "Command on every change of state"),
    maybe("notify_priority_changes", Boolean, Supported, "Report changes of priority too"),
    maybe("smtp_alert", Boolean, Supported, "Mail on every change of state"),
    flag("global_tracking", NotYet, "Trackers of the members count for the group; old; a value, 'off' too, changes nothing"),
    flag("sync_group_tracking_weight", Supported, "Weighted trackers count; a value, 'off' too, changes nothing"),
];

/// Blocks of this part that stand at the top level.
pub(super) const fn root(
    name: &'static str,
    holds: super::Scope,
    status: Status,
    doc: &'static str,
) -> Keyword {
    named(name, 1, 1, Name, holds, status, doc)
}
