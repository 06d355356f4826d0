//! Counters, and the census of the tables.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aya::Ebpf as Object;
use aya::maps::{MapData, PerCpuArray};
use aya::programs::{TestRun, TestRunOptions};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::service::Stats;
use xdp_lb_common::tick::{LongTick, Tick};

use super::standing;
use super::tables::Tables;
use crate::dataplane::mmap::MappedArray;
use crate::dataplane::schedule::Schedule;
use crate::dataplane::{Counters, Error, Fill, ServerCounters};

/// Name of the program that tells the tick.
pub(super) const TICK: &str = "tick";

/// Reads of counters within this time share one census.
const CENSUS_AGE: Duration = Duration::from_millis(500);

/// The tables are swept at least this often, whether anybody asks or not.
const TENDED: Duration = Duration::from_mins(1);

/// As [`TENDED`], where a scheduler counts connections: so long an expired one may count.
const TENDED_COUNTING: Duration = Duration::from_secs(5);

/// So long after the last connection without a way the marks of full places are taken away: whatever
/// went by consistent hash then has ended, expired or found a way.
const FORGET_OVERFLOW: Duration = Duration::from_mins(15);

/// Connections that found no way, and since when there was no other.
#[derive(Debug)]
pub(super) struct Overflowed {
    total: u64,
    since: Instant,
    forgotten: bool,
}

impl Default for Overflowed {
    fn default() -> Self {
        // Marks of a predecessor are as good as fresh.
        Self {
            total: u64::MAX,
            since: Instant::now(),
            forgotten: false,
        }
    }
}

impl Overflowed {
    /// Whether the marks may go, given the count of connections without a way.
    fn may_forget(&mut self, total: u64) -> bool {
        if self.total != total {
            *self = Self {
                total,
                since: Instant::now(),
                forgotten: false,
            };
        }
        let due = !self.forgotten && self.since.elapsed() > FORGET_OVERFLOW;
        self.forgotten |= due;
        due
    }
}

/// What the tables hold, by backend.
#[derive(Debug, Default)]
pub(super) struct Census {
    taken: Option<Instant>,
    backends: BTreeMap<u32, ServerCounters>,
    conns: u64,
    templates: u64,
}

/// The present tick, as the program sees it.
pub(super) fn tick(object: &mut Object) -> Result<LongTick, Error> {
    let program = super::attach::program(object, TICK)?;
    let frame = [0; 64];
    let run = program
        .test_run(TestRunOptions {
            data_in: Some(&frame),
            ..TestRunOptions::new()
        })
        .map_err(|error| Error::Load(format!("cannot read the kernel's tick: {error}")))?;
    Ok(LongTick(run.return_value))
}

pub(super) fn counters(tables: &mut Tables, now: Tick) -> Result<Counters, Error> {
    tables.take_census(now);
    let mut result = Counters::default();
    let per_cpu = tables.counters.get(&0, 0).map_err(|e| unreadable(&e))?;
    for reason in Reason::ALL {
        let sum = per_cpu
            .iter()
            .filter_map(|cpu| cpu.reasons.get(*reason as usize))
            .sum();
        result.packets.insert(*reason, sum);
    }
    for event in Event::ALL {
        let sum = per_cpu
            .iter()
            .filter_map(|cpu| cpu.events.get(*event as usize))
            .sum();
        result.events.insert(*event, sum);
    }
    for (key, index) in tables.service_ids.iter() {
        result
            .services
            .insert(*key, stats(&tables.service_stats, index)?);
    }
    for (key, index) in tables.backend_ids.iter() {
        let mut server = tables
            .census
            .backends
            .get(&index)
            .copied()
            .unwrap_or_default();
        let counts = standing::counts(&tables.loads, index);
        (server.active, server.inactive) = (counts.active().into(), counts.inactive().into());
        server.stats = stats(&tables.backend_stats, index)?;
        result.servers.insert(*key, server);
    }
    let ways = |len: u32| u64::from(len);
    let fill = |entries, capacity| Fill { entries, capacity };
    result.tables = BTreeMap::from([
        (
            "connections",
            fill(tables.census.conns, ways(tables.conn_info.len())),
        ),
        (
            "templates",
            fill(tables.census.templates, ways(tables.templates.len()) * 8),
        ),
    ]);
    Ok(result)
}

fn stats(map: &PerCpuArray<MapData, Stats>, index: u32) -> Result<Stats, Error> {
    let per_cpu = map.get(&index, 0).map_err(|e| unreadable(&e))?;
    Ok(per_cpu.iter().fold(Stats::default(), |sum, cpu| Stats {
        connections: sum.connections + cpu.connections,
        packets: sum.packets + cpu.packets,
        bytes: sum.bytes + cpu.bytes,
        reply_packets: sum.reply_packets + cpu.reply_packets,
        reply_bytes: sum.reply_bytes + cpu.reply_bytes,
    }))
}

