//! The schedule of one service: its table of picks, and where in it the next connection is.
//!
//! Pure. The packet path counts a cursor up and takes the entry `cursor % len`; a new table is
//! rotated so that the pick IPVS would make next stands where the cursor points.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use xdp_lb_common::addr::Address;
use xdp_lb_common::hash::{HashKey, siphash13};
use xdp_lb_common::hashed::{HashServer, destination_table, maglev_table, source_table};
use xdp_lb_common::limits::FALLBACK_SLOTS;
use xdp_lb_common::load::Limits;
use xdp_lb_common::schedule::{RULE_FALLBACK, RULE_LIMITED, RULE_PORT, Rule, Word};
use xdp_lb_common::select::{Candidate, Sequence, maglev, rr, wrr, wrr_resume};

use crate::config::model::{Hashing, Scheduler};

/// A real server in the schedule: backend index, address, weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the backend.
    pub backend: u32,
    /// Address and port.
    pub address: SocketAddr,
    /// Weight; 0 is never picked.
    pub weight: u32,
    /// Most connections.
    pub limits: Limits,
}

impl Entry {
    fn candidate(&self) -> Candidate {
        Candidate {
            id: self.backend,
            weight: self.weight,
            name: name(self.address),
        }
    }
}

/// A schedule as it was last published.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    scheduler: Option<Scheduler>,
    list: Vec<Entry>,
    sequence: Sequence,
    /// The cursor at which the sequence began.
    origin: u64,
    /// For `rr`: where in the list the pick before the sequence was made.
    last: Option<usize>,
    /// The last weight of each server that was not 0, whatever scheduler it was for: `mh` asks.
    weights: BTreeMap<SocketAddr, u32>,
}

/// Tables to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// For `rr` and `wrr` entry `cursor % len` is the next pick; for schedulers that hash, the entry
    /// of the hash; for others the list.
    pub slots: Vec<u32>,
    /// The consistent-hash table.
    pub fallback: Vec<u32>,
    /// How the packets choose, see [`xdp_lb_common::schedule`].
    pub rule: Word,
    /// What the packets remember of servers that the scheduler used is void: another one was at work.
    pub begins: bool,
    /// So is what they remember of these backends, which left the list.
    pub left: Vec<u32>,
}

/// The rule of a scheduler, with its flags.
const fn rule(scheduler: Scheduler) -> Word {
    let (rule, hashing) = match scheduler {
        Scheduler::RoundRobin | Scheduler::WeightedRoundRobin => (Rule::Cycle, None),
        Scheduler::LeastConnections => (Rule::LeastConnections, None),
        Scheduler::WeightedLeastConnections => (Rule::WeightedLeastConnections, None),
        Scheduler::LocalityBased => (Rule::LocalityBased, None),
        Scheduler::LocalityBasedReplicated => (Rule::LocalityBasedReplicated, None),
        Scheduler::SourceHash(hashing) => (Rule::SourceHash, Some(hashing)),
        Scheduler::Maglev(hashing) => (Rule::Maglev, Some(hashing)),
        Scheduler::DestinationHash => (Rule::DestinationHash, None),
        Scheduler::ShortestDelay => (Rule::ShortestDelay, None),
        Scheduler::NeverQueue => (Rule::NeverQueue, None),
        Scheduler::FailOver => (Rule::FailOver, None),
        Scheduler::Overflow => (Rule::Overflow, None),
        Scheduler::TwoChoices => (Rule::TwoChoices, None),
    };
    let flags = match hashing {
        None => 0,
        Some(Hashing { port, fallback }) => {
            (if port { RULE_PORT } else { 0 }) | (if fallback { RULE_FALLBACK } else { 0 })
        }
    };
    rule as Word | flags
}

