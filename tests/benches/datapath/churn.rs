//! How many flows find no way: the table's own code on the host, at a steady load under churn.

use std::sync::atomic::{AtomicU64, Ordering};

use xdp_lb_common::conn::table::{Inserted, Place, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::hash::{self, HashKey, first_place, second_place, siphash13};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::tick::Tick;

use super::report::Row;

/// Places of the simulated table.
const PLACES: u32 = 1 << 15;

/// Insertions after the table is at its load, each after one random expiry.
const CHURN: u64 = 10_000_000;

struct Memory(Vec<[[AtomicU64; 2]; WAYS]>);

#[derive(Clone, Copy)]
struct HostPlace<'a>(&'a [[AtomicU64; 2]; WAYS]);

impl HostPlace<'_> {
    fn swap(&self, way: usize, word: usize, old: u64, new: u64) -> bool {
        let word = &self.0[way][word];
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl Place for HostPlace<'_> {
    fn key(&self, way: usize) -> u64 {
        self.0[way][0].load(Ordering::SeqCst)
    }

    fn state(&self, way: usize) -> State {
        State(self.0[way][1].load(Ordering::SeqCst))
    }

    fn swap_key(&self, way: usize, old: u64, new: u64) -> bool {
        self.swap(way, 0, old, new)
    }

    fn swap_state(&self, way: usize, old: State, new: State) -> bool {
        self.swap(way, 1, old.0, new.0)
    }
}

impl Memory {
    fn new() -> Self {
        let way = || [AtomicU64::new(0), AtomicU64::new(0)];
        Self(
            (0..PLACES)
                .map(|_place| std::array::from_fn(|_way| way()))
                .collect(),
        )
    }

    fn places(&self, key: u64) -> Places<HostPlace<'_>> {
        let (first_at, second_at) = (first_place(key, PLACES - 1), second_place(key, PLACES - 1));
        let place = |at: u32| HostPlace(&self.0[at as usize]);
        Places {
            first: place(first_at),
            second: place(second_at),
            first_at,
            second_at,
        }
    }

    /// Whether the flow found a way.
    fn insert(&self, key: u64) -> bool {
        let now = Tick(1);
        let state = State::new(key, Kind::Established, 1, 0, now.after(1000));
        let places = self.places(key);
        places.claim(key, state, now).is_some_and(|claim| {
            matches!(
                places.publish(&claim, key, state, now),
                Inserted::Mine { .. }
            )
        })
    }

    /// Frees the way of a flow; whether it had one, and whether in its second place.
    fn expire(&self, key: u64) -> bool {
        let places = self.places(key);
        let found = places.find(key, Tick(1));
        found.exists() && places.update(&found, State(0)) && found.in_second
    }
}

/// A seeded stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        siphash13::<0>(
            HashKey {
                k0: 0x6368_7572_6e,
                k1: 1,
            },
            self.0,
            0,
        )
    }
}

/// Rows for several loads.
pub(crate) fn rows() -> Vec<Row> {
    eprintln!("churn on the host");
    [50, 60, 70].into_iter().flat_map(at_load).collect()
}

fn at_load(percent: u32) -> [Row; 2] {
    let memory = Memory::new();
    let mut numbers = Numbers(u64::from(percent));
    let ways = PLACES as usize * WAYS;
    let live = ways * percent as usize / 100;
    let mut flows: Vec<u64> = Vec::with_capacity(live);
    let mut without = 0_u64;
    let mut second = 0_u64;
    for turn in 0..CHURN {
        if flows.len() == live {
            let chosen = usize::try_from(numbers.next() >> 1).unwrap_or(0) % live;
            second += u64::from(memory.expire(flows.swap_remove(chosen)));
        }
        let key = hash::key(numbers.next());
        if memory.insert(key) {
            flows.push(key);
        } else {
            without += 1;
        }
        debug_assert!(turn < CHURN);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let share = |count: u64, of: u64| count as f64 / of as f64;
    let row = |what: &str, unit, value| {
        Row::plain(
            &format!("table at {percent} % load: {what}"),
            unit,
            &[value],
        )
    };
    [
        row(
            "flows without a way",
            "per 100,000",
            share(without, CHURN) * 100_000.0,
        ),
        row(
            "flows in their second place",
            "%",
            share(second, CHURN) * 100.0,
        ),
    ]
}
