//! What to change to become a real server, or to cease to be one; what to remember so that it can be
//! undone. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::facts::{ALL, Facts, Key, LO, Sysctl};
use crate::net::netlink::host_net;

/// The sysctls of a real server of IPv4 VIPs.
pub fn wanted() -> [(Sysctl, i64); 4] {
    [
        (Sysctl::new(ALL, Key::ArpIgnore), 1),
        (Sysctl::new(ALL, Key::ArpAnnounce), 2),
        (Sysctl::new(LO, Key::ArpIgnore), 1),
        (Sysctl::new(LO, Key::ArpAnnounce), 2),
    ]
}

/// What is to be undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// VIPs set up, and whether we put them on `lo` (else they stood there before).
    pub vips: BTreeMap<IpAddr, bool>,
    /// Sysctls that we changed, by name, and their values before.
    pub sysctls: BTreeMap<String, i64>,
}

impl Saved {
    /// Whether there is nothing to undo.
    pub fn is_empty(&self) -> bool {
        self.vips.is_empty() && self.sysctls.is_empty()
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set a sysctl.
    Set {
        /// Which one.
        sysctl: Sysctl,
        /// Value that stands.
        from: i64,
        /// Value wanted.
        to: i64,
    },
    /// Put a VIP on `lo`.
    Add(IpAddr),
    /// Take a VIP from `lo`.
    Remove(IpAddr),
}

/// One line of what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A change.
    Do(Step),
    /// Something that is as it should be.
    Stands(String),
    /// Something that is not ours to change.
    Left(String),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Do(Step::Set { sysctl, from, to }) => {
                write!(f, "set     {sysctl} = {to} (was {from})")
            }
            Self::Do(Step::Add(vip)) => write!(f, "add     {} on {LO}", host_net(*vip)),
            Self::Do(Step::Remove(vip)) => write!(f, "remove  {} from {LO}", host_net(*vip)),
            Self::Stands(what) => write!(f, "stands  {what}"),
            Self::Left(what) => write!(f, "left    {what}"),
        }
    }
}

/// What to do, in order, and what to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Lines, among them the steps.
    pub entries: Vec<Entry>,
    /// What is to be undone once they are done.
    pub saved: Saved,
}

/// Sets up `vips` on top of what was set up before.
///
/// The sysctls come first: between the two, this host would answer ARP for the VIP.
pub fn up(facts: &Facts, saved: &Saved, vips: &BTreeSet<IpAddr>) -> Plan {
    let mut entries = Vec::new();
    let mut saved = saved.clone();
    if vips.iter().any(IpAddr::is_ipv4) {
        for (sysctl, to) in wanted() {
            let from = facts.value(&sysctl).unwrap_or(0);
            if from == to {
                entries.push(Entry::Stands(format!("{sysctl} = {to}")));
                continue;
            }
            // As long as ours stands, the first value stays saved. Where it does not, somebody has
            // set another since, or this is a young namespace with an old one's number: then what
            // stands now is what to go back to.
            saved.sysctls.insert(sysctl.to_string(), from);
            entries.push(Entry::Do(Step::Set { sysctl, from, to }));
        }
    }
    for &vip in vips {
        let stands = facts.has_vip(vip);
        if stands {
            entries.push(Entry::Stands(format!("{} on {LO}", host_net(vip))));
            saved.vips.entry(vip).or_insert(false);
        } else {
            entries.push(Entry::Do(Step::Add(vip)));
            saved.vips.insert(vip, true);
        }
    }
    Plan { entries, saved }
}