fn unreadable(error: &dyn std::error::Error) -> Error {
    Error::Load(format!("cannot read the counters: {error}"))
}

impl Tables {
    /// Whether [`Self::tend`] has nothing to do yet.
    pub(super) fn is_tended(&self) -> bool {
        let counting = self.schedules.values().any(Schedule::counts);
        let due = if counting { TENDED_COUNTING } else { TENDED };
        self.tended.is_some_and(|tended| tended.elapsed() < due)
    }

    /// Sweeps the tables, and forgets which places were full once that is long ago.
    pub(super) fn tend(&mut self, now: Tick) -> Result<(), Error> {
        self.tended = Some(Instant::now());
        self.take_census(now);
        let per_cpu = self.counters.get(&0, 0).map_err(|e| unreadable(&e))?;
        let without_way = per_cpu
            .iter()
            .filter_map(|cpu| cpu.events.get(Event::NoWay as usize))
            .sum();
        if self.overflowed.may_forget(without_way) {
            for word in self.overflows.all_words() {
                word.store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Sweeps the tables though that may have been done just now.
    pub(super) fn tend_again(&mut self, now: Tick) -> Result<(), Error> {
        self.census.taken = None;
        self.tend(now)
    }

    /// Counts live entries, and frees ways that expired: an entry must not outlive the wrap of the
    /// tick, nor a generation that comes round again.
    fn take_census(&mut self, now: Tick) {
        if self
            .census
            .taken
            .is_some_and(|taken| taken.elapsed() < CENSUS_AGE)
        {
            return;
        }
        let mut census = Census {
            taken: Some(Instant::now()),
            ..Census::default()
        };
        let generations: Vec<u8> = (0..self.backends.len())
            .map(|at| xdp_lb_common::backend::Identity(self.backends.load(at, 0)).generation())
            .collect();
        let stale = |state: State| {
            generations
                .get(state.backend() as usize)
                .is_none_or(|g| *g != state.generation())
        };
        let before = self.counted();
        let mut found = BTreeMap::new();
        let gone = |state| standing::gone(&self.loads, state);
        sweep(&self.conns, now, (&stale, gone), |state| {
            census.conns += 1;
            *found.entry(state.backend()).or_default() += state.counts();
        });
        // What is still to come is counted already.
        if !self.filling {
            self.correct(&before, &found);
        }
        let nobody = |_template| ();
        sweep(&self.templates, now, (&stale, nobody), |state| {
            census.templates += 1;
            census
                .backends
                .entry(state.backend())
                .or_default()
                .templates += 1;
        });
        self.census = census;
    }
}

/// Visits live ways; frees those that expired or whose backend went on to another generation.
fn sweep(
    places: &MappedArray<xdp_lb_common::conn::table::PlaceMemory>,
    now: Tick,
    (stale, gone): (&impl Fn(State) -> bool, impl Fn(State)),
    mut visit: impl FnMut(State),
) {
    for way in places.all_words().chunks_exact(2) {
        let [_key, word] = way else { continue };
        let state = State(word.load(Ordering::Relaxed));
        if state.kind() == Kind::Free {
            continue;
        }
        let claimed = state.kind() == Kind::Claimed;
        if state.is_free(now) == 1 || (!claimed && stale(state)) {
            // Lost to a packet that took or revived the way meanwhile: then it is alive.
            let freed = word.compare_exchange(state.0, 0, Ordering::AcqRel, Ordering::Relaxed);
            if freed.is_ok() {
                gone(state);
            }
        } else if !claimed {
            visit(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment `ago`, on the clock that cannot be set.
    fn was(ago: Duration) -> Instant {
        Instant::now().checked_sub(ago).unwrap()
    }

    #[test]
    fn marks_of_full_places_go_once_it_is_long_ago_that_one_was_full() {
        let long_ago = was(FORGET_OVERFLOW + Duration::from_secs(1));
        let mut quiet = Overflowed {
            total: 7,
            since: long_ago,
            forgotten: false,
        };
        assert!(quiet.may_forget(7), "nothing happened for long");
        assert!(!quiet.may_forget(7), "once is enough");

        let mut busy = Overflowed {
            total: 7,
            since: long_ago,
            forgotten: false,
        };
        assert!(!busy.may_forget(8), "one more found no way just now");
        assert!(!Overflowed::default().may_forget(0), "nor at the start");
    }
}
