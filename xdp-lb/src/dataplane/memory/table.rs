//! A table that can be full: each key has two places of eight ways.
//!
//! It is a map, but for what happens when there are many: which entry gives way to a new one, and
//! when a new one finds no way. So the places are those that the keyed hash gives the XDP program.

use std::collections::HashMap;

use xdp_lb_common::hash::{first_place, second_place};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::tick::LongTick;

/// How readily an entry gives its way away; the first go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Anybody can make one.
    Unconfirmed,
    /// It is over but for the last packets.
    Closing,
    /// Never.
    Stays,
}

/// What a table holds.
pub(super) trait Ranked {
    /// How readily it gives its way away.
    fn rank(&self) -> Rank;
}

/// An entry in a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<K, V> {
    pub key: K,
    pub hash: u64,
    pub value: V,
    /// The last moment of its life.
    pub until: LongTick,
}

impl<K, V> Entry<K, V> {
    pub(super) const fn is_over(&self, now: LongTick) -> bool {
        now.since(self.until) > 0
    }
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    place: u32,
    way: usize,
}

type Place<K, V> = [Option<Entry<K, V>>; WAYS];

/// The table. Places that were never used take no memory.
#[derive(Clone, Debug)]
pub(super) struct Table<K, V> {
    places: HashMap<u32, Place<K, V>>,
    /// Number of places, a power of two, less one.
    mask: u32,
}

/// A new entry found no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoWay;

/// What had the way of a new entry before, and whether it was alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before<V> {
    pub value: Option<V>,
    pub evicted: bool,
}

impl<K: Eq + Clone, V: Ranked + Clone> Table<K, V> {
    /// Room for so many entries at half load, a power of two and at least 1,024.
    pub(super) fn new(entries: u32) -> Self {
        let entries = entries.clamp(1024, 1 << 24).next_power_of_two();
        let ways = u32::try_from(WAYS).unwrap_or(1);
        Self {
            places: HashMap::new(),
            mask: entries * xdp_lb_common::limits::WAYS_PER_CONNECTION / ways - 1,
        }
    }

    /// Number of ways.
    pub(super) fn capacity(&self) -> u64 {
        (u64::from(self.mask) + 1) * WAYS as u64
    }

    /// The two places of a hash.
    pub(super) const fn places_of(&self, hash: u64) -> [u32; 2] {
        [first_place(hash, self.mask), second_place(hash, self.mask)]
    }

    /// The live entry of a key.
    pub(super) fn find(&self, key: &K, hash: u64, now: LongTick) -> Option<(At, &Entry<K, V>)> {
        self.places_of(hash).into_iter().find_map(|place| {
            let ways = self.places.get(&place)?.iter().enumerate();
            let mut entries = ways.filter_map(|(way, entry)| Some((way, entry.as_ref()?)));
            entries
                .find(|(_, entry)| entry.key == *key && !entry.is_over(now))
                .map(|(way, entry)| (At { place, way }, entry))
        })
    }

    /// The entry that stands there.
    pub(super) fn at(&mut self, at: At) -> Option<&mut Entry<K, V>> {
        self.places.get_mut(&at.place)?.get_mut(at.way)?.as_mut()
    }

    /// Puts in an entry whose key has none. It takes a free way, of the first place while that has
    /// four or more, else of the emptier one; or the way of the entry that goes most readily, of
    /// those the one with the shortest life left.
    pub(super) fn insert(&mut self, entry: Entry<K, V>, now: LongTick) -> Result<Before<V>, NoWay> {
        let (at, evicted) = match self.free_way(entry.hash, now) {
            Some(at) => (at, false),
            None => (self.victim(entry.hash, now).ok_or(NoWay)?, true),
        };
        let place = self
            .places
            .entry(at.place)
            .or_insert_with(|| [const { None }; WAYS]);
        let way = place.get_mut(at.way).ok_or(NoWay)?;
        let before = way.replace(entry);
        Ok(Before {
            value: before.map(|entry| entry.value),
            evicted,
        })
    }

    /// The ways of a place that are free: empty, or of an entry whose life is over.
    fn free_ways(&self, place: u32, now: LongTick) -> Vec<usize> {
        let Some(ways) = self.places.get(&place) else {
            return (0..WAYS).collect();
        };
        let is_free = |way: &Option<Entry<K, V>>| way.as_ref().is_none_or(|e| e.is_over(now));
        let ways = ways.iter().enumerate();
        ways.filter(|(_, way)| is_free(way))
            .map(|(at, _)| at)
            .collect()
    }

    fn free_way(&self, hash: u64, now: LongTick) -> Option<At> {
        let [first, second] = self.places_of(hash);
        let [in_first, in_second] = [first, second].map(|place| self.free_ways(place, now));
        let (place, free) = if in_first.len() >= 4 || in_first.len() >= in_second.len() {
            (first, in_first)
        } else {
            (second, in_second)
        };
        let way = *free.first()?;
        Some(At { place, way })
    }

    fn victim(&self, hash: u64, now: LongTick) -> Option<At> {
        let mut candidates = Vec::new();
        for place in self.places_of(hash) {
            for (way, entry) in self.places.get(&place).into_iter().flatten().enumerate() {
                if let Some(entry) = entry {
                    let left = entry.until.since(now);
                    candidates.push((entry.value.rank(), left, At { place, way }));
                }
            }
        }
        // The first of equal ones.
        let goes = candidates.iter().filter(|(rank, ..)| *rank != Rank::Stays);
        goes.min_by_key(|(rank, left, _)| (*rank, *left))
            .map(|(.., at)| *at)
    }

    /// Entries with their place and way, over or not.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, usize, &Entry<K, V>)> {
        self.places.iter().flat_map(|(place, ways)| {
            let ways = ways.iter().enumerate();
            ways.filter_map(|(way, entry)| Some((*place, way, entry.as_ref()?)))
        })
    }

    /// Takes out the entries that are to go, and returns them.
    pub(super) fn sweep(&mut self, goes: impl Fn(&Entry<K, V>) -> bool) -> Vec<V> {
        let ways = self.places.values_mut().flatten();
        let gone = ways.filter_map(|way| way.take_if(|entry| goes(entry)));
        gone.map(|entry| entry.value).collect()
    }
}
