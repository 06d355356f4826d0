//! `sh`, `dh` and `mh`: which entry of a service's table a client comes to, and what the tables hold.
//!
//! Entry and contents are IPVS's own, so that a director here and one with IPVS agree about every
//! client. Both hash an IPv6 address as the exclusive or of its four words.

/// Entries of a table of `sh` and `dh`.
pub const HASH_SLOTS: u32 = 256;

/// Entries of a table of `mh`: a prime, IPVS's default.
pub const MAGLEV_SLOTS: u32 = 4093;

/// Knuth's multiplier as the kernel has it: 2^32 by the square of the golden ratio.
const GOLDEN: u32 = 0x61c8_8647;

/// Both halves of the key of the first hash of `mh`, which tells entries and offsets.
const FIRST_KEY: u64 = 2_654_435_761;

/// An address (words in network order, IPv4 in the first) and a port as one number; port 0 for none.
#[inline(always)]
pub const fn folded(words_be: [u32; 4], port_be: u16) -> u32 {
    let [a, b, c, d] = words_be;
    let address = u32::from_be(a ^ b ^ c ^ d);
    address.wrapping_add(u16::from_be(port_be) as u32)
}

/// The entry of `sh` and `dh` for a folded address.
#[inline(always)]
pub const fn multiplied(folded: u32) -> u32 {
    folded.wrapping_mul(GOLDEN) >> 24
}

/// The entry that `sh-fallback` tries as number `attempt` after the first one.
#[inline(always)]
pub const fn multiplied_again(first: u32, attempt: u32) -> u32 {
    let offset = first.wrapping_add(attempt) % HASH_SLOTS;
    offset.wrapping_add(first) % HASH_SLOTS
}

/// The entry of `mh` for a folded address in a table of `len` entries.
#[inline(always)]
pub const fn maglev(folded: u32, len: u32) -> u32 {
    remainder(sip(FIRST_KEY, folded), len)
}

/// The entry that `mh-fallback` tries as number `attempt` after the first one.
#[inline(always)]
pub const fn maglev_again(folded: u32, first: u32, attempt: u32, len: u32) -> u32 {
    let offset = remainder(first.wrapping_add(attempt), len);
    maglev(folded.wrapping_add(offset), len)
}

#[inline(always)]
const fn remainder(number: u32, by: u32) -> u32 {
    match number.checked_rem(by) {
        Some(rest) => rest,
        None => 0,
    }
}

/// SipHash-1-3 of one 32-bit word, its lower half: what the kernel calls hsiphash on 64 bits.
#[inline(always)]
const fn sip(key: u64, word: u32) -> u32 {
    let state = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let block = 4 << 56 | word as u64;
    let [a, b, c, d] = state;
    let [a, b, c, d] = round([a, b, c, d ^ block]);
    let state = round(round(round([a ^ block, b, c ^ 0xff, d])));
    (state[0] ^ state[1] ^ state[2] ^ state[3]) as u32
}

#[inline(always)]
const fn round(state: [u64; 4]) -> [u64; 4] {
    let [mut a, mut b, mut c, mut d] = state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(any(feature = "user", test))]
pub use table::{HashServer, destination_table, maglev_table, source_table};

#[cfg(any(feature = "user", test))]
mod table {
    use super::{FIRST_KEY, HASH_SLOTS, MAGLEV_SLOTS, folded, sip};

    /// Both halves of the key of the second hash of `mh`, which tells the steps.
    const SECOND_KEY: u64 = 2_654_446_892;

    /// Bits of weight that a table of `mh` tells apart.
    const MAGLEV_WEIGHT_BITS: u32 = 6;

