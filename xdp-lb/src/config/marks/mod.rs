//! Where packets get their firewall marks. XDP sees packets before the firewall does, so what stands
//! behind a mark must be known beforehand.
//!
//! In: a configuration, and what the firewall's own tools print. Out: the endpoints of every mark that
//! the configuration balances, in it, and complaints. Rules of the form "this address, protocol and
//! port: this mark" are used; one with more conditions than that is named and not used.

mod iptables;
mod nftables;
mod rule;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Code, Collector, Diagnostic};
use super::model::{Config, Endpoint, Family, Frontend, GroupMember, Mark, ServiceKey};
use super::places::Places;
use super::source::Span;

/// What the tools of a firewall print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// `iptables-save`.
    pub iptables: Option<String>,
    /// `ip6tables-save`.
    pub ip6tables: Option<String>,
    /// `nft -j list ruleset`.
    pub nftables: Option<String>,
    /// Why one of them could not be read.
    pub failures: Vec<String>,
}

/// The marks that rules give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Given {
    /// By endpoint; whether later rules do not count for it.
    marks: BTreeMap<Endpoint, (u32, bool)>,
    unused: Vec<Unused>,
}

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    rule: String,
    why: String,
    /// The mark that it gives; `None`: several, or one that is not known.
    mark: Option<u32>,
}

impl Given {
    /// Notes a rule: of several that mark the same packets the last counts, unless one ended the walk.
    fn mark(&mut self, endpoint: Endpoint, mark: u32, is_final: bool) {
        if endpoint.port == 0 {
            // It marks the packets of each port anew.
            let on_it =
                |other: &Endpoint| (other.vip, other.protocol) == (endpoint.vip, endpoint.protocol);
            self.marks
                .retain(|other, (_, is_final)| *is_final || !on_it(other));
        }
        let any_port = Endpoint {
            port: 0,
            ..endpoint
        };
        let is_settled = |endpoint| {
            self.marks
                .get(endpoint)
                .is_some_and(|(_, settled)| *settled)
        };
        if !is_settled(&endpoint) && !is_settled(&any_port) {
            self.marks.insert(endpoint, (mark, is_final));
        }
    }

    /// Notes a rule that cannot be used; one of a table for both families comes twice.
    fn pass_over(&mut self, unused: Unused) {
        if !self.unused.contains(&unused) {
            self.unused.push(unused);
        }
    }

    /// Reads what the tools printed, in the order in which packets meet the rules.
    fn read(ruleset: &mut Ruleset) -> Self {
        let mut given = Self::default();
        let saved = [
            (&ruleset.iptables, Family::V4),
            (&ruleset.ip6tables, Family::V6),
        ];
        for (text, family) in saved {
            if let Some(text) = text {
                iptables::read(text, family, &mut given);
            }
        }
        if let Some(text) = &ruleset.nftables
            && nftables::read(text, &mut given).is_none()
        {
            let failure = "nft -j list ruleset: this is not JSON of nftables";
            ruleset.failures.push(failure.to_owned());
        }
        given
    }
}

/// Finds out where the marks that `config` balances come from. `ask` reads the rules of the firewall, if
/// anybody is to look at it.
pub(super) fn resolve(
    config: &mut Config,
    places: &Places,
    ask: &dyn Fn() -> Option<Ruleset>,
    diagnostics: &mut Collector,
) {
    let needed = needed(config, places);
    unneeded(config, &needed, places, diagnostics);
    let is_missing = |(mark, _): &&(Mark, Span)| {
        let mut entrances = config.entrances(&ServiceKey::Mark(*mark));
        entrances.next().is_none()
    };
    let missing: Vec<_> = needed.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return;
    }
    let Some(mut ruleset) = ask() else {
        return;
    };
    let given = Given::read(&mut ruleset);
    take(config, &missing, &given);
    for (mark, span) in &missing {
        let of_it = |unused: &&Unused| unused.mark.is_none_or(|other| other == mark.mark);
        for unused in given.unused.iter().filter(of_it) {
            diagnostics.push(not_used(unused, *span));
        }
        if config.entrances(&ServiceKey::Mark(*mark)).next().is_none() {
            diagnostics.push(without_source(*mark, *span, &ruleset.failures));
        }
    }
}

