//! What interfaces are made of, and what that means for the program: whether packets can be balanced on
//! one at all, whether natively or only in the stack, and whether it takes what native XDP sends to it.
//! Pure.
//!
//! Two things are refused by nobody and would be a black hole: a program on an interface that it sees no
//! packets of, and frames that native XDP sends out of an interface that takes none. So they are known
//! here, by what the kernel says an interface is.

use std::collections::BTreeSet;

use super::desired::Reach;
use super::table::{Network, below, real_server_addresses};
use super::vlans::{Below, network_of};
use crate::config::model::{Config, XdpMode};

/// What an interface is made of, as far as that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// A card, or what looks like one.
    #[default]
    Plain,
    /// Several cards that are one interface.
    Bond,
    /// A VLAN behind another interface.
    Vlan(Below),
    /// One end of a cable within the machine.
    Veth,
    /// A program's end of one (TAP).
    Tap,
    /// A switch, as this host is a part of it.
    Bridge,
    /// Several cards that are one interface, by another driver than a bond's.
    Team,
    /// One with a MAC of its own on another interface (macvlan, macvtap).
    Macvlan,
    /// One with addresses of its own on another interface (ipvlan, ipvtap).
    Ipvlan,
    /// Frames in packets: VXLAN, Geneve, GRE.
    Overlay,
    /// An [`Ipvlan`](Self::Ipvlan) that knows addresses and no frames (`mode l3` and `l3s`).
    RoutedIpvlan,
    /// One that nothing comes in by (dummy, ifb).
    Empty,
    /// A routing table that interfaces belong to.
    Vrf,
    /// `lo`.
    Loopback,
    /// Packets without Ethernet headers: TUN, `WireGuard`, IPIP.
    Bare,
}

/// What becomes of frames that native XDP sends by a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// Its other end takes them: it has an XDP program, or GRO is on.
    Takes,
    /// It does not, and they are lost.
    Loses,
    /// It has no program, and is where its GRO cannot be seen.
    Unknown,
}

/// What to do about an interface that is of no use.
const NAME_ANOTHER: &str =
    "name the interface by which clients' packets come in as `interface` in the xdp_lb block";

/// Why no packet is balanced that comes in by an interface, and what to do; `None` if some are.
pub fn refusal(name: &str, sort: Sort) -> Option<String> {
    let why = match sort {
        Sort::Plain
        | Sort::Bond
        | Sort::Vlan(_)
        | Sort::Veth
        | Sort::Tap
        | Sort::Bridge
        | Sort::Team
        | Sort::Macvlan
        | Sort::Ipvlan
        | Sort::Overlay => return None,
        Sort::RoutedIpvlan => {
            return Some(format!(
                "{name} is an ipvlan that looks at addresses alone, so that packets for real servers \
                 would come back to the VIP: make it one of `mode l2`, or {NAME_ANOTHER}"
            ));
        }
        Sort::Vrf => {
            return Some(format!(
                "{name} is a VRF, and the program sees packets where they come in: name those of its \
                 interfaces by which clients' packets come in as `interface` in the xdp_lb block"
            ));
        }
        Sort::Empty => "nothing ever comes in by it",
        Sort::Loopback => "it is the loopback, and no client's packets come in by it",
        Sort::Bare => "its packets have no Ethernet headers, which the program reads and writes",
    };
    Some(format!(
        "no packet can be balanced on {name}: {why}; {NAME_ANOTHER}"
    ))
}

/// Why only generic XDP works on an interface, and what to do. `parent`: the name of the one below a VLAN,
/// if it is here.
pub fn only_generic(name: &str, sort: Sort, parent: Option<&str>) -> String {
    let what = match sort {
        Sort::Vlan(_) => {
            let Some(parent) = parent else {
                return in_the_stack(name, "it is a VLAN, and only generic XDP works on those");
            };
            return format!(
                "{name} is a VLAN, and only generic XDP works on those: the program runs in the stack, \
                 which is slower (name {parent}, which carries it, as `interface` in the xdp_lb block; \
                 or say `--xdp-mode generic` if that is meant)"
            );
        }
        Sort::Bond => {
            return in_the_stack(
                name,
                "native XDP on a bond takes Linux 5.15, one of the modes balance-rr, active-backup, \
                 balance-xor and 802.3ad (without xmit_hash_policy vlan+srcmac), and XDP in the drivers \
                 of all its interfaces",
            );
        }
        sort => layered(sort),
    };
    let Some((what, instead)) = what else {
        return in_the_stack(name, "its driver has no XDP");
    };
    format!(
        "{name} is {what}, and only generic XDP works on those: the program runs in the stack, which is \
         slower ({instead}; say `--xdp-mode generic` if this is meant)"
    )
}