/// Undoes `vips`, or everything: VIPs first, for the reason given at [`up`]; the sysctls when no VIP
/// is left that was set up.
pub fn down(facts: &Facts, saved: &Saved, vips: Option<&BTreeSet<IpAddr>>) -> Plan {
    let mut entries = Vec::new();
    let mut saved = saved.clone();
    let all = || saved.vips.keys().copied().collect();
    for vip in vips.cloned().unwrap_or_else(all) {
        let ours = saved.vips.remove(&vip);
        let what = format!("{} on {LO}", host_net(vip));
        entries.push(match (facts.has_vip(vip), ours) {
            (true, Some(true)) => Entry::Do(Step::Remove(vip)),
            (true, Some(false) | None) => Entry::Left(format!(
                "{what}: 'xdp-lb realserver up' did not put it there"
            )),
            (false, _) => Entry::Stands(format!("no {what}")),
        });
    }
    if saved.vips.is_empty() {
        for (sysctl, ours) in wanted() {
            let Some(before) = saved.sysctls.remove(&sysctl.to_string()) else {
                continue;
            };
            let from = facts.value(&sysctl).unwrap_or(before);
            entries.push(if from == before {
                Entry::Stands(format!("{sysctl} = {before}"))
            } else if from == ours {
                Entry::Do(Step::Set {
                    sysctl,
                    from,
                    to: before,
                })
            } else {
                Entry::Left(format!(
                    "{sysctl} = {from}: changed since 'xdp-lb realserver up'"
                ))
            });
        }
    }
    Plan { entries, saved }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::facts::Host;
    use super::*;

    fn vips(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    fn fresh() -> Facts {
        let lo = Host {
            name: LO.to_owned(),
            up: true,
            addresses: vec!["127.0.0.1/8".parse().unwrap()],
        };
        Facts {
            interfaces: vec![lo],
            sysctls: wanted()
                .into_iter()
                .map(|(sysctl, _)| (sysctl, 0))
                .collect(),
        }
    }

    fn carry_out(facts: &mut Facts, step: &Step) {
        match step {
            Step::Set { sysctl, from, to } => {
                assert_eq!(facts.value(sysctl), Some(*from));
                facts.sysctls.insert(sysctl.clone(), *to);
            }
            Step::Add(vip) => {
                assert!(!facts.has_vip(*vip));
                facts.interfaces[0].addresses.push(host_net(*vip));
            }
            Step::Remove(vip) => {
                assert!(facts.has_vip(*vip));
                facts.interfaces[0]
                    .addresses
                    .retain(|address| *address != host_net(*vip));
            }
        }
    }

    fn run(facts: &mut Facts, plan: Plan) -> Saved {
        for entry in &plan.entries {
            if let Entry::Do(step) = entry {
                carry_out(facts, step);
            }
        }
        plan.saved
    }

    fn lines(plan: &Plan) -> Vec<String> {
        plan.entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn up_says_what_it_does_and_what_stood() {
        let mut facts = fresh();
        facts.sysctls.insert(Sysctl::new(LO, Key::ArpIgnore), 1);
        let plan = up(&facts, &Saved::default(), &vips(&["192.168.1.200"]));
        assert_eq!(
            lines(&plan),
            [
                "set     net.ipv4.conf.all.arp_ignore = 1 (was 0)",
                "set     net.ipv4.conf.all.arp_announce = 2 (was 0)",
                "stands  net.ipv4.conf.lo.arp_ignore = 1",
                "set     net.ipv4.conf.lo.arp_announce = 2 (was 0)",
                "add     192.168.1.200/32 on lo",
            ]
        );
    }

    #[test]
    fn arp_is_silenced_before_the_vip_comes_and_released_after_it_went() {
        let mut facts = fresh();
        let is_set = |entry: &Entry| matches!(entry, Entry::Do(Step::Set { .. }));
        let there = up(&facts, &Saved::default(), &vips(&["10.0.0.1", "10.0.0.2"]));
        assert!(there.entries.is_sorted_by_key(|entry| !is_set(entry)));
        let saved = run(&mut facts, there);
        let back = down(&facts, &saved, None);
        assert!(back.entries.is_sorted_by_key(is_set));
    }

    #[test]
    fn an_ipv6_vip_needs_no_arp_setting() {
        let plan = up(&fresh(), &Saved::default(), &vips(&["2001:db8::1"]));
        assert_eq!(lines(&plan), ["add     2001:db8::1/128 on lo"]);
    }

    #[test]
    fn the_first_values_are_kept_over_several_runs() {
        let mut facts = fresh();
        facts.sysctls.insert(Sysctl::new(ALL, Key::ArpAnnounce), 1);
        let before = facts.clone();
        let saved = up(&facts, &Saved::default(), &vips(&["10.0.0.1"]));
        let saved = run(&mut facts, saved);
        let again = up(&facts, &saved, &vips(&["10.0.0.1", "10.0.0.2"]));
        let steps = again
            .entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Do(_)));
        assert_eq!(steps.count(), 1, "only the new VIP");
        let saved = run(&mut facts, again);
        assert_eq!(saved.sysctls["net.ipv4.conf.all.arp_announce"], 1);
        let plan = down(&facts, &saved, None);
        assert!(run(&mut facts, plan).is_empty());
        assert_eq!(facts, before);
    }

    #[test]
    fn one_vip_of_two_can_go_and_the_sysctls_go_with_the_last() {
        let mut facts = fresh();
        let before = facts.clone();
        let plan = up(&facts, &Saved::default(), &vips(&["10.0.0.1", "10.0.0.2"]));
        let saved = run(&mut facts, plan);
        let first = down(&facts, &saved, Some(&vips(&["10.0.0.1"])));
        assert_eq!(lines(&first), ["remove  10.0.0.1/32 from lo"]);
        let saved = run(&mut facts, first);
        let second = down(&facts, &saved, Some(&vips(&["10.0.0.2"])));
        let saved = run(&mut facts, second);
        assert!(saved.is_empty());
        assert_eq!(facts, before);
    }

    #[test]
    fn what_others_did_is_left() {
        let mut facts = fresh();
        carry_out(&mut facts, &Step::Add("10.0.0.1".parse().unwrap()));
        let plan = up(&facts, &Saved::default(), &vips(&["10.0.0.1"]));
        let saved = run(&mut facts, plan);
        facts.sysctls.insert(Sysctl::new(ALL, Key::ArpIgnore), 8);
        let plan = down(&facts, &saved, None);
        let left: Vec<_> = lines(&plan)
            .into_iter()
            .filter(|line| line.starts_with("left"))
            .collect();
        assert_eq!(
            left,
            [
                "left    10.0.0.1/32 on lo: 'xdp-lb realserver up' did not put it there",
                "left    net.ipv4.conf.all.arp_ignore = 8: changed since 'xdp-lb realserver up'",
            ]
        );
        let nothing = down(&fresh(), &Saved::default(), Some(&vips(&["10.0.0.9"])));
        assert_eq!(lines(&nothing), ["stands  no 10.0.0.9/32 on lo"]);
    }

    #[test]
    fn a_memory_of_another_host_does_no_harm() {
        // Left behind by a namespace that went, whose number this one has.
        let saved = up(&fresh(), &Saved::default(), &vips(&["10.0.0.1"])).saved;
        let mut facts = fresh();
        facts.sysctls.insert(Sysctl::new(ALL, Key::ArpAnnounce), 1);
        let before = facts.clone();
        let plan = up(&facts, &saved, &vips(&["10.0.0.1"]));
        let saved = run(&mut facts, plan);
        let plan = down(&facts, &saved, None);
        run(&mut facts, plan);
        assert_eq!(facts, before);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Up(BTreeSet<IpAddr>),
        Down(Option<BTreeSet<IpAddr>>),
        /// Only so many steps are done, then the process is killed.
        KilledUp(BTreeSet<IpAddr>, usize),
    }

    fn any_vips() -> impl Strategy<Value = BTreeSet<IpAddr>> {
        let vip = (1..4_u8).prop_map(|last| IpAddr::from([10, 0, 0, last]));
        prop::collection::btree_set(vip, 1..3)
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            any_vips().prop_map(Act::Up),
            prop::option::of(any_vips()).prop_map(Act::Down),
            (any_vips(), 0..6_usize).prop_map(|(vips, steps)| Act::KilledUp(vips, steps)),
        ]
    }

    proptest! {
        #[test]
        fn whatever_was_done_one_down_leads_back(
            values in prop::collection::vec(0..3_i64, 4),
            standing in prop::option::of(1..4_u8),
            acts in prop::collection::vec(any_act(), 0..8),
        ) {
            let mut facts = fresh();
            for ((sysctl, _), value) in wanted().into_iter().zip(values) {
                facts.sysctls.insert(sysctl, value);
            }
            if let Some(last) = standing {
                carry_out(&mut facts, &Step::Add(IpAddr::from([10, 0, 0, last])));
            }
            let before = facts.clone();
            let mut saved = Saved::default();
            for act in acts {
                let plan = match &act {
                    Act::Up(vips) | Act::KilledUp(vips, _) => up(&facts, &saved, vips),
                    Act::Down(vips) => down(&facts, &saved, vips.as_ref()),
                };
                saved = plan.saved;
                let steps = plan.entries.iter().filter_map(|entry| match entry {
                    Entry::Do(step) => Some(step),
                    _ => None,
                });
                let limit = match &act { Act::KilledUp(_, steps) => *steps, _ => usize::MAX };
                for step in steps.take(limit) {
                    carry_out(&mut facts, step);
                }
                if let Act::Up(vips) = &act {
                    prop_assert!(vips.iter().all(|vip| facts.has_vip(*vip)));
                    prop_assert!(wanted().iter().all(|(s, to)| facts.value(s) == Some(*to)));
                }
            }
            let plan = down(&facts, &saved, None);
            let saved = run(&mut facts, plan);
            prop_assert!(saved.is_empty());
            prop_assert_eq!(&facts.sysctls, &before.sysctls);
            let (mut now, mut then) = (facts, before);
            now.interfaces[0].addresses.sort();
            then.interfaces[0].addresses.sort();
            prop_assert_eq!(now, then);
        }
    }
}
