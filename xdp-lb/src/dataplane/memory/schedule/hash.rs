//! `sh`, `dh` and `mh`: buckets of servers, and the bucket of a client.
//!
//! The multiplier and the two SipHash keys are IPVS's, so that it and this agree about every client.

use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;
use xdp_lb_common::hashed::{HASH_SLOTS, MAGLEV_SLOTS};
use xdp_lb_common::schedule::FALLBACK_TRIES;

use crate::config::model::{Hashing, Scheduler};

use super::super::frame::Packet;
use super::Seen;
use super::walk::greatest_divisor;

/// Keys of the two hashes of `mh`, each used for both halves.
const FIRST: u64 = 2_654_435_761;
const SECOND: u64 = 2_654_446_892;

/// A weight beyond this is scaled down by halves, for `mh`.
const HEAVIEST: u32 = 63;

/// The buckets of a service: none, or all filled.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Buckets(Vec<SocketAddr>);

/// What a hash leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Pick {
    /// This server.
    Server(SocketAddr),
    /// A server that takes nobody, and there is no falling back; or there is no server.
    Nobody,
    /// All tries to fall back came to such servers: consistent hashing over those that live decides.
    Consistent,
}

/// What a scheduler hashes, as one number: an IPv6 address is the exclusive or of its words.
pub(super) fn name(scheduler: Scheduler, packet: &Packet) -> u32 {
    let (Scheduler::SourceHash(hashing) | Scheduler::Maglev(hashing)) = scheduler else {
        return folded(packet.vip.ip());
    };
    let port = if hashing.port {
        packet.client.port()
    } else {
        0
    };
    folded(packet.client.ip()).wrapping_add(port.into())
}

fn folded(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let word = |shift: u32| u32::try_from(bits >> shift & u128::from(u32::MAX));
            [96, 64, 32, 0]
                .into_iter()
                .filter_map(|shift| word(shift).ok())
                .fold(0, |a, b| a ^ b)
        }
    }
}

/// The kernel's hsiphash on 64 bits: the lower half of SipHash-1-3.
fn sip(key: u64, name: u32) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&name.to_le_bytes());
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Fibonacci hashing into 256 buckets.
const fn multiplied(name: u32) -> u32 {
    name.wrapping_mul(0x61c8_8647) >> 24
}

impl Buckets {
    /// The buckets for a list.
    pub(super) fn of(scheduler: Scheduler, list: &[Seen]) -> Self {
        let cycled = |times: &dyn Fn(&Seen) -> u32| {
            let turns = list
                .iter()
                .flat_map(|server| (0..times(server)).map(|_| server.address));
            let turns: Vec<_> = turns.collect();
            turns
                .iter()
                .copied()
                .cycle()
                .take(HASH_SLOTS as usize)
                .collect()
        };
        Self(match scheduler {
            // A server without weight has one bucket in a row, whose clients are refused.
            Scheduler::SourceHash(_) => cycled(&|server| server.weight.clamp(1, HASH_SLOTS)),
            Scheduler::DestinationHash => cycled(&|_| 1),
            Scheduler::Maglev(_) => maglev(list),
            _ => Vec::new(),
        })
    }

    fn at(&self, bucket: u32) -> Option<SocketAddr> {
        self.0.get(usize::try_from(bucket).ok()?).copied()
    }

    /// The server that a name leads to.
    pub(super) fn pick(
        &self,
        name: u32,
        scheduler: Scheduler,
        open: impl Fn(&SocketAddr) -> bool,
    ) -> Pick {
        let first = bucket(name, scheduler);
        let Some(server) = self.at(first) else {
            return Pick::Nobody;
        };
        if open(&server) {
            return Pick::Server(server);
        }
        if !falls_back(scheduler) {
            return Pick::Nobody;
        }
        let is_maglev = matches!(scheduler, Scheduler::Maglev(_));
        let tries = (0..FALLBACK_TRIES).map(|attempt| {
            if is_maglev {
                let offset = (first + attempt) % MAGLEV_SLOTS;
                sip(FIRST, name.wrapping_add(offset)) % MAGLEV_SLOTS
            } else {
                // The distance from the first bucket is the try and that bucket's number.
                (2 * first + attempt) % HASH_SLOTS
            }
        });
        let mut servers = tries.filter_map(|bucket| self.at(bucket));
        servers.find(open).map_or(Pick::Consistent, Pick::Server)
    }
}

/// The first bucket of a name.
fn bucket(name: u32, scheduler: Scheduler) -> u32 {
    match scheduler {
        Scheduler::Maglev(_) => sip(FIRST, name) % MAGLEV_SLOTS,
        _ => multiplied(name),
    }
}

const fn falls_back(scheduler: Scheduler) -> bool {
    matches!(
        scheduler,
        Scheduler::SourceHash(Hashing { fallback: true, .. })
            | Scheduler::Maglev(Hashing { fallback: true, .. })
    )
}

/// The buckets of `mh`, by the algorithm of the Maglev paper: each server has a walk through all
/// buckets of its own, and in turn each takes as many free ones as it weighs. A server whose weight
/// became 0 keeps its part.
fn maglev(list: &[Seen]) -> Vec<SocketAddr> {
    let servers: Vec<_> = list
        .iter()
        .filter(|server| server.last_weight > 0)
        .collect();
    let divisor = servers
        .iter()
        .fold(0, |d, s| greatest_divisor(d, s.last_weight));
    let Some(mut heaviest) = servers
        .iter()
        .map(|server| server.last_weight)
        .max()
        .and_then(|weight| weight.checked_div(divisor))
    else {
        return Vec::new();
    };
    let mut scale = divisor;
    while heaviest > HEAVIEST {
        (heaviest, scale) = (heaviest / 2, scale.saturating_mul(2));
    }
    let mut walks: Vec<_> = servers
        .iter()
        .map(|server| {
            let name = folded(server.address.ip()).wrapping_add(server.address.port().into());
            let start = sip(FIRST, name) % MAGLEV_SLOTS;
            let step = sip(SECOND, name) % (MAGLEV_SLOTS - 1) + 1;
            // Every bucket once: the number of buckets is a prime.
            let walk = (0..MAGLEV_SLOTS).map(move |turn| {
                (u64::from(start) + u64::from(turn) * u64::from(step)) % u64::from(MAGLEV_SLOTS)
            });
            (server, (server.last_weight / scale).max(1), walk)
        })
        .collect();
    let mut buckets = vec![None; MAGLEV_SLOTS as usize];
    let mut free = buckets.len();
    while free > 0 {
        for (server, turns, walk) in &mut walks {
            for _ in 0..*turns {
                let is_free = |bucket: &u64| {
                    usize::try_from(*bucket).is_ok_and(|at| matches!(buckets.get(at), Some(None)))
                };
                let Some(bucket) = walk.find(is_free) else {
                    break;
                };
                if let Some(bucket) = usize::try_from(bucket)
                    .ok()
                    .and_then(|at| buckets.get_mut(at))
                {
                    *bucket = Some(server.address);
                    free -= 1;
                }
            }
        }
    }
    buckets.into_iter().flatten().collect()
}
