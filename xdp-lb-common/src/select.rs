//! Scheduling arithmetic: what a slot table holds for each scheduler, in IPVS's own order.
//!
//! Userspace lays a service's schedule out as a table of picks; the packet path only counts through
//! it. IPVS inserts a new real server at the *head* of its list, so lists here run newest first.

/// The entry of a table of `len` picks that a cursor points at.
#[inline(always)]
pub const fn slot(cursor: u64, len: u32) -> u32 {
    match cursor.checked_rem(len as u64) {
        Some(at) => at as u32,
        None => 0,
    }
}

#[cfg(any(feature = "user", test))]
pub use table::{Candidate, Sequence, maglev, rr, wrr, wrr_resume};

#[cfg(any(feature = "user", test))]
mod table {
    use crate::hash::{HashKey, siphash13};
    use crate::limits::MAX_SERVICE_SLOTS;

    /// A real server as the schedulers see it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Candidate {
        /// What the table is filled with (the backend index).
        pub id: u32,
        /// Weight; 0 is never picked.
        pub weight: u32,
        /// A name that is the same on every director, for consistent hashing.
        pub name: u64,
    }

    /// One period of a schedule.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Sequence {
        /// Ids in the order they are picked.
        pub picks: Vec<u32>,
        /// For `wrr`: the current weight at which each was picked.
        pub levels: Vec<u32>,
    }

    /// IPVS's `rr`: the next eligible server after `last` (a position in the list), cyclic. A period
    /// starts at the list's head when `last` is `None`.
    pub fn rr(list: &[Candidate], last: Option<usize>) -> Sequence {
        let start = last.map_or(0, |at| at + 1);
        let (before, after) = list.split_at(start.min(list.len()));
        let eligible = after.iter().chain(before).filter(|c| c.weight > 0);
        Sequence {
            picks: eligible.map(|c| c.id).collect(),
            levels: Vec::new(),
        }
    }

    const fn gcd(a: u32, b: u32) -> u32 {
        let (mut a, mut b) = (a, b);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Greatest common divisor and largest of the weights; (0, 0) when all are 0.
    fn shape(list: &[Candidate]) -> (u32, u32) {
        list.iter()
            .fold((0, 0), |(g, max), c| (gcd(g, c.weight), max.max(c.weight)))
    }

    /// IPVS's current weight after the list changed: 0 means it never ran.
    pub fn wrr_resume(current_weight: u32, list: &[Candidate]) -> u32 {
        let (step, max) = shape(list);
        if step == 0 {
            return 0;
        }
        let top = max - (step - 1);
        match current_weight {
            cw if cw == 0 || cw > top => top,
            cw if step > 1 => cw / step * step + 1,
            cw => cw,
        }
    }

    /// One period of IPVS's `wrr`, starting at the list's head with `current_weight` (as
    /// [`wrr_resume`] gives it). Weights whose sum over their divisor exceeds 65,536 are scaled down.
    pub fn wrr(list: &[Candidate], current_weight: u32) -> Sequence {
        let (step, max) = shape(list);
        if step == 0 {
            return Sequence::default();
        }
        let total: u64 = list.iter().map(|c| u64::from(c.weight / step)).sum();
        if total > u64::from(MAX_SERVICE_SLOTS) {
            return wrr_scaled(list, total * u64::from(step));
        }
        let top = max - (step - 1);
        let mut sequence = Sequence::default();
        let mut level = if current_weight == 0 {
            top
        } else {
            current_weight.min(top)
        };
        for _ in 0..max / step {
            for candidate in list.iter().filter(|c| c.weight >= level) {
                sequence.picks.push(candidate.id);
                sequence.levels.push(level);
            }
            level = if level > step { level - step } else { top };
        }
        sequence
    }

    /// `wrr` over weights scaled so that their sum fits, none of them to 0.
    fn wrr_scaled(list: &[Candidate], total: u64) -> Sequence {
        let room = u64::from(MAX_SERVICE_SLOTS) - list.len() as u64;
        let scale = |weight: u32| match weight {
            0 => 0,
            w => u32::try_from((u64::from(w) * room / total).max(1)).unwrap_or(u32::MAX),
        };
        let scaled: Vec<_> = list
            .iter()
            .map(|c| Candidate {
                weight: scale(c.weight),
                ..*c
            })
            .collect();
        wrr(&scaled, 0)
    }

    /// A Maglev table of `size` (a prime) entries: consistent hashing by the servers' names, weighted,
    /// independent of their order. Empty when no server has weight.
    pub fn maglev(list: &[Candidate], size: u32) -> Vec<u32> {
        let mut servers: Vec<_> = list.iter().filter(|c| c.weight > 0).collect();
        servers.sort_by_key(|c| (c.name, c.id));
        let Some(max) = servers.iter().map(|c| c.weight).max() else {
            return Vec::new();
        };
        let permutation = |name: u64| {
            let hash = |k1| {
                siphash13::<0>(
                    HashKey {
                        k0: 0x6d61_676c_6576,
                        k1,
                    },
                    name,
                    0,
                )
            };
            let offset = hash(1) % u64::from(size);
            let skip = hash(2) % u64::from(size - 1) + 1;
            (offset, skip)
        };
        let mut walks: Vec<_> = servers
            .iter()
            .map(|c| (permutation(c.name), 0_u64))
            .collect();
        let mut table = vec![None; size as usize];
        let mut filled = 0;
        let mut credit = vec![0_u64; servers.len()];
        while filled < size {
            for (at, server) in servers.iter().enumerate() {
                // Each round the heaviest server places one entry, lighter ones in proportion.
                credit[at] += u64::from(server.weight);
                if credit[at] < u64::from(max) || filled == size {
                    continue;
                }
                credit[at] -= u64::from(max);
                let ((offset, skip), next) = &mut walks[at];
                loop {
                    let entry = (*offset + *next * *skip) % u64::from(size);
                    *next += 1;
                    let entry = &mut table[usize::try_from(entry).unwrap_or(0)];
                    if entry.is_none() {
                        *entry = Some(server.id);
                        filled += 1;
                        break;
                    }
                }
            }
        }
        table.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Servers 1, 2, … with these weights, added in this order, so listed newest first.
    fn added(weights: &[u32]) -> Vec<Candidate> {
        let mut list: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(&weight, id)| Candidate {
                id,
                weight,
                name: u64::from(id),
            })
            .collect();
        list.reverse();
        list
    }

    /// The current weight after adding servers one by one, as keepalived does.
    fn current_weight(list: &[Candidate]) -> u32 {
        (1..=list.len()).fold(0, |cw, n| wrr_resume(cw, &list[list.len() - n..]))
    }

    #[test]
    fn rr_serves_the_last_added_first() {
        assert_eq!(rr(&added(&[1, 1, 1]), None).picks, [3, 2, 1]);
        assert_eq!(rr(&added(&[7, 1, 0]), None).picks, [2, 1]);
        assert_eq!(rr(&added(&[1, 1, 1]), Some(0)).picks, [2, 1, 3]);
        assert_eq!(rr(&[], None).picks, [0; 0]);
    }

    /// Cycles observed on a real IPVS.
    #[test]
    fn wrr_has_the_order_of_ipvs() {
        let cases: [(&[u32], &[u32]); 5] = [
            (&[2, 1], &[2, 1, 1]),
            (&[5, 1, 0], &[2, 1, 1, 1, 1, 1]),
            (&[3, 2, 1], &[3, 2, 1, 1, 2, 1]),
            (&[4, 2], &[2, 1, 1]),
            (&[5, 3, 2], &[3, 2, 1, 1, 1, 2, 1, 3, 2, 1]),
        ];
        for (weights, picks) in cases {
            let list = added(weights);
            assert_eq!(
                wrr(&list, current_weight(&list)).picks,
                picks,
                "{weights:?}"
            );
        }
    }

    #[test]
    fn wrr_keeps_its_phase_across_edits() {
        let even = added(&[1, 1]);
        let cw = current_weight(&even);
        let heavier = added(&[3, 1]);
        assert_eq!(wrr(&heavier, wrr_resume(cw, &heavier)).picks, [2, 1, 1, 1]);
        let only_two = added(&[0, 1]);
        assert_eq!(wrr(&only_two, wrr_resume(cw, &only_two)).picks, [2]);
    }

    #[test]
    fn weights_too_heavy_for_a_table_are_scaled() {
        let list = added(&[1_000_000, 1]);
        let picks = wrr(&list, current_weight(&list)).picks;
        assert!(
            picks.len() <= 65_536 && picks.len() > 60_000,
            "{}",
            picks.len()
        );
        assert_eq!(picks.iter().filter(|&&id| id == 2).count(), 1);
    }

    #[test]
    fn maglev_moves_little_when_a_server_goes() {
        let three = maglev(&added(&[1, 1, 1]), 1021);
        let two = maglev(&added(&[1, 1]), 1021);
        assert_eq!(three.len(), 1021);
        let needless = three
            .iter()
            .zip(&two)
            .filter(|&(&before, &after)| before != 3 && before != after);
        assert!(needless.count() < 60);
        assert!(maglev(&added(&[0]), 1021).is_empty());
    }

    proptest! {
        #[test]
        fn a_wrr_period_holds_each_server_by_its_weight(
            weights in prop::collection::vec(0_u32..50, 1..8)
        ) {
            let list = added(&weights);
            let picks = wrr(&list, current_weight(&list)).picks;
            let step = weights.iter().fold(0, |g, &w| {
                let (mut a, mut b) = (g, w);
                while b != 0 { (a, b) = (b, a % b); }
                a
            });
            for candidate in &list {
                let share = picks.iter().filter(|&&id| id == candidate.id).count();
                prop_assert_eq!(share, candidate.weight.checked_div(step).unwrap_or(0) as usize);
            }
        }

        #[test]
        fn a_maglev_table_follows_the_weights(weights in prop::collection::vec(1_u32..5, 1..5)) {
            let table = maglev(&added(&weights), 1021);
            let total: u32 = weights.iter().sum();
            for (&weight, id) in weights.iter().zip(1..) {
                let share = table.iter().filter(|&&e| e == id).count();
                let fair = 1021 * weight as usize / total as usize;
                prop_assert!(share.abs_diff(fair) <= 8, "{share} of {fair}");
            }
        }
    }
}
