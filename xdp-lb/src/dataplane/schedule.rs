//! The schedule of one service: its table of picks, and where in it the next connection is.
//!
//! Pure. The packet path counts a cursor up and takes the entry `cursor % len`; a new table is
//! rotated so that the pick IPVS would make next stands where the cursor points.

use std::net::SocketAddr;

use xdp_lb_common::hash::{HashKey, siphash13};
use xdp_lb_common::limits::FALLBACK_SLOTS;
use xdp_lb_common::select::{Candidate, Sequence, maglev, rr, wrr, wrr_resume};

use super::Error;
use crate::config::model::Scheduler;

/// A real server in the schedule: backend index, address, weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the backend.
    pub backend: u32,
    /// Address and port.
    pub address: SocketAddr,
    /// Weight; 0 is never picked.
    pub weight: u32,
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
}

/// Tables to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Entry `cursor % len` is the next pick.
    pub slots: Vec<u32>,
    /// The consistent-hash table.
    pub fallback: Vec<u32>,
}

/// How the list is walked, whatever connection comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    /// `rr`.
    Even,
    /// `wrr`.
    Weighted,
}

impl Walk {
    fn of(scheduler: Scheduler) -> Result<Self, Error> {
        match scheduler {
            Scheduler::RoundRobin => Ok(Self::Even),
            Scheduler::WeightedRoundRobin => Ok(Self::Weighted),
            Scheduler::LeastConnections
            | Scheduler::WeightedLeastConnections
            | Scheduler::LocalityBased
            | Scheduler::LocalityBasedReplicated
            | Scheduler::SourceHash(_)
            | Scheduler::Maglev(_)
            | Scheduler::DestinationHash
            | Scheduler::ShortestDelay
            | Scheduler::NeverQueue
            | Scheduler::FailOver
            | Scheduler::Overflow
            | Scheduler::TwoChoices => Err(Error::Scheduler(scheduler.name())),
        }
    }
}

impl Schedule {
    /// Takes over a new list (in IPVS's order, newest first) at the present cursor. `None` when
    /// nothing changed. An error for a scheduler whose picks depend on the connection.
    pub fn update(
        &mut self,
        scheduler: Scheduler,
        list: &[Entry],
        cursor: u64,
    ) -> Result<Option<Tables>, Error> {
        if self.scheduler == Some(scheduler) && self.list == list {
            return Ok(None);
        }
        let walk = Walk::of(scheduler)?;
        if self.scheduler.is_some_and(|before| before != scheduler) {
            // Another scheduler begins its walk anew.
            (self.sequence, self.last) = (Sequence::default(), None);
        }
        let candidates: Vec<_> = list.iter().map(Entry::candidate).collect();
        self.sequence = match walk {
            Walk::Even => {
                self.last = self.last_in(list, cursor);
                rr(&candidates, self.last)
            }
            Walk::Weighted => wrr(&candidates, self.current_weight(list, &candidates, cursor)),
        };
        self.scheduler = Some(scheduler);
        self.list = list.to_vec();
        self.origin = cursor;
        Ok(Some(Tables {
            slots: rotated(&self.sequence.picks, cursor),
            fallback: maglev(&candidates, FALLBACK_SLOTS),
        }))
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

/// A name for a server that every director computes alike.
fn name(address: SocketAddr) -> u64 {
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
        let tables = schedule.update(scheduler, &list, cursor).unwrap().unwrap();
        assert_eq!(picks(&tables, &mut cursor, 6), [2, 1, 1, 2, 1, 1]);
        assert!(schedule.update(scheduler, &list, cursor).unwrap().is_none());
        let tables = schedule
            .update(scheduler, &[entry(2, 1), entry(1, 3)], cursor)
            .unwrap()
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
            .unwrap()
            .unwrap();
        assert_eq!(picks(&tables, &mut cursor, 2), [3, 2]);
        let without_two = [entry(3, 1), entry(1, 1)];
        let tables = schedule
            .update(Scheduler::RoundRobin, &without_two, cursor)
            .unwrap()
            .unwrap();
        assert_eq!(picks(&tables, &mut cursor, 3), [1, 3, 1]);
        let back = [entry(2, 1), entry(3, 1), entry(1, 1)];
        let tables = schedule
            .update(Scheduler::RoundRobin, &back, cursor)
            .unwrap()
            .unwrap();
        assert_eq!(picks(&tables, &mut cursor, 3), [2, 3, 1]);
    }

    #[test]
    fn rr_keeps_its_place_through_edits_without_a_pick_between() {
        let mut schedule = Schedule::default();
        let mut cursor = 0;
        let scheduler = Scheduler::RoundRobin;
        let mut list = [entry(3, 1), entry(2, 1), entry(1, 1)];
        let mut tables = schedule.update(scheduler, &list, cursor).unwrap().unwrap();
        assert_eq!(picks(&tables, &mut cursor, 1), [3]);
        for weight in [5, 6] {
            list[2].weight = weight;
            tables = schedule.update(scheduler, &list, cursor).unwrap().unwrap();
        }
        assert_eq!(picks(&tables, &mut cursor, 3), [2, 1, 3]);
    }

    #[test]
    fn another_scheduler_begins_its_walk_anew() {
        let mut schedule = Schedule::default();
        let mut cursor = 0;
        let list = [entry(3, 9), entry(2, 1), entry(1, 1)];
        let (rr, wrr) = (Scheduler::RoundRobin, Scheduler::WeightedRoundRobin);
        let tables = schedule.update(rr, &list, cursor).unwrap().unwrap();
        assert_eq!(picks(&tables, &mut cursor, 1), [3]);
        let tables = schedule.update(wrr, &list, cursor).unwrap().unwrap();
        assert_eq!(picks(&tables, &mut cursor, 9), [3; 9]);
        let tables = schedule.update(rr, &list, cursor).unwrap().unwrap();
        assert_eq!(picks(&tables, &mut cursor, 2), [3, 2]);
    }

    #[test]
    fn an_empty_list_yields_empty_tables() {
        let mut schedule = Schedule::default();
        let tables = schedule
            .update(Scheduler::RoundRobin, &[], 7)
            .unwrap()
            .unwrap();
        assert_eq!(
            tables,
            Tables {
                slots: vec![],
                fallback: vec![]
            }
        );
    }

    #[test]
    fn a_scheduler_that_looks_at_connections_is_an_error() {
        let mut schedule = Schedule::default();
        let wlc = Scheduler::WeightedLeastConnections;
        let error = schedule.update(wlc, &[entry(1, 1)], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the scheduler wlc is not in this data plane"
        );
    }
}