impl Schedule {
    /// Takes over a new list (in IPVS's order, newest first) at the present cursor. `None` when
    /// nothing changed.
    pub fn update(&mut self, scheduler: Scheduler, list: &[Entry], cursor: u64) -> Option<Tables> {
        if self.scheduler == Some(scheduler) && self.list == list {
            return None;
        }
        if self.scheduler.is_some_and(|before| before != scheduler) {
            // Another scheduler begins its walk anew.
            (self.sequence, self.last) = (Sequence::default(), None);
        }
        let candidates: Vec<_> = list.iter().map(Entry::candidate).collect();
        self.remember_weights(list);
        let slots = self.slots(scheduler, list, &candidates, cursor);
        let limited = list.iter().any(|entry| entry.limits.upper > 0);
        let rule = rule(scheduler) | if limited { RULE_LIMITED } else { 0 };
        let begins = self.scheduler.replace(scheduler) != Some(scheduler);
        let before = std::mem::replace(&mut self.list, list.to_vec());
        self.origin = cursor;
        let is_listed = |backend| list.iter().any(|entry| entry.backend == backend);
        let left = before.iter().map(|entry| entry.backend);
        let left = left.filter(|backend| remembers(rule) && !is_listed(*backend));
        Some(Tables {
            slots,
            fallback: maglev(&candidates, FALLBACK_SLOTS),
            begins: begins && remembers(rule),
            left: left.collect(),
            rule,
        })
    }

    /// Whether the packets look at how many connections the servers have.
    pub fn counts(&self) -> bool {
        let counting = self.scheduler.is_some_and(|s| Rule::of(rule(s)).counts());
        counting || self.list.iter().any(|entry| entry.limits.upper > 0)
    }

    /// What the packets choose from.
    fn slots(
        &mut self,
        scheduler: Scheduler,
        list: &[Entry],
        candidates: &[Candidate],
        cursor: u64,
    ) -> Vec<u32> {
        match scheduler {
            Scheduler::RoundRobin => {
                self.last = self.last_in(list, cursor);
                self.sequence = rr(candidates, self.last);
                rotated(&self.sequence.picks, cursor)
            }
            Scheduler::WeightedRoundRobin => {
                self.sequence = wrr(candidates, self.current_weight(list, candidates, cursor));
                rotated(&self.sequence.picks, cursor)
            }
            // Every server as often as it weighs: two entries by chance are two servers by weight.
            Scheduler::TwoChoices => wrr(candidates, 0).picks,
            Scheduler::SourceHash(_) => source_table(&hashed(list, |entry| entry.weight)),
            Scheduler::DestinationHash => destination_table(&hashed(list, |entry| entry.weight)),
            Scheduler::Maglev(_) => maglev_table(&hashed(list, |entry| self.last_weight(entry))),
            Scheduler::LeastConnections
            | Scheduler::WeightedLeastConnections
            | Scheduler::LocalityBased
            | Scheduler::LocalityBasedReplicated
            | Scheduler::ShortestDelay
            | Scheduler::NeverQueue
            | Scheduler::FailOver
            | Scheduler::Overflow => list.iter().map(|entry| entry.backend).collect(),
        }
    }

    /// A server that is edited to weight 0 keeps its entries in the table of `mh`; one that is added
    /// with weight 0 has none.
    fn remember_weights(&mut self, list: &[Entry]) {
        let known = list.iter().map(|entry| {
            let weight = match entry.weight {
                0 => self.last_weight(entry),
                weight => weight,
            };
            (entry.address, weight)
        });
        self.weights = known.collect();
    }

    fn last_weight(&self, entry: &Entry) -> u32 {
        self.weights.get(&entry.address).copied().unwrap_or(0)
    }

    /// Position in the sequence of the pick made last, if one was made.
    fn last_pick(&self, cursor: u64) -> Option<usize> {
        let made = cursor.wrapping_sub(self.origin);
        let len = self.sequence.picks.len() as u64;
        let last = made.checked_sub(1)?.checked_rem(len)?;
        usize::try_from(last).ok()
    }

    /// For `rr`: where in the new list the server picked last stands, or, if it is gone, the one
    /// before it, as IPVS moves its pointer back when a server is deleted.
    fn last_in(&self, list: &[Entry], cursor: u64) -> Option<usize> {
        let picked = |backend| self.list.iter().position(|e| e.backend == backend);
        let since = self.last_pick(cursor);
        let at = match since.and_then(|at| self.sequence.picks.get(at)) {
            Some(backend) => picked(*backend)?,
            None => self.last?,
        };
        let mut before = self.list.get(..=at)?.iter().rev();
        before.find_map(|old| list.iter().position(|e| e.address == old.address))
    }