fn in_the_stack(name: &str, why: &str) -> String {
    format!(
        "{name}: {why}; the program runs in the stack, which is slower (say `--xdp-mode generic` if that \
         is meant)"
    )
}

/// Whether native XDP works on nothing of the kind.
pub const fn is_only_generic(sort: Sort) -> bool {
    matches!(sort, Sort::Vlan(_)) || layered(sort).is_some()
}

/// What an interface is that lies upon others and has no native XDP for that, and how to do without it.
const fn layered(sort: Sort) -> Option<(&'static str, &'static str)> {
    const ON_THE_CARD: &str = "for native XDP put the addresses on a card itself";
    match sort {
        Sort::Bridge => Some((
            "a bridge",
            "for native XDP put the addresses on a card that is no port of it",
        )),
        Sort::Team => Some(("a team", "for native XDP make it a bond")),
        Sort::Macvlan => Some(("a macvlan", ON_THE_CARD)),
        Sort::Ipvlan => Some(("an ipvlan", ON_THE_CARD)),
        Sort::Overlay => Some(("a tunnel of Ethernet frames", ON_THE_CARD)),
        Sort::Plain
        | Sort::Bond
        | Sort::Vlan(_)
        | Sort::Veth
        | Sort::Tap
        | Sort::RoutedIpvlan
        | Sort::Empty
        | Sort::Vrf
        | Sort::Loopback
        | Sort::Bare => None,
    }
}

/// An interface that takes no frames from native XDP, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaf {
    /// Its name.
    pub name: String,
    /// What it is, or lacks: "it is a bridge".
    pub why: &'static str,
    /// Whether it may be otherwise.
    pub perhaps: bool,
}

/// Whether an interface takes frames from native XDP; `far_end` tells of a veth.
pub fn deaf(name: &str, sort: Sort, far_end: impl FnOnce() -> FarEnd) -> Option<Deaf> {
    let (why, perhaps) = match sort {
        Sort::Plain | Sort::Bond | Sort::Tap => return None,
        Sort::Veth => match far_end() {
            FarEnd::Takes => return None,
            FarEnd::Loses => ("its other end has no XDP program and no GRO", false),
            FarEnd::Unknown => ("its other end has no XDP program and maybe no GRO", true),
        },
        Sort::Vlan(_) => ("it is a VLAN", false),
        Sort::Bridge => ("it is a bridge", false),
        Sort::Team => ("it is a team", false),
        Sort::Macvlan => ("it is a macvlan", false),
        Sort::Ipvlan | Sort::RoutedIpvlan => ("it is an ipvlan", false),
        Sort::Overlay => ("it is a tunnel", false),
        Sort::Empty | Sort::Vrf | Sort::Loopback | Sort::Bare => {
            ("it carries no frames of others", false)
        }
    };
    Some(Deaf {
        name: name.to_owned(),
        why,
        perhaps,
    })
}

/// The interfaces by which packets leave for real servers, as far as they are known, with the program on
/// these: a VLAN's frames leave by what carries it.
pub fn leads(config: &Config, network: &Network, on: &BTreeSet<String>) -> BTreeSet<String> {
    let servers = real_server_addresses(config).into_iter();
    let reaches = servers.filter_map(|ip| network.reach.get(&ip).copied());
    let links = reaches.filter_map(|reach| match below(reach, config, network) {
        Reach::Direct { ifindex, .. } => network.link(ifindex),
        Reach::Local => None,
    });
    let leaving = links.map(|(name, _)| {
        let carrying = network_of(network, on, name);
        let parent = carrying.and_then(|vlan| network.link(vlan.parent));
        parent.map_or(name, |(name, _)| name).to_owned()
    });
    leaving.collect()
}