/// Adds what the rules say of marks that have no source yet. What the file says of another mark counts
/// more than a rule.
fn take(config: &mut Config, missing: &[(Mark, Span)], given: &Given) {
    let said: BTreeSet<Endpoint> = config.xdp_lb.marks.values().flatten().copied().collect();
    for (endpoint, (number, _)) in &given.marks {
        let mark = Mark {
            mark: *number,
            family: Family::of(endpoint.vip),
        };
        if missing.iter().any(|(other, _)| *other == mark) && !said.contains(endpoint) {
            let endpoints = config.xdp_lb.marks.entry(*number).or_default();
            endpoints.insert(*endpoint);
        }
    }
}

/// The marks that are balanced, and where the file says so, each once.
fn needed(config: &Config, places: &Places) -> Vec<(Mark, Span)> {
    let mut needed: Vec<(Mark, Span)> = Vec::new();
    let services = config.virtual_servers.iter().zip(&places.services);
    for (service, place) in services {
        match &service.frontend {
            Frontend::Endpoint(_) => {}
            Frontend::Mark(mark) => needed.push((*mark, place.head)),
            Frontend::Group { group, .. } => {
                for (member, line) in group.members.iter().zip(&place.members) {
                    if let GroupMember::Mark { mark, family } = member {
                        let family = family.unwrap_or_else(|| service.family_of(group));
                        let mark = Mark {
                            mark: *mark,
                            family,
                        };
                        needed.push((mark, *line));
                    }
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    needed.retain(|(mark, _)| seen.insert(*mark));
    needed
}

/// Marks of the block `xdp_lb` that nobody balances.
fn unneeded(
    config: &Config,
    needed: &[(Mark, Span)],
    places: &Places,
    diagnostics: &mut Collector,
) {
    for (mark, span) in &places.marks {
        let is_needed = needed.iter().any(|(other, _)| other.mark == *mark);
        if !is_needed && config.xdp_lb.marks.contains_key(mark) {
            diagnostics.push(
                Diagnostic::warning(
                    Code::Doubtful,
                    format!("no virtual server balances the mark {mark}"),
                )
                .at(*span, "its addresses and ports are not balanced by it")
                .help(format!(
                    "add a 'virtual_server fwmark {mark}', or remove this block"
                )),
            );
        }
    }
}

fn without_source(mark: Mark, span: Span, failures: &[String]) -> Diagnostic {
    let Mark { mark, family } = mark;
    let diagnostic = Diagnostic::error(
        Code::UnknownMark,
        format!("it is not known which {family} packets have the mark {mark}"),
    )
    .at(span, "no rule of the firewall gives it to an address that it names")
    .because("packets are balanced before the firewall marks them, so the addresses and ports behind a mark must be known");
    let diagnostic = failures.iter().fold(diagnostic, |diagnostic, failure| {
        diagnostic.because(failure.as_str())
    });
    diagnostic.help(format!(
        "write them into the block xdp_lb, as in 'fwmark {mark} {{ tcp ADDRESS:80,443 }}', or load the rules of the firewall first"
    ))
}

fn not_used(unused: &Unused, span: Span) -> Diagnostic {
    let Unused { rule, why, .. } = unused;
    Diagnostic::warning(
        Code::RuleNotUsed,
        format!("a rule of the firewall is not used for marks: {why}"),
    )
    .at(span, "balanced by its mark")
    .because(format!("the rule is '{rule}'"))
    .help("write the addresses and ports of the mark into the block xdp_lb: then no rule counts for it")
}

#[cfg(test)]
mod tests;
