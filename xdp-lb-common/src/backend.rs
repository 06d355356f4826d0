//! Backends: one per pair of virtual service and real server, with a stable index.

use crate::addr::{Address, Mac};
use crate::pod::{no_padding, pod};
use crate::service::ServiceName;

/// Where packets of a backend go: one cache line. The first two words are written by one store each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Backend {
    /// See [`Identity`].
    pub identity: u64,
    /// Source MAC for frames to it, low 48 bits.
    pub source_mac: u64,
    /// Interface it is behind.
    pub ifindex: u32,
    /// Index of its virtual service.
    pub service: u32,
    /// Address of the real server.
    pub address: Address,
    /// What is changed in packets to it, see [`crate::method::Method`].
    pub method: u64,
    /// Source of the outer header of a tunnel, of the family of `address`.
    pub source: Address,
}
pod!(Backend);
no_padding!(Backend, u64, u64, u32, u32, Address, u64, Address);

/// The word that says whether a flow may still use the backend: MAC (48 bits), generation (8), flags
/// (8). Raising the generation purges every flow of the backend by one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity(pub u64);

/// The backend has a MAC and takes the packets of its flows.
pub const BACKEND_USABLE: u8 = 1 << 0;
/// The real server is this director itself: packets pass to its own stack.
pub const BACKEND_LOCAL: u8 = 1 << 1;
/// Its persistence templates are void, its flows are not: sticky clients go elsewhere.
pub const BACKEND_RELEASES: u8 = 1 << 2;
/// Packets go there in a tunnel, see [`crate::method`].
pub const BACKEND_TUNNEL: u8 = 1 << 3;
/// Addresses of packets are translated, see [`crate::method`].
pub const BACKEND_NAT: u8 = 1 << 4;

impl Identity {
    /// Packs the three parts.
    pub const fn new(mac: Mac, generation: u8, flags: u8) -> Self {
        Self((mac.0 & Mac::MASK) | (generation as u64) << 48 | (flags as u64) << 56)
    }

    /// MAC of the real server, or of the router on the way to it.
    #[inline(always)]
    pub const fn mac(self) -> Mac {
        Mac(self.0 & Mac::MASK)
    }

    /// The generation that a flow must carry.
    #[inline(always)]
    pub const fn generation(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// `BACKEND_*` bits.
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

/// The identity of a backend, for userspace that takes over pinned maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BackendName {
    /// Its virtual service; family 0 marks a free index.
    pub service: ServiceName,
    /// Address of the real server, of the family in `family`.
    pub address: Address,
    /// Port, network order.
    pub port_be: u16,
    /// Address family of the real server.
    pub family: u8,
    /// 1 while its health checks pass.
    pub serving: u8,
    /// Fills the struct.
    pub reserved: u32,
}
pod!(BackendName);
no_padding!(BackendName, ServiceName, Address, u16, u8, u8, u32);

/// An interface that the program runs on: frames not sent to its MAC are not ours to balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Port {
    /// Interface index; 0 marks a free slot.
    pub ifindex: u64,
    /// MAC of the interface, low 48 bits.
    pub mac: u64,
    /// Of an interface that is a VLAN behind another one, see [`crate::vlan::key`]; else 0.
    pub vlan: u64,
    /// Fills the slot.
    pub reserved: u64,
}
pod!(Port);
no_padding!(Port, u64, u64, u64, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_keeps_its_parts() {
        let mac = Mac::from_octets([0x02, 1, 2, 3, 4, 5]);
        let id = Identity::new(mac, 200, BACKEND_USABLE | BACKEND_LOCAL);
        assert_eq!((id.mac(), id.generation(), id.flags()), (mac, 200, 3));
    }
}
