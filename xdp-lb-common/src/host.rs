//! Hosts whose frames were balanced already.
//!
//! A frame for a virtual service that comes from the MAC of one of its real servers (or of a peer
//! director), while its IP source is not that host's, was balanced by another director: balancing it
//! again would start a ping-pong. The table is open-addressed, with two banks that flip together with
//! those of the service index. A host's first address stands where its MAC leads to, further ones where
//! MAC and address lead to.

use crate::addr::{Address, Mac};
use crate::hash::mix;
use crate::limits::{HOST_SLOTS, MAX_PROBES};
use crate::pod::{no_padding, pod};

/// One slot: an on-link host as one service knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HostSlot {
    /// [`host_key`] of MAC and service; 0 marks a free slot.
    pub key: u64,
    /// Address family of the address.
    pub family: u32,
    /// How many addresses the host has beside the one in its first slot.
    pub more: u32,
    /// An address of the host.
    pub address: Address,
}
pod!(HostSlot);
no_padding!(HostSlot, u64, u32, u32, Address);

impl HostSlot {
    /// Whether it is the host's, with this address. By words: comparing slices calls `memcmp`.
    #[inline(always)]
    const fn has(&self, family: u32, address: &Address) -> bool {
        let (own, other) = (&self.address.words_be, &address.words_be);
        let differing =
            (own[0] ^ other[0]) | (own[1] ^ other[1]) | (own[2] ^ other[2]) | (own[3] ^ other[3]);
        self.family == family && differing == 0
    }
}

/// MAC and service in one word. Services are below 2^16.
#[inline(always)]
pub const fn host_key(mac: Mac, service: u32) -> u64 {
    (mac.0 & Mac::MASK) | (service as u64) << 48
}

/// The service of a key.
pub const fn host_service(key: u64) -> u32 {
    (key >> 48) as u32
}

/// Where the probe sequence of a key starts within a bank. A host's first address stands there.
#[inline(always)]
pub const fn host_start(key: u64) -> u32 {
    mix(key, 0) & (HOST_SLOTS - 1)
}

/// Where the probe sequence of a host's further address starts: however many a host has, none of their
/// sequences gets long.
#[inline(always)]
pub const fn address_start(key: u64, address: &Address) -> u32 {
    let [a, b, c, d] = address.words_be;
    let (high, low) = (a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32);
    mix(key ^ high, low) & (HOST_SLOTS - 1)
}

/// Whether a key is in the table, while the address is none of its host's. `slot_at` reads a position of
/// the bank in force.
#[inline(always)]
pub fn is_foreign<'a>(
    key: u64,
    (family, address): (u32, &Address),
    slot_at: impl Fn(u32) -> Option<&'a HostSlot>,
) -> bool {
    let Some(first) = search(host_start(key), &slot_at, |slot| slot.key == key) else {
        return false;
    };
    if first.has(family, address) {
        return false;
    }
    let is_it = |slot: &HostSlot| slot.key == key && slot.has(family, address);
    first.more == 0 || search(address_start(key, address), &slot_at, is_it).is_none()
}

/// The first slot of a probe sequence that is wanted.
#[inline(always)]
fn search<'a>(
    start: u32,
    slot_at: &impl Fn(u32) -> Option<&'a HostSlot>,
    is_wanted: impl Fn(&HostSlot) -> bool,
) -> Option<&'a HostSlot> {
    for step in 0..MAX_PROBES {
        let slot = slot_at((start + step) & (HOST_SLOTS - 1))?;
        if slot.key == 0 {
            return None;
        }
        if is_wanted(slot) {
            return Some(slot);
        }
    }
    None
}

/// The bits that a MAC sets, one in each word of a service's host filter. With 16 hosts in it, 6 of 100 other
/// MACs find theirs set, and have the table looked into for nothing.
#[inline(always)]
pub const fn mac_bits(mac: Mac) -> [u64; 2] {
    let mixed = mix(mac.0 & Mac::MASK, 1);
    [1 << (mixed & 63), 1 << (mixed >> 6 & 63)]
}