    /// For `wrr`: the current weight IPVS would have after these edits: servers gone first, then
    /// each new one added at the head of the list.
    fn current_weight(&self, list: &[Entry], candidates: &[Candidate], cursor: u64) -> u32 {
        let known = |entry: &Entry| self.list.iter().any(|old| old.address == entry.address);
        let newcomers = list.iter().take_while(|entry| !known(entry)).count();
        let at_last = self
            .last_pick(cursor)
            .and_then(|at| self.sequence.levels.get(at));
        let before = at_last
            .or_else(|| self.sequence.levels.first())
            .copied()
            .unwrap_or(0);
        (0..=newcomers).rev().fold(before, |weight, skipped| {
            wrr_resume(weight, candidates.get(skipped..).unwrap_or_default())
        })
    }
}

/// Whether the packets remember servers that the scheduler used.
fn remembers(rule: Word) -> bool {
    matches!(
        Rule::of(rule),
        Rule::LocalityBased | Rule::LocalityBasedReplicated
    )
}

/// The list as hashing schedulers see it.
fn hashed(list: &[Entry], weight: impl Fn(&Entry) -> u32) -> Vec<HashServer> {
    let servers = list.iter().map(|entry| HashServer {
        id: entry.backend,
        weight: weight(entry),
        address_be: Address::from_ip(entry.address.ip()).0.words_be,
        port_be: entry.address.port().to_be(),
    });
    servers.collect()
}

/// A name for a server that every director computes alike.
pub(super) fn name(address: SocketAddr) -> u64 {
    let key = HashKey {
        k0: 0x7864_702d_6c62,
        k1: u64::from(address.port()),
    };
    match address {
        SocketAddr::V4(v4) => siphash13::<0>(key, u64::from(v4.ip().to_bits()), 0),
        SocketAddr::V6(v6) => {
            let words = v6.ip().segments().map(u64::from);
            words
                .into_iter()
                .fold(0, |name, word| siphash13::<0>(key, name ^ word, 0))
        }
    }
}

