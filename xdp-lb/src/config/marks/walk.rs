//! What the rules of a firewall do to packets, one after the other.

use std::collections::BTreeMap;

use super::rule::{NewMark, Packets, Rule, Verdict};
use super::{Given, Unused};
use crate::config::model::Family;

/// Jumps within jumps that are followed.
const DEEPEST: usize = 16;

/// The chains of a table.
pub(super) type Chains = BTreeMap<String, Vec<Rule>>;

/// Follows the rules from `chain` on and notes what marks they give.
pub(super) fn follow(chains: &Chains, chain: &str, family: Family, given: &mut Given) {
    let mut walk = Walk {
        chains,
        family,
        given,
        before: Vec::new(),
    };
    walk.chain(chain, &Packets::default(), 0);
}

struct Walk<'a> {
    chains: &'a Chains,
    family: Family,
    given: &'a mut Given,
    /// Rules passed that keep some packets from those to come.
    before: Vec<Unused>,
}

/// Whether packets go on behind a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    GoesOn,
    IsOver,
}

impl Walk<'_> {
    fn chain(&mut self, name: &str, packets: &Packets, depth: usize) -> End {
        let chains = self.chains;
        let rules = chains.get(name).filter(|_| depth < DEEPEST);
        for rule in rules.into_iter().flatten() {
            let meant = packets.and(&rule.packets);
            if let Some(unclear) = &rule.unclear {
                self.pass_over(rule, unclear);
                continue;
            }
            let is_final = rule.verdict == Verdict::Accept;
            match rule.mark {
                Some(NewMark::Is(mark)) => self.mark(rule, &meant, mark, is_final),
                Some(NewMark::Depends) => {
                    self.pass_over(rule, "the mark depends on more than the rule");
                }
                None => {}
            }
            match &rule.verdict {
                Verdict::Next => {}
                Verdict::Jump(to) => {
                    if self.chain(to, &meant, depth + 1) == End::IsOver && meant.are_all() {
                        return End::IsOver;
                    }
                }
                Verdict::Goto(to) => {
                    let end = self.chain(to, &meant, depth + 1);
                    if rule.packets.are_all() {
                        return end;
                    }
                    self.note_before(rule);
                }
                Verdict::Return | Verdict::Accept if rule.packets.are_all() => {
                    let returns = rule.verdict == Verdict::Return;
                    return if returns { End::GoesOn } else { End::IsOver };
                }
                Verdict::Return | Verdict::Accept => {
                    if rule.mark.is_none() {
                        self.note_before(rule);
                    }
                }
            }
        }
        End::GoesOn
    }

    /// A rule with conditions that cannot be kept.
    fn pass_over(&mut self, rule: &Rule, why: &str) {
        let marks = match &rule.verdict {
            Verdict::Jump(to) | Verdict::Goto(to) => self.marks_somewhere(to, 0),
            Verdict::Next | Verdict::Return | Verdict::Accept => false,
        };
        if marks || rule.mark.is_some() {
            self.given.pass_over(Unused {
                rule: rule.text.clone(),
                why: why.to_owned(),
                mark: match rule.mark {
                    Some(NewMark::Is(mark)) => Some(mark),
                    Some(NewMark::Depends) | None => None,
                },
            });
        } else if matches!(rule.verdict, Verdict::Return | Verdict::Accept) {
            self.note_before(rule);
        }
    }

    fn marks_somewhere(&self, chain: &str, depth: usize) -> bool {
        let rules = self.chains.get(chain).filter(|_| depth < DEEPEST);
        rules.into_iter().flatten().any(|rule| match &rule.verdict {
            _ if rule.mark.is_some() => true,
            Verdict::Jump(to) | Verdict::Goto(to) => self.marks_somewhere(to, depth + 1),
            Verdict::Next | Verdict::Return | Verdict::Accept => false,
        })
    }

    fn note_before(&mut self, rule: &Rule) {
        self.before.push(Unused {
            rule: rule.text.clone(),
            why: "it keeps packets from rules behind it that mark them".to_owned(),
            mark: None,
        });
    }

    fn mark(&mut self, rule: &Rule, packets: &Packets, mark: u32, is_final: bool) {
        match packets.endpoints(self.family) {
            Ok(endpoints) => {
                // Of no use to this family: it stands in a table of both.
                if endpoints.is_empty() {
                    return;
                }
                for unused in self.before.drain(..) {
                    self.given.pass_over(unused);
                }
                for endpoint in endpoints {
                    self.given.mark(endpoint, mark, is_final);
                }
            }
            Err(why) => self.pass_over(rule, &why),
        }
    }
}
