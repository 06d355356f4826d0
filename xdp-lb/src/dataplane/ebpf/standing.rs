//! What schedulers need to know of a real server: weight, limits, and its connections as they stand.
//!
//! Packets count connections; the sweep here takes away what expired. One word for both sides is the
//! truth, and a census of the table only corrects what a CPU or an agent that died had left undone.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use xdp_lb_common::conn::State;
use xdp_lb_common::load::{Counts, Limits, Load, Standing, shift, word};

use super::tables::Tables;
use crate::dataplane::mmap::MappedArray;
use crate::plan::desired::Server;

/// The limits of a server, as the tables hold them.
pub(super) fn limits(server: &Server) -> Limits {
    server.limit.map_or_else(Limits::default, |limit| Limits {
        upper: limit.upper.get(),
        lower: limit.lower,
    })
}

/// What a backend has now.
pub(super) fn counts(loads: &MappedArray<Load>, backend: u32) -> Counts {
    let generation = Standing::unpack(loads.load(backend, word::STANDING)).generation;
    Counts(loads.load(backend, word::counts(generation)))
}

/// Takes a connection away whose way was freed, unless its backend went on to another generation.
pub(super) fn gone(loads: &MappedArray<Load>, state: State) {
    add(
        loads,
        state.backend(),
        state.generation(),
        state.counts().wrapping_neg(),
    );
}

/// Counts a way that went from one state to another, as the program does.
pub(super) fn count_change(loads: &MappedArray<Load>, old: State, new: State) {
    if old.counts_as(new) {
        return;
    }
    if let Some(by) = shift(old, new) {
        add(loads, new.backend(), new.generation(), by);
    } else {
        gone(loads, old);
        add(loads, new.backend(), new.generation(), new.counts());
    }
}

fn add(loads: &MappedArray<Load>, backend: u32, generation: u8, by: u64) {
    let standing = Standing::unpack(loads.load(backend, word::STANDING));
    let words = loads.words(backend);
    let Some(counts) = words.get(word::counts(generation)) else {
        return;
    };
    if by == 0 || standing.generation != generation {
        return;
    }
    let now = Counts(counts.fetch_add(by, Ordering::AcqRel).wrapping_add(by));
    let limits = Limits::unpack(loads.load(backend, word::LIMITS));
    let was = loads.load(backend, word::OVERLOADED) != 0;
    let is = limits.overloaded(was, now.total());
    if is != was {
        loads.store(backend, word::OVERLOADED, u64::from(is));
    }
}

/// Differences between what was counted and what a census found, by backend, and the word they were
/// seen at.
#[derive(Debug, Default)]
pub(super) struct Drift(BTreeMap<u32, (u64, u64)>);

impl Tables {
    /// Writes weight and limits of a server. As in IPVS a higher limit ends an overload.
    pub(super) fn set_standing(&self, backend: u32, server: &Server) {
        let old = Standing::unpack(self.loads.load(backend, word::STANDING));
        let new = Standing {
            weight: server.weight,
            ..old
        };
        self.loads.store(backend, word::STANDING, new.pack());
        let before = Limits::unpack(self.loads.load(backend, word::LIMITS));
        let limits = limits(server);
        self.loads.store(backend, word::LIMITS, limits.pack());
        if before != limits {
            let raised = limits.upper == 0 || limits.upper > before.upper;
            let was = !raised && self.loads.load(backend, word::OVERLOADED) != 0;
            let is = limits.overloaded(was, counts(&self.loads, backend).total());
            self.loads.store(backend, word::OVERLOADED, u64::from(is));
        }
    }

    /// The connections of all generations before this one are void: it begins with none.
    pub(super) fn forget_connections(&self, backend: u32, generation: u8) {
        let loads = &self.loads;
        loads.store(backend, word::counts(generation), 0);
        let standing = Standing {
            weight: 0,
            generation,
        };
        loads.store(backend, word::STANDING, standing.pack());
        loads.store(backend, word::OVERLOADED, 0);
        loads.store(backend, word::MEMBER, 0);
    }

    /// What is counted for every backend that has a name, before a census.
    pub(super) fn counted(&self) -> BTreeMap<u32, Counts> {
        let indexes = self.backend_ids.iter().map(|(_, index)| index);
        indexes
            .map(|index| (index, counts(&self.loads, index)))
            .collect()
    }

    /// Corrects counts that a census found wrong: those that did not change while it was taken, and
    /// that the one before found as wrong at the same count. While connections come and go, a census
    /// sees some of them twice and some not at all.
    pub(super) fn correct(&mut self, before: &BTreeMap<u32, Counts>, found: &BTreeMap<u32, u64>) {
        let mut drift = BTreeMap::new();
        for (&index, &counted) in before {
            let by = found
                .get(&index)
                .copied()
                .unwrap_or(0)
                .wrapping_sub(counted.0);
            if by == 0 || counts(&self.loads, index) != counted {
                continue;
            }
            if self.drift.0.get(&index) == Some(&(by, counted.0)) {
                let standing = Standing::unpack(self.loads.load(index, word::STANDING));
                add(&self.loads, index, standing.generation, by);
            } else {
                drift.insert(index, (by, counted.0));
            }
        }
        self.drift = Drift(drift);
    }
}
