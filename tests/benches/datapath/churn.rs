//! How many flows find no way: the table's own code on the host, at a steady load under churn.

use std::sync::atomic::{AtomicU64, Ordering};

use xdp_lb_common::conn::table::{Inserted, Place, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::FlowV4;
use xdp_lb_common::hash::{Coefficients, HashKey, first_place, second_place, siphash13};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::tick::Tick;

use super::report::Row;

/// Places of the simulated table.
const PLACES: u32 = 1 << 15;

/// Hash keys tried.
const KEYS: u64 = 7;

/// Insertions after the table is at its load, each after one random expiry.
const CHURN: u64 = 2_000_000;

struct Memory(Vec<[[AtomicU64; 2]; WAYS]>);

#[derive(Clone, Copy)]
struct HostPlace<'a>(&'a [[AtomicU64; 2]; WAYS]);

impl HostPlace<'_> {
    fn swap(self, way: usize, word: usize, old: u64, new: u64) -> bool {
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
                k0: 0x0063_6875_726e,
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
    let mut rows = Vec::new();
    for percent in [50, 60, 70] {
        let runs: Vec<_> = (0..KEYS).map(|seed| at_load(percent, seed)).collect();
        let mut row = |what: &str, unit, values: Vec<f64>| {
            rows.push(Row::plain(
                &format!("table at {percent} % load: {what}"),
                unit,
                &values,
            ));
        };
        row(
            "flows without a way",
            "per 100,000",
            runs.iter().map(|run| run.0).collect(),
        );
        row(
            "flows in their second place",
            "%",
            runs.iter().map(|run| run.1).collect(),
        );
    }
    rows
}

fn at_load(percent: u32, seed: u64) -> (f64, f64) {
    let memory = Memory::new();
    let coefficients = Coefficients::of(HashKey {
        k0: u64::from(percent),
        k1: seed,
    });
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
        let key = flow(turn).hash(&coefficients);
        if memory.insert(key) {
            flows.push(key);
        } else {
            without += 1;
        }
        debug_assert!(turn < CHURN);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let share = |count: u64, of: u64| count as f64 / of as f64;
    (
        share(without, CHURN) * 100_000.0,
        share(second, CHURN) * 100.0,
    )
}

/// What a load generator opens: its ports one after the other, then those of the next client.
fn flow(number: u64) -> FlowV4 {
    let (client, port) = (number / 28_000, number % 28_000);
    FlowV4 {
        client_be: (0x0a00_0000 + u32::try_from(client).unwrap_or(0)).to_be(),
        vip_be: u32::from_ne_bytes(super::director::VIP.octets()),
        client_port_be: (32_768 + u16::try_from(port).unwrap_or(0)).to_be(),
        vip_port_be: 80_u16.to_be(),
        protocol: 6,
    }
}
