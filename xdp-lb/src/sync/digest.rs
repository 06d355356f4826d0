//! Digests of what a director holds, so that two find out what differs without sending it.
//!
//! Each lasting entry gives one word, a keyed hash of its name and server; those of a service are
//! summed up, as a whole and by bucket. A sum can be kept up to date entry by entry, and does not
//! depend on the order.

use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use super::key::Keys;
use super::record::{Name, Scope, ServiceName, Subject};
use crate::config::model::{Endpoint, Family};

/// Buckets of a service, a bit each of a [`Scope`].
pub const BUCKETS: usize = 128;

/// The word of an entry: never 0.
pub fn word(keys: &Keys, name: &Name, server: SocketAddr) -> u64 {
    let (k0, k1) = keys.digests();
    let mut hash = SipHasher13::new_with_keys(k0, k1);
    let socket = |hash: &mut SipHasher13, ip: IpAddr, port: u16| {
        match ip {
            IpAddr::V4(ip) => hash.write(&ip.octets()),
            IpAddr::V6(ip) => hash.write(&ip.octets()),
        }
        hash.write_u16(port);
    };
    let endpoint = |hash: &mut SipHasher13, of: &Endpoint| {
        socket(hash, of.vip, of.port);
        hash.write_u8(of.protocol.number());
    };
    match &name.service {
        ServiceName::Endpoint(service) => {
            hash.write_u8(1);
            endpoint(&mut hash, service);
        }
        ServiceName::Mark(mark) => {
            hash.write_u8(2);
            hash.write_u8(u8::from(mark.family == Family::V6));
            hash.write_u32(mark.mark);
        }
    }
    match &name.subject {
        Subject::Flow { client, called } => {
            hash.write_u8(1);
            socket(&mut hash, client.ip(), client.port());
            endpoint(&mut hash, called);
        }
        Subject::Template { client } => {
            hash.write_u8(2);
            socket(&mut hash, *client, 0);
        }
    }
    socket(&mut hash, server.ip(), server.port());
    hash.finish().max(1)
}

/// The bucket of a word.
pub const fn bucket(word: u64) -> usize {
    (word >> 57) as usize
}

impl Scope {
    /// Whether an entry belongs to it; `is_owned`: its service is owned where it stands.
    pub fn covers(&self, name: &Name, word: u64, is_owned: bool) -> bool {
        match self {
            Self::All => true,
            Self::Owned => is_owned,
            Self::Buckets { service, mask } => {
                *service == name.service && mask >> bucket(word) & 1 == 1
            }
        }
    }
}

/// The sums of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    entries: u32,
    total: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Sums {
    fn default() -> Self {
        Self {
            entries: 0,
            total: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Sums {
    /// Adds an entry.
    pub fn add(&mut self, word: u64) {
        self.entries = self.entries.wrapping_add(1);
        self.total = self.total.wrapping_add(word);
        if let Some(sum) = self.buckets.get_mut(bucket(word)) {
            *sum = sum.wrapping_add(word);
        }
    }

    /// Takes an entry away that was added.
    pub fn take(&mut self, word: u64) {
        self.entries = self.entries.wrapping_sub(1);
        self.total = self.total.wrapping_sub(word);
        if let Some(sum) = self.buckets.get_mut(bucket(word)) {
            *sum = sum.wrapping_sub(word);
        }
    }

    /// How many there are.
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// By bucket.
    pub const fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }
}

/// The buckets that differ, a bit each; `first` is the bucket that `theirs` begins with.
pub fn difference(mine: &[u64; BUCKETS], first: usize, theirs: &[u64]) -> u128 {
    let pairs = mine.iter().enumerate().skip(first).zip(theirs);
    pairs
        .filter(|((_, mine), theirs)| mine != theirs)
        .fold(0, |mask, ((at, _), _)| mask | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Protocol;
    use crate::sync::key::Secret;

    #[test]
    fn sums_do_not_depend_on_the_order_and_tell_the_bucket() {
        let keys = Keys::of(&Secret::new(vec![3; 32]).unwrap()).unwrap();
        let service = Endpoint {
            vip: "192.0.2.1".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
        };
        let name = |client: &str| Name {
            service: service.into(),
            subject: Subject::Flow {
                client: client.parse().unwrap(),
                called: service,
            },
        };
        let server = "10.0.0.1:80".parse().unwrap();
        let words = ["198.51.100.1:1000", "198.51.100.1:1001", "[2001:db8::1]:5"]
            .map(|client| word(&keys, &name(client), server));
        let (mut a, mut b) = (Sums::default(), Sums::default());
        for (first, last) in words.iter().zip(words.iter().rev()) {
            a.add(*first);
            b.add(*last);
        }
        assert_eq!(a, b);
        b.take(words[1]);
        let mask = difference(a.buckets(), 0, b.buckets());
        assert_eq!(mask, 1 << bucket(words[1]));
        let scope = Scope::Buckets {
            service: service.into(),
            mask,
        };
        assert!(scope.covers(&name("198.51.100.1:1001"), words[1], false));
        assert_eq!(
            difference(a.buckets(), 64, &b.buckets()[64..]),
            mask >> 64 << 64
        );
    }
}
