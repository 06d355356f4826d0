//! What is right and what is wrong with a real server. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::facts::{ALL, Facts, Host, Key, LO};
use super::plan::wanted;
use crate::net::netlink::host_net;

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Right,
    /// Breaks the service.
    Wrong,
    /// May break it, depending on what cannot be seen from here.
    Hint,
}

/// One line of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is meant.
    pub verdict: Verdict,
    /// What was found and, if it is wrong, what follows and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Right => "ok",
            Verdict::Wrong => "wrong",
            Verdict::Hint => "hint",
        };
        write!(f, "{verdict:<7} {}", self.text)
    }
}

/// Judges what stands for these VIPs.
pub fn judge(facts: &Facts, vips: &BTreeSet<IpAddr>) -> Vec<Finding> {
    let mut findings = Vec::new();
    loopback(facts, &mut findings);
    for vip in vips {
        placement(facts, *vip, &mut findings);
    }
    if vips.iter().any(IpAddr::is_ipv4) {
        sysctls(facts, &mut findings);
        answers(facts, &mut findings);
        reverse_path(facts, &mut findings);
    }
    findings
}

fn loopback(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.lo().is_some_and(|lo| lo.up) {
        let text = format!("{LO} is down, and so is every address on it: ip link set {LO} up");
        findings.push(wrong(text));
    }
}

fn placement(facts: &Facts, vip: IpAddr, findings: &mut Vec<Finding>) {
    let wanted = host_net(vip);
    if facts.has_vip(vip) {
        findings.push(right(format!("{wanted} is on {LO}")));
    } else {
        findings.push(wrong(format!(
            "{wanted} is not on {LO}: packets for the VIP are not taken; run: xdp-lb realserver up"
        )));
    }
    for address in facts.lo().iter().flat_map(|lo| &lo.addresses) {
        if address.addr() == vip && *address != wanted {
            findings.push(wrong(format!(
                "{address} is on {LO}: all of {} counts as this host's own; run: ip addr del \
                 {address} dev {LO}",
                address.trunc()
            )));
        }
    }
    let carries = |host: &&Host| host.addresses.iter().any(|address| address.addr() == vip);
    for host in facts.others().filter(carries) {
        findings.push(wrong(format!(
            "{vip} is also on {0}: this host answers ARP for it there, and clients come past the \
             director (right only on a host that is the active director itself)",
            host.name
        )));
    }
}

fn sysctls(facts: &Facts, findings: &mut Vec<Finding>) {
    for (sysctl, value) in wanted() {
        findings.push(match facts.value(&sysctl) {
            Some(found) if found == value => right(format!("{sysctl} = {value}")),
            found => {
                let found = found.map_or_else(|| "missing".to_owned(), |found| found.to_string());
                wrong(format!(
                    "{sysctl} is {found}, should be {value}; run: xdp-lb realserver up"
                ))
            }
        });
    }
}

/// An interface's own `arp_ignore`, where larger, overrides that of `all`, and not every larger
/// value ignores more: 3 answers for addresses of global scope wherever they are, 4 to 7 for all.
fn answers(facts: &Facts, findings: &mut Vec<Finding>) {
    for host in facts.others() {
        let effective = facts.effective(&host.name, Key::ArpIgnore);
        let own = facts.effective(ALL, Key::ArpIgnore) < effective;
        if own && !matches!(effective, 1 | 2 | 8) {
            findings.push(wrong(format!(
                "net.ipv4.conf.{0}.arp_ignore is {effective}, which overrides that of {ALL}: this \
                 host answers ARP for the VIP on {0}; run: sysctl net.ipv4.conf.{0}.arp_ignore=1",
                host.name
            )));
        }
    }
}

/// Strict reverse path filtering only matters where packets may come in on another interface than
/// the one their answers leave by.
fn reverse_path(facts: &Facts, findings: &mut Vec<Finding>) {
    let has_ipv4 = |host: &&Host| host.up && host.addresses.iter().any(|a| a.addr().is_ipv4());
    let hosts: Vec<&Host> = facts.others().filter(has_ipv4).collect();
    if hosts.len() < 2 {
        return;
    }
    for host in hosts {
        if facts.effective(&host.name, Key::RpFilter) == 1 {
            findings.push(Finding {
                verdict: Verdict::Hint,
                text: format!(
                    "net.ipv4.conf.{0}.rp_filter is strict: packets of clients that this host would \
                     answer through another interface are dropped on {0}; if the director is there, \
                     run: sysctl net.ipv4.conf.{0}.rp_filter=2",
                    host.name
                ),
            });
        }
    }
}