/// What is said of an interface that the program went on, natively or not; `None` if all is as it was
/// asked for. `deaf`: the interfaces by which packets would leave it in vain.
pub fn remark(
    name: &str,
    (wish, is_native): (XdpMode, bool),
    deaf: &[Deaf],
    network: &Network,
) -> Option<String> {
    let own = deaf.iter().find(|deaf| deaf.name == name);
    let first = own.or_else(|| deaf.first());
    match (wish, is_native, first) {
        (XdpMode::Generic, _, _) | (_, true, None) => None,
        (_, true, Some(deaf)) => {
            let (lost, from) = (&deaf.name, deaf.why);
            let if_so = if deaf.perhaps { "may be" } else { "are" };
            Some(format!(
                "{name}: packets that leave by {lost} {if_so} lost, because {from}, and native XDP sends \
                 nothing there: say `--xdp-mode generic`{}",
                remedy(deaf)
            ))
        }
        (_, false, Some(deaf)) if !is_above(name, deaf, network) => {
            let (lost, why) = (&deaf.name, deaf.why);
            Some(format!(
                "{name}: the program runs in the stack, which is slower, because native XDP could send \
                 nothing by {lost}: {why} (say `--xdp-mode generic` if that is meant{})",
                remedy(deaf)
            ))
        }
        (_, false, _) => {
            let sort = network.links.get(name).map(|link| link.sort);
            let sort = sort.unwrap_or_default();
            let parent = match sort {
                Sort::Vlan(below) => network.link(below.parent),
                _ => None,
            };
            Some(only_generic(name, sort, parent.map(|(name, _)| name)))
        }
    }
}

/// How an interface may be made to take frames.
fn remedy(deaf: &Deaf) -> &'static str {
    if deaf.why.starts_with("its other end") {
        ", or switch GRO on at the other end (`ethtool -K … gro on`) and say `--xdp-mode native`"
    } else {
        ""
    }
}

