//! Hosts whose frames were balanced already.
//!
//! A frame for a virtual service that comes from the MAC of one of its real servers (or of a peer
//! director), while its IP source is not that host's, was balanced by another director: balancing it
//! again would start a ping-pong. The table is open-addressed, with two banks that flip together with
//! those of the service index.

use crate::addr::{Address, Mac};
use crate::hash::mix;
use crate::limits::HOST_SLOTS;
use crate::pod::{no_padding, pod};

/// One slot: an on-link host as one service knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HostSlot {
    /// [`host_key`] of MAC and service; 0 marks a free slot.
    pub key: u64,
    /// Address family of the address.
    pub family: u64,
    /// The host's own address.
    pub address: Address,
}
pod!(HostSlot);
no_padding!(HostSlot, u64, u64, Address);

/// MAC and service in one word. Services are below 2^16.
#[inline(always)]
pub const fn host_key(mac: Mac, service: u32) -> u64 {
    (mac.0 & Mac::MASK) | (service as u64) << 48
}

/// The service of a key.
pub const fn host_service(key: u64) -> u32 {
    (key >> 48) as u32
}

/// Where the probe sequence of a key starts within a bank.
#[inline(always)]
pub const fn host_start(key: u64) -> u32 {
    mix(key, 0) & (HOST_SLOTS - 1)
}

/// The bit of a service's host filter that a MAC sets.
#[inline(always)]
pub const fn mac_bit(mac: Mac) -> u64 {
    1 << (mix(mac.0 & Mac::MASK, 1) & 63)
}