const fn right(text: String) -> Finding {
    Finding {
        verdict: Verdict::Right,
        text,
    }
}

const fn wrong(text: String) -> Finding {
    Finding {
        verdict: Verdict::Wrong,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Sysctl;
    use super::*;

    const VIP: &str = "192.168.1.200";

    fn host(name: &str, addresses: &[&str]) -> Host {
        Host {
            name: name.to_owned(),
            up: true,
            addresses: addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
        }
    }

    /// A real server that is as it should be.
    fn good() -> Facts {
        Facts {
            interfaces: vec![
                host(LO, &["127.0.0.1/8", "192.168.1.200/32"]),
                host("eth0", &["192.168.1.102/24"]),
            ],
            sysctls: wanted().into_iter().collect(),
        }
    }

    fn judge_vip(facts: &Facts) -> Vec<Finding> {
        judge(facts, &[VIP.parse().unwrap()].into())
    }

    fn complaint(facts: &Facts) -> String {
        let mut complaints = judge_vip(facts);
        complaints.retain(|finding| finding.verdict != Verdict::Right);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        complaints.remove(0).to_string()
    }

    #[test]
    fn a_good_real_server_has_only_right_lines() {
        let lines: Vec<String> = judge_vip(&good()).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "ok      192.168.1.200/32 is on lo",
                "ok      net.ipv4.conf.all.arp_ignore = 1",
                "ok      net.ipv4.conf.all.arp_announce = 2",
                "ok      net.ipv4.conf.lo.arp_ignore = 1",
                "ok      net.ipv4.conf.lo.arp_announce = 2",
            ]
        );
    }

    #[test]
    fn each_fault_is_one_line_that_says_what_to_do() {
        let mut missing = good();
        missing.interfaces[0].addresses.pop();
        assert!(complaint(&missing).contains("is not on lo"));

        let mut wide = good();
        wide.interfaces[0]
            .addresses
            .push("192.168.1.200/24".parse().unwrap());
        assert!(complaint(&wide).contains("all of 192.168.1.0/24 counts as this host's own"));

        let mut elsewhere = good();
        elsewhere.interfaces[1]
            .addresses
            .push("192.168.1.200/24".parse().unwrap());
        assert!(complaint(&elsewhere).contains("is also on eth0"));

        let mut noisy = good();
        noisy.sysctls.insert(Sysctl::new(ALL, Key::ArpIgnore), 0);
        assert_eq!(
            complaint(&noisy),
            "wrong   net.ipv4.conf.all.arp_ignore is 0, should be 1; run: xdp-lb realserver up"
        );

        let mut down = good();
        down.interfaces[0].up = false;
        assert!(complaint(&down).contains("ip link set lo up"));
    }

    #[test]
    fn an_interface_that_overrides_arp_ignore_is_judged_by_what_it_answers() {
        for (own, is_right) in [
            (0, true),
            (1, true),
            (2, true),
            (3, false),
            (4, false),
            (8, true),
        ] {
            let mut facts = good();
            facts
                .sysctls
                .insert(Sysctl::new("eth0", Key::ArpIgnore), own);
            let verdicts = judge_vip(&facts);
            let all_right = verdicts
                .iter()
                .all(|finding| finding.verdict == Verdict::Right);
            assert_eq!(all_right, is_right, "arp_ignore {own}: {verdicts:?}");
        }
    }

    #[test]
    fn strict_reverse_path_filtering_is_hinted_at_only_with_several_interfaces() {
        let mut facts = good();
        facts.sysctls.insert(Sysctl::new(ALL, Key::RpFilter), 1);
        assert!(
            judge_vip(&facts)
                .iter()
                .all(|finding| finding.verdict == Verdict::Right)
        );
        facts.interfaces.push(host("eth1", &["10.0.0.2/24"]));
        facts.sysctls.insert(Sysctl::new("eth1", Key::RpFilter), 2);
        assert!(complaint(&facts).starts_with("hint    net.ipv4.conf.eth0.rp_filter is strict"));
    }

    #[test]
    fn an_ipv6_vip_is_not_judged_by_arp() {
        let mut facts = good();
        facts.sysctls.clear();
        facts.interfaces[0]
            .addresses
            .push("2001:db8::1/128".parse().unwrap());
        let findings = judge(&facts, &["2001:db8::1".parse().unwrap()].into());
        assert_eq!(findings, [right("2001:db8::1/128 is on lo".to_owned())]);
    }
}
