//! `vrrp_instance` and what it tracks.

use super::Scope::{Authentication, Lines};
use super::Status::{NotNeeded, NotYet, Supported};
use super::{Keyword, block, flag, line, many, maybe, named, one, script};

#[rustfmt::skip] // a table: one row per line
pub(super) const INSTANCE: &[Keyword] = &[
    one("state", "MASTER|BACKUP", Supported, "State it wishes to start in; default BACKUP"),
    one("interface", "DEVICE", Supported, "Interface of the instance"),
    one("virtual_router_id", "1-255", Supported, "VRID; required"),
    one("priority", "1-255", Supported, "Priority in the election; default 100"),
    one("advert_int", "SECONDS", NotYet, "Time between adverts; default 1"),
    block("virtual_ipaddress", Lines, Supported, "Addresses that the master owns"),
    block("authentication", Authentication, NotYet, "Password of the adverts"),
    block("virtual_ipaddress_excluded", Lines, NotYet, "Addresses the master owns and does not advertise"),
    block("virtual_routes", Lines, NotYet, "Routes of the master"),
    block("virtual_rules", Lines, NotYet, "Routing rules of the master"),
    block("track_interface", Lines, NotYet, "Interfaces that must be up"),
    block("track_script", Lines, NotYet, "Scripts that must succeed"),
    block("track_file", Lines, NotYet, "Files whose number changes the priority"),
    block("track_process", Lines, NotYet, "Processes that must run"),
    block("track_bfd", Lines, NotYet, "BFD sessions that must be up"),
    flag("track_src_ip", NotYet, "Fault while the source address is missing"),
    flag("dont_track_primary", NotYet, "Its own interface may be down"),
    flag("nopreempt", NotYet, "Leave a master of lower priority alone"),
    flag("preempt", NotYet, "Take over from a master of lower priority"),
    one("preempt_delay", "SECONDS", NotYet, "Wait before taking over"),
    line("unicast_src_ip", 1, 2, "ADDRESS [track]", NotYet, "Source address of unicast adverts"),
    block("unicast_peer", Lines, NotYet, "Peers that get unicast adverts"),
    one("unicast_ttl", "0-255", NotYet, "TTL of unicast adverts"),
    maybe("check_unicast_src", "BOOLEAN", NotYet, "Adverts must come from a listed peer"),
    flag("unicast_fault_no_peer", NotYet, "Fault without a peer"),
    line("mcast_src_ip", 1, 2, "ADDRESS [track]", NotYet, "Source address of multicast adverts"),
    one("mcast_dst_ip", "ADDRESS", NotYet, "Multicast group"),
    script("notify_master", NotYet, "Command on becoming master"),
    script("notify_backup", NotYet, "Command on becoming backup"),
    script("notify_fault", NotYet, "Command on a fault"),
    script("notify_stop", NotYet, "Command at the end"),
    script("notify_deleted", NotYet, "Command when a reload removes it").optional(),
    script("notify", NotYet, "Command on every change of state"),
    script("notify_master_rx_lower_pri", NotYet, "Command when the master hears a lower priority"),
    maybe("notify_priority_changes", "BOOLEAN", NotYet, "Report changes of priority too"),
    maybe("smtp_alert", "BOOLEAN", NotYet, "Mail on every change of state"),
    one("garp_master_delay", "SECONDS", NotYet, "Wait before the second burst of gratuitous ARP"),
    one("garp_master_repeat", "NUMBER", NotYet, "Size of a burst"),
    one("garp_master_refresh", "SECONDS", NotYet, "Time between refreshes"),
    one("garp_master_refresh_repeat", "NUMBER", NotYet, "Size of a refresh"),
    one("garp_lower_prio_delay", "SECONDS", NotYet, "The same after a lower priority was heard"),
    one("garp_lower_prio_repeat", "NUMBER", NotYet, "The same after a lower priority was heard"),
    line("garp_extra_if", 0, 2, "[all] SECONDS", NotYet, "Gratuitous ARP on other interfaces"),
    one("down_timer_adverts", "1-100", NotYet, "Missed adverts before taking over"),
    maybe("lower_prio_no_advert", "BOOLEAN", NotYet, "Do not answer a lower priority"),
    maybe("higher_prio_send_advert", "BOOLEAN", NotYet, "A last advert to a higher priority"),
    maybe("owner_ignore_adverts", "BOOLEAN", NotYet, "Priority 255 ignores adverts"),
    flag("timer_expired_backup", NotYet, "Yield when scheduled too late"),
    one("version", "2|3", NotYet, "Version of VRRP"),
    maybe("strict_mode", "BOOLEAN", NotYet, "Follow the RFC to the letter"),
    maybe("skip_check_adv_addr", "BOOLEAN", NotYet, "Check the addresses of a known master once"),
    flag("accept", NotYet, "Take packets to the addresses"),
    flag("no_accept", NotYet, "Drop packets to the addresses"),
    line("use_vmac", 0, 4, "[NAME] [MAC]", NotYet, "Addresses on a virtual MAC"),
    line("use_vmac_addr", 0, 1, "[NAME]", NotYet, "The same for addresses elsewhere"),
    flag("vmac_xmit_base", NotYet, "Adverts leave by the interface itself"),
    line("use_ipvlan", 0, 4, "[NAME] [ADDRESS]", NotYet, "Addresses on an ipvlan interface"),
    one("lvs_sync_daemon_interface", "DEVICE", NotYet, "Interface of connection synchronisation; old"),
    maybe("lvs_sync_daemon_inteface", "DEVICE", NotYet, "The same, as some old files spell it"),
    flag("native_ipv6", NotYet, "An IPv6 instance"),
    flag("linkbeat_use_polling", NotNeeded("the kernel reports link changes"), "Poll the link state"),
    maybe("debug", "LEVEL", NotNeeded("use -v"), "Verbosity"),
    maybe("kernel_rx_buf_size", "BYTES", NotYet, "Receive buffer of the socket"),
    flag("promote_secondaries", NotYet, "Keep other addresses when one goes"),
    maybe("old_unicast_checksum", "[never]", NotYet, "Checksum of old versions"),
    maybe("v3_checksum_as_v2", "BOOLEAN", NotYet, "Checksum of version 3 without pseudo header"),
    one("vrf", "DEVICE", NotYet, "VRF of the adverts"),
    flag("no_virtual_ipaddress", NotYet, "It has no addresses on purpose"),
    block("auth_hmac", Lines, NotYet, "Signed adverts"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const AUTHENTICATION: &[Keyword] = &[
    one("auth_type", "PASS|AH", NotYet, "Kind of authentication"),
    one("auth_pass", "PASSWORD", NotYet, "Password; eight characters count"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SCRIPT: &[Keyword] = &[
    script("script", NotYet, "The command"),
    one("interval", "SECONDS", NotYet, "Time between runs; default 1"),
    one("timeout", "SECONDS", NotYet, "Longest run; default interval"),
    line("weight", 1, 2, "NUMBER [reverse]", NotYet, "Change of priority; default 0"),
    one("fall", "NUMBER", NotYet, "Failures in a row that count as failed; default 1"),
    one("rise", "NUMBER", NotYet, "Successes in a row that count as good; default 1"),
    line("user", 1, 2, "USER [GROUP]", NotYet, "Who runs it"),
    flag("init_fail", NotYet, "Starts as failed"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const TRACK_FILE: &[Keyword] = &[
    one("file", "PATH", NotYet, "The file"),
    line("weight", 1, 2, "NUMBER [reverse]", NotYet, "Factor of the number in the file; default 1"),
    line("init_file", 0, 2, "[VALUE] [overwrite]", NotYet, "Create the file"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const TRACK_PROCESS: &[Keyword] = &[
    many("process", "COMMAND [ARGUMENT…]", NotYet, "The process"),
    line("param_match", 0, 1, "[initial|partial]", NotYet, "How arguments are compared"),
    line("weight", 1, 2, "NUMBER [reverse]", NotYet, "Change of priority; default 0"),
    one("quorum", "NUMBER", NotYet, "Fewest processes"),
    one("quorum_max", "NUMBER", NotYet, "Most processes"),
    one("delay", "SECONDS", NotYet, "Both delays"),
    one("fork_delay", "SECONDS", NotYet, "Wait after a process appeared"),
    one("terminate_delay", "SECONDS", NotYet, "Wait after a process ended"),
    maybe("full_command", "BOOLEAN", NotYet, "Compare the whole command line"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const BFD_INSTANCE: &[Keyword] = &[
    one("neighbor_ip", "ADDRESS", NotYet, "The neighbour"),
    one("neighbour_ip", "ADDRESS", NotYet, "The same"),
    one("source_ip", "ADDRESS", NotYet, "Source address"),
    one("min_rx", "MILLISECONDS", NotYet, "Shortest time between packets received"),
    one("min_tx", "MILLISECONDS", NotYet, "Shortest time between packets sent"),
    one("idle_tx", "MILLISECONDS", NotYet, "Time between packets while down"),
    one("multiplier", "NUMBER", NotYet, "Missed packets before the session is down"),
    flag("passive", NotYet, "Wait for the neighbour"),
    one("ttl", "1-255", NotYet, "TTL of packets sent"),
    one("hoplimit", "1-255", NotYet, "Hop limit of packets sent"),
    one("max_hops", "NUMBER", NotYet, "Most hops of packets received"),
    one("weight", "NUMBER", NotYet, "Change of priority"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SYNC_GROUP: &[Keyword] = &[
    block("group", Lines, NotYet, "Instances that change state together"),
    block("track_interface", Lines, NotYet, "Interfaces that must be up"),
    block("track_script", Lines, NotYet, "Scripts that must succeed"),
    block("track_file", Lines, NotYet, "Files whose number changes the priority"),
    block("track_process", Lines, NotYet, "Processes that must run"),
    block("track_bfd", Lines, NotYet, "BFD sessions that must be up"),
    script("notify_master", NotYet, "Command on becoming master"),
    script("notify_backup", NotYet, "Command on becoming backup"),
    script("notify_fault", NotYet, "Command on a fault"),
    script("notify_stop", NotYet, "Command at the end"),
    script("notify", NotYet, "Command on every change of state"),
    maybe("notify_priority_changes", "BOOLEAN", NotYet, "Report changes of priority too"),
    maybe("smtp_alert", "BOOLEAN", NotYet, "Mail on every change of state"),
    maybe("global_tracking", "BOOLEAN", NotYet, "Old name of sync_group_tracking_weight"),
    maybe("sync_group_tracking_weight", "BOOLEAN", NotYet, "Weighted trackers count"),
];

/// Blocks of this part that stand at the top level.
pub(super) const fn root(name: &'static str, holds: super::Scope, doc: &'static str) -> Keyword {
    named(name, 1, 1, "NAME", holds, NotYet, doc)
}