/// The picks such that the first stands at `cursor % len`.
fn rotated(picks: &[u32], cursor: u64) -> Vec<u32> {
    let mut slots = picks.to_vec();
    let shift = cursor.checked_rem(picks.len() as u64).unwrap_or(0);
    slots.rotate_right(usize::try_from(shift).unwrap_or(0));
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use xdp_lb_common::select::slot;

    fn entry(backend: u32, weight: u32) -> Entry {
        let host = u8::try_from(backend).unwrap();
        Entry {
            backend,
            address: SocketAddr::from(([10, 0, 0, host], 80)),
            weight,
            limits: Limits::default(),
        }
    }

    /// Picks `n` times as the packet path does.
    fn picks(tables: &Tables, cursor: &mut u64, n: usize) -> Vec<u32> {
        let len = u32::try_from(tables.slots.len()).unwrap();
        (0..n)
            .map(|_| {
                let chosen = tables.slots[slot(*cursor, len) as usize];
                *cursor += 1;
                chosen
            })
            .collect()
    }

    #[test]
    fn wrr_goes_on_at_its_current_weight_after_an_edit() {
        let mut schedule = Schedule::default();
        let mut cursor = 5;
        let scheduler = Scheduler::WeightedRoundRobin;
        let list = [entry(2, 1), entry(1, 2)];
        let tables = schedule.update(scheduler, &list, cursor).unwrap();
        assert_eq!(picks(&tables, &mut cursor, 6), [2, 1, 1, 2, 1, 1]);
        assert!(schedule.update(scheduler, &list, cursor).is_none());
        let tables = schedule
            .update(scheduler, &[entry(2, 1), entry(1, 3)], cursor)
            .unwrap();
        // The last pick was made at weight 2: the list is walked again from there.
        assert_eq!(picks(&tables, &mut cursor, 4), [1, 2, 1, 1]);
    }

    #[test]
    fn rr_goes_on_after_the_server_picked_last() {
        let mut schedule = Schedule::default();
        let mut cursor = 0;
        let all = [entry(3, 1), entry(2, 1), entry(1, 1)];
        let tables = schedule
            .update(Scheduler::RoundRobin, &all, cursor)
            .unwrap();
        assert_eq!(picks(&tables, &mut cursor, 2), [3, 2]);
        let without_two = [entry(3, 1), entry(1, 1)];
        let tables = schedule
            .update(Scheduler::RoundRobin, &without_two, cursor)
            .unwrap();
        assert_eq!(picks(&tables, &mut cursor, 3), [1, 3, 1]);
        let back = [entry(2, 1), entry(3, 1), entry(1, 1)];
        let tables = schedule
            .update(Scheduler::RoundRobin, &back, cursor)
            .unwrap();
        assert_eq!(picks(&tables, &mut cursor, 3), [2, 3, 1]);
    }

    #[test]
    fn rr_keeps_its_place_through_edits_without_a_pick_between() {
        let mut schedule = Schedule::default();
        let mut cursor = 0;
        let scheduler = Scheduler::RoundRobin;
        let mut list = [entry(3, 1), entry(2, 1), entry(1, 1)];
        let mut tables = schedule.update(scheduler, &list, cursor).unwrap();
        assert_eq!(picks(&tables, &mut cursor, 1), [3]);
        for weight in [5, 6] {
            list[2].weight = weight;
            tables = schedule.update(scheduler, &list, cursor).unwrap();
        }
        assert_eq!(picks(&tables, &mut cursor, 3), [2, 1, 3]);
    }

    #[test]
    fn another_scheduler_begins_its_walk_anew() {
        let mut schedule = Schedule::default();
        let mut cursor = 0;
        let list = [entry(3, 9), entry(2, 1), entry(1, 1)];
        let (rr, wrr) = (Scheduler::RoundRobin, Scheduler::WeightedRoundRobin);
        let tables = schedule.update(rr, &list, cursor).unwrap();
        assert_eq!(picks(&tables, &mut cursor, 1), [3]);
        let tables = schedule.update(wrr, &list, cursor).unwrap();
        assert_eq!(picks(&tables, &mut cursor, 9), [3; 9]);
        let tables = schedule.update(rr, &list, cursor).unwrap();
        assert_eq!(picks(&tables, &mut cursor, 2), [3, 2]);
    }

    #[test]
    fn an_empty_list_yields_empty_tables() {
        let mut schedule = Schedule::default();
        let tables = schedule.update(Scheduler::RoundRobin, &[], 7).unwrap();
        assert_eq!((tables.slots, tables.fallback), (vec![], vec![]));
    }

    #[test]
    fn a_server_edited_to_weight_0_keeps_its_entries_of_mh() {
        let mut schedule = Schedule::default();
        let mh = Scheduler::Maglev(Hashing::default());
        let share = |tables: &Tables| tables.slots.iter().filter(|id| **id == 2).count();
        let even = schedule.update(mh, &[entry(2, 1), entry(1, 1)], 0).unwrap();
        let edited = schedule.update(mh, &[entry(2, 0), entry(1, 1)], 0).unwrap();
        assert_eq!(edited.slots, even.slots);
        assert!(share(&edited) > 2000);
        let gone = schedule.update(mh, &[entry(1, 1)], 0).unwrap();
        let added = schedule.update(mh, &[entry(2, 0), entry(1, 1)], 0).unwrap();
        assert_eq!((share(&gone), share(&added)), (0, 0));
    }

    #[test]
    fn what_packets_remember_of_servers_outlives_edits() {
        let mut schedule = Schedule::default();
        let mut update = |scheduler, list: &[Entry]| {
            let tables = schedule.update(scheduler, list, 0).unwrap();
            (tables.begins, tables.left)
        };
        let lblc = Scheduler::LocalityBased;
        assert_eq!(update(lblc, &[entry(2, 1), entry(1, 1)]), (true, vec![]));
        assert_eq!(update(lblc, &[entry(2, 0), entry(1, 1)]), (false, vec![]));
        assert_eq!(update(lblc, &[entry(1, 1)]), (false, vec![2]));
        assert_eq!(
            update(Scheduler::RoundRobin, &[entry(1, 1)]),
            (false, vec![])
        );
        assert_eq!(update(lblc, &[entry(1, 1)]), (true, vec![]));
    }

    #[test]
    fn flags_and_limits_stand_in_the_rule() {
        let rule = |scheduler, list: &[Entry]| {
            let tables = Schedule::default().update(scheduler, list, 0).unwrap();
            tables.rule
        };
        let hashing = Hashing {
            port: true,
            fallback: true,
        };
        let flags = RULE_PORT | RULE_FALLBACK;
        assert_eq!(
            rule(Scheduler::SourceHash(hashing), &[entry(1, 1)]),
            1 | flags
        );
        let limited = Entry {
            limits: Limits { upper: 2, lower: 0 },
            ..entry(1, 1)
        };
        let wlc = Rule::WeightedLeastConnections as Word;
        assert_eq!(
            rule(Scheduler::WeightedLeastConnections, &[limited]),
            wlc | RULE_LIMITED
        );
    }
}