/// Whether that an interface is deaf is no more than that it has no native XDP itself.
fn is_above(name: &str, deaf: &Deaf, network: &Network) -> bool {
    let sort = network.links.get(name).map(|link| link.sort);
    deaf.name == name && sort != Some(Sort::Veth)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{link, network, websocket};
    use super::*;

    const USELESS: [Sort; 5] = [
        Sort::RoutedIpvlan,
        Sort::Empty,
        Sort::Vrf,
        Sort::Loopback,
        Sort::Bare,
    ];
    const LAYERED: [Sort; 5] = [
        Sort::Bridge,
        Sort::Team,
        Sort::Macvlan,
        Sort::Ipvlan,
        Sort::Overlay,
    ];
    const NATIVE: [Sort; 4] = [Sort::Plain, Sort::Bond, Sort::Veth, Sort::Tap];

    fn host(sort: Sort) -> Network {
        let mut network = network();
        let mut link = link(9);
        link.sort = sort;
        network.links.insert("x0".to_owned(), link);
        network
    }

    #[test]
    fn an_interface_of_no_use_is_refused_with_what_to_do() {
        for sort in USELESS {
            let said = refusal("x0", sort).unwrap();
            assert!(
                said.contains("x0") && said.contains("`interface`"),
                "{said}"
            );
            assert!(deaf("x0", sort, || FarEnd::Takes).is_some(), "{sort:?}");
        }
        let said = refusal("wg0", Sort::Bare).unwrap();
        assert!(
            said.starts_with(
                "no packet can be balanced on wg0: its packets have no Ethernet headers"
            ),
            "{said}"
        );
        for sort in LAYERED.into_iter().chain(NATIVE) {
            assert_eq!(refusal("x0", sort), None, "{sort:?}");
        }
    }

    #[test]
    fn where_only_generic_xdp_works_it_is_said_why() {
        let said = only_generic("x0", Sort::Bond, None);
        assert!(said.starts_with("x0: native XDP on a bond takes"), "{said}");
        let below = Below {
            parent: 2,
            ethertype: 0x8100,
            number: 10,
        };
        let said = only_generic("x0", Sort::Vlan(below), Some("eth0"));
        assert!(
            said.starts_with("x0 is a VLAN") && said.contains("name eth0,"),
            "{said}"
        );
        let said = only_generic("x0", Sort::Vlan(below), None);
        assert!(said.starts_with("x0: it is a VLAN"), "{said}");
        for sort in [Sort::Plain, Sort::Veth, Sort::Tap] {
            assert!(!is_only_generic(sort));
            let said = only_generic("x0", sort, None);
            assert!(
                said.starts_with("x0: its driver has no XDP; the program"),
                "{said}"
            );
        }
        let said = only_generic("x0", Sort::Bridge, None);
        assert!(
            said.starts_with("x0 is a bridge, and only generic") && said.contains("no port of it"),
            "{said}"
        );
        for sort in LAYERED {
            assert!(is_only_generic(sort));
            let said = only_generic("x0", sort, None);
            assert!(said.contains("for native XDP"), "{said}");
        }
    }

    #[test]
    fn frames_of_native_xdp_reach_only_what_takes_them() {
        let never = || panic!("of a veth only");
        for sort in [Sort::Plain, Sort::Bond, Sort::Tap] {
            assert_eq!(deaf("x0", sort, never), None);
        }
        for sort in LAYERED {
            assert!(deaf("x0", sort, never).is_some_and(|deaf| !deaf.perhaps));
        }
        let of = |end| deaf("x0", Sort::Veth, || end);
        assert_eq!(of(FarEnd::Takes), None);
        assert!(!of(FarEnd::Loses).unwrap().perhaps);
        assert!(of(FarEnd::Unknown).unwrap().perhaps);
    }

    #[test]
    fn packets_leave_by_what_leads_to_real_servers() {
        let config = websocket();
        let mut network = network();
        let all = |network: &Network, on: &[&str]| {
            let on = on.iter().map(ToString::to_string).collect();
            Vec::from_iter(leads(&config, network, &on))
        };
        assert_eq!(all(&network, &["eth0"]), ["eth0", "eth1"]);
        let mut vlan = link(9);
        vlan.sort = Sort::Vlan(Below {
            parent: 3,
            ethertype: 0x8100,
            number: 10,
        });
        network.links.insert("eth1.10".to_owned(), vlan);
        let server = "192.168.1.103".parse().unwrap();
        let by = super::super::testing::direct(9);
        network.reach.insert(server, by);
        assert_eq!(all(&network, &["eth0"]), ["eth0", "eth1.10"]);
        assert_eq!(all(&network, &["eth0", "eth1"]), ["eth0", "eth1"]);
        network.reach.clear();
        assert!(all(&network, &["eth0"]).is_empty());
    }

    #[test]
    fn what_is_not_as_asked_for_is_said() {
        const NATIVE: bool = true;
        const GENERIC: bool = false;
        let bridge = || deaf("br0", Sort::Bridge, || FarEnd::Takes).unwrap();
        let veth = |name: &str, end| deaf(name, Sort::Veth, || end).unwrap();
        let said = |wish, mode, deaf: &[Deaf], sort| remark("x0", (wish, mode), deaf, &host(sort));
        for (wish, mode) in [
            (XdpMode::Auto, NATIVE),
            (XdpMode::Native, NATIVE),
            (XdpMode::Generic, GENERIC),
        ] {
            assert_eq!(said(wish, mode, &[], Sort::Plain), None);
        }
        assert_eq!(
            said(XdpMode::Generic, GENERIC, &[bridge()], Sort::Plain),
            None
        );
        let text = said(XdpMode::Auto, GENERIC, &[], Sort::Plain).unwrap();
        assert!(text.contains("its driver has no XDP"), "{text}");
        let text = said(XdpMode::Auto, GENERIC, &[bridge()], Sort::Plain).unwrap();
        assert!(
            text.contains("send nothing by br0: it is a bridge"),
            "{text}"
        );
        assert!(!text.contains("gro on"), "{text}");
        let text = said(XdpMode::Native, NATIVE, &[bridge()], Sort::Plain).unwrap();
        assert!(text.contains("leave by br0 are lost"), "{text}");
        let own = [veth("x0", FarEnd::Unknown)];
        let text = said(XdpMode::Auto, GENERIC, &own, Sort::Veth).unwrap();
        assert!(
            text.contains("by x0: its other end") && text.contains("gro on"),
            "{text}"
        );
        let text = said(XdpMode::Native, NATIVE, &own, Sort::Veth).unwrap();
        assert!(text.contains("by x0 may be lost"), "{text}");
        // What it is itself, is the better reason.
        let own = [deaf("x0", Sort::Bridge, || FarEnd::Takes).unwrap()];
        let text = said(XdpMode::Auto, GENERIC, &own, Sort::Bridge).unwrap();
        assert!(text.starts_with("x0 is a bridge"), "{text}");
        let both = [own[0].clone(), veth("x1", FarEnd::Loses)];
        let text = said(XdpMode::Auto, GENERIC, &both, Sort::Bridge).unwrap();
        assert!(text.starts_with("x0 is a bridge"), "{text}");
    }
}