    /// A real server as hashing schedulers see it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HashServer {
        /// What the table is filled with (the backend index).
        pub id: u32,
        /// Weight. For `mh`: the last one that was not 0, or 0 if there was none.
        pub weight: u32,
        /// Address, words in network order.
        pub address_be: [u32; 4],
        /// Port, network order.
        pub port_be: u16,
    }

    /// The table of `sh`: the list over and over, each server as often in a row as it weighs; one
    /// without weight has an entry still.
    pub fn source_table(list: &[HashServer]) -> Vec<u32> {
        let turns = list.iter().flat_map(|server| {
            let room = HASH_SLOTS.min(server.weight.max(1));
            std::iter::repeat_n(server.id, usize::try_from(room).unwrap_or(0))
        });
        let turns: Vec<_> = turns.collect();
        cycled(&turns)
    }

    /// The table of `dh`: the list over and over, whatever the weights.
    pub fn destination_table(list: &[HashServer]) -> Vec<u32> {
        let ids: Vec<_> = list.iter().map(|server| server.id).collect();
        cycled(&ids)
    }

    fn cycled(ids: &[u32]) -> Vec<u32> {
        let len = usize::try_from(HASH_SLOTS).unwrap_or(0);
        ids.iter().copied().cycle().take(len).collect()
    }

    /// A server's walk through the table of `mh`.
    struct Walk {
        id: u32,
        at: u32,
        step: u32,
        turns: u32,
    }

    impl Walk {
        /// Goes on to an entry that nobody has, and takes it.
        fn take(&mut self, table: &mut [Option<u32>]) {
            for _ in 0..MAGLEV_SLOTS {
                let entry = usize::try_from(self.at)
                    .ok()
                    .and_then(|at| table.get_mut(at));
                if let Some(free @ None) = entry {
                    *free = Some(self.id);
                    return;
                }
                self.at = (self.at + self.step) % MAGLEV_SLOTS;
            }
        }
    }

    /// The table of `mh`; empty when no server has weight.
    pub fn maglev_table(list: &[HashServer]) -> Vec<u32> {
        let divisor = list.iter().fold(0, |d, s| greatest_divisor(d, s.weight));
        let heaviest = list.iter().map(|s| s.weight).max().unwrap_or(0);
        let Some(most) = heaviest.checked_div(divisor) else {
            return Vec::new();
        };
        let bits = u32::BITS - most.leading_zeros();
        let shift = bits.saturating_sub(MAGLEV_WEIGHT_BITS);
        let mut walks: Vec<_> = list
            .iter()
            .filter(|server| server.weight > 0)
            .map(|server| {
                let name = folded(server.address_be, server.port_be);
                Walk {
                    id: server.id,
                    at: sip(FIRST_KEY, name) % MAGLEV_SLOTS,
                    step: sip(SECOND_KEY, name) % (MAGLEV_SLOTS - 1) + 1,
                    turns: ((server.weight / divisor) >> shift).max(1),
                }
            })
            .collect();
        let mut table = vec![None; usize::try_from(MAGLEV_SLOTS).unwrap_or(0)];
        let mut left = MAGLEV_SLOTS;
        while left > 0 {
            for walk in &mut walks {
                let turns = walk.turns.min(left);
                left -= turns;
                (0..turns).for_each(|_| walk.take(&mut table));
            }
        }
        table.into_iter().flatten().collect()
    }

    const fn greatest_divisor(a: u32, b: u32) -> u32 {
        let (mut a, mut b) = (a, b);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;

    fn word(ip: [u8; 4]) -> [u32; 4] {
        [u32::from_ne_bytes(Ipv4Addr::from(ip).octets()), 0, 0, 0]
    }

    /// Servers `added` of these weights at 10.1.0.11, .12, .13, port 80; the last added comes first.
    fn added(servers: &[(u8, u32)]) -> Vec<HashServer> {
        let list = servers.iter().rev().map(|&(n, weight)| HashServer {
            id: n.into(),
            weight,
            address_be: word([10, 1, 0, 10 + n]),
            port_be: 80_u16.to_be(),
        });
        list.collect()
    }

    /// The servers of the clients 10.1.0.20 to .59.
    fn spread(table: &[u32], entry: impl Fn(u32) -> u32) -> String {
        let clients = (20..60).map(|n| folded(word([10, 1, 0, n]), 0));
        clients
            .map(|client| table[entry(client) as usize].to_string())
            .collect()
    }

    const EVEN: [(u8, u32); 3] = [(1, 1), (2, 1), (3, 1)];

    /// What a real IPVS did with these servers and clients.
    #[test]
    fn sh_leads_every_client_where_ipvs_leads_it() {
        let table = |servers: &[(u8, u32)]| spread(&source_table(&added(servers)), multiplied);
        assert_eq!(table(&EVEN), "1313132311212331312231321232131213131123");
        let other_order = [(3, 1), (1, 1), (2, 1)];
        assert_eq!(
            table(&other_order),
            "3232321233131223231123213121323132323312"
        );
        let counts = |digits: &str| ["1", "2"].map(|n| digits.matches(n).count());
        assert_eq!(counts(&table(&[(1, 2), (2, 1)])), [26, 14]);
    }

    #[test]
    fn mh_leads_every_client_where_ipvs_leads_it() {
        let table = |servers: &[(u8, u32)]| {
            let table = maglev_table(&added(servers));
            assert_eq!(table.len(), 4093);
            spread(&table, |client| maglev(client, MAGLEV_SLOTS))
        };
        assert_eq!(table(&EVEN), "2111121213112313132322313133121131333313");
        assert_eq!(table(&[(3, 1), (1, 1), (2, 1)]), table(&EVEN));
        assert_eq!(
            table(&[(1, 1), (2, 1), (3, 0)]),
            "2111121211112212122122111111121121111112"
        );
        let two_to_one = table(&[(1, 2), (2, 1)]);
        assert_eq!(two_to_one.matches('1').count(), 31);
    }

    #[test]
    fn dh_knows_the_virtual_ip_only() {
        let vip = multiplied(folded(word([10, 1, 0, 100]), 0)) as usize;
        assert_eq!(destination_table(&added(&EVEN))[vip], 3);
        let other_order = [(3, 1), (1, 1), (2, 1)];
        assert_eq!(destination_table(&added(&other_order))[vip], 2);
    }

    #[test]
    fn no_server_leaves_an_empty_table() {
        assert!(source_table(&[]).is_empty() && destination_table(&[]).is_empty());
        assert!(maglev_table(&[]).is_empty());
        assert!(maglev_table(&added(&[(1, 0)])).is_empty());
        assert_eq!(source_table(&added(&[(1, 0)])), [1; 256]);
    }

    proptest! {
        #[test]
        fn a_fallback_of_sh_comes_to_every_entry(first in 0_u32..256) {
            let mut seen = [false; 256];
            for attempt in 0..HASH_SLOTS {
                seen[multiplied_again(first, attempt) as usize] = true;
            }
            prop_assert!(seen.iter().all(|entry| *entry));
        }

        #[test]
        fn a_table_of_mh_follows_the_weights(weights in prop::collection::vec(1_u32..40, 1..6)) {
            let servers: Vec<_> = (1..).zip(weights.iter().copied()).collect();
            let table = maglev_table(&added(&servers));
            let divisor = weights.iter().fold(0, |a: u32, b| {
                let (mut a, mut b) = (a, *b);
                while b != 0 { (a, b) = (b, a % b); }
                a
            });
            let total: u32 = weights.iter().map(|w| w / divisor).sum();
            for (n, weight) in servers {
                let share = table.iter().filter(|id| **id == u32::from(n)).count();
                let turns = (weight / divisor) as usize;
                let rounds = 4093 / total as usize;
                prop_assert!(share >= rounds * turns && share <= (rounds + 1) * turns);
            }
        }
    }
}
