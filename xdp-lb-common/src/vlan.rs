//! VLANs: tags of frames (IEEE 802.1Q and 802.1ad), and the interfaces that are networks behind another
//! interface. Frames of such a network come in by the interface below it, tagged.

use crate::hash::mix;
use crate::limits::MAX_PORTS;
use crate::pod::{no_padding, pod};

/// Type of a frame with a tag of 802.1Q.
pub const CUSTOMER: u16 = 0x8100;
/// Type of a frame with a tag of 802.1ad, the outer one of two.
pub const SERVICE: u16 = 0x88a8;
/// Octets of a tag.
pub const TAG_LEN: usize = 4;

/// VLAN number in the tag control information, whose other bits are the frame's priority.
const NUMBER: u16 = 0x0fff;
/// Of a tag in [`Tags`]: it is of 802.1ad.
const IS_SERVICE: u16 = 1 << 12;
/// Of a tag in [`Tags`]: there is one.
const IS_TAG: u16 = 1 << 15;

/// Whether frames of this type have a tag behind it.
#[inline(always)]
pub const fn is_tag(ethertype: u16) -> bool {
    ethertype == CUSTOMER || ethertype == SERVICE
}

/// The tags that frames of a network have, at most two: the outer one in the lower half, 0 for none.
/// VLAN 0 is no network, only a priority (802.1Q, 9.6): a tag of it is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags(pub u32);

impl Tags {
    /// No tag.
    pub const NONE: Self = Self(0);

    /// One tag more, behind those that there are. `tci` has the number of the VLAN in its lower 12 bits.
    /// A third one finds no room: `None`.
    #[inline(always)]
    pub const fn then(self, ethertype: u16, tci: u16) -> Option<Self> {
        if tci & NUMBER == 0 {
            return Some(self);
        }
        let service = if ethertype == SERVICE { IS_SERVICE } else { 0 };
        let tag = (IS_TAG | service | (tci & NUMBER)) as u32;
        if self.0 == 0 {
            Some(Self(tag))
        } else if self.0 >> 16 == 0 {
            Some(Self(self.0 | tag << 16))
        } else {
            None
        }
    }

    /// The octets of a tag, first its type: memory order is the frame's. 0 for none.
    #[inline(always)]
    const fn octets(tag: u16) -> u32 {
        if tag == 0 {
            return 0;
        }
        let ethertype = if tag & IS_SERVICE != 0 {
            SERVICE
        } else {
            CUSTOMER
        };
        (ethertype.to_be() as u32) | ((tag & NUMBER).to_be() as u32) << 16
    }

    /// The octets of the outer tag, 0 if there is none.
    #[inline(always)]
    pub const fn outer(self) -> u32 {
        Self::octets(self.0 as u16)
    }

    /// The octets of the inner tag, 0 if there is none.
    #[inline(always)]
    pub const fn inner(self) -> u32 {
        Self::octets((self.0 >> 16) as u16)
    }
}

/// Whether two tags, as octets, are of one network: but for their priority.
#[inline(always)]
pub const fn is_same(one: u32, other: u32) -> bool {
    const PRIORITY: u32 = (!NUMBER).to_be() as u32;
    (one ^ other) & !(PRIORITY << 16) == 0
}

/// The interface below a network and the network's tags, as tables hold it; 0 for an interface that is no
/// such network.
#[inline(always)]
pub const fn key(parent: u32, tags: Tags) -> u64 {
    parent as u64 | (tags.0 as u64) << 32
}

/// The interface of a [`key`].
#[inline(always)]
pub const fn parent(key: u64) -> u32 {
    key as u32
}

/// The tags of a [`key`].
#[inline(always)]
pub const fn tags(key: u64) -> Tags {
    Tags((key >> 32) as u32)
}

/// One slot of the table by which tagged frames find their network. Open-addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VlanSlot {
    /// See [`key`]; 0 marks a free slot.
    pub key: u64,
    /// MAC of the network's own interface, low 48 bits.
    pub mac: u64,
    /// Index of the network's own interface.
    pub ifindex: u64,
    /// Fills the slot.
    pub reserved: u64,
}
pod!(VlanSlot);
no_padding!(VlanSlot, u64, u64, u64, u64);

/// Where the probe sequence of a key starts.
#[inline(always)]
pub const fn start(key: u64) -> u32 {
    mix(key, 2) & (MAX_PORTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(word: u32) -> [u8; 4] {
        word.to_ne_bytes()
    }

    #[test]
    fn tags_stand_in_frames_as_they_were_named() {
        let one = Tags::NONE.then(CUSTOMER, 0x0123).unwrap();
        assert_eq!(octets(one.outer()), [0x81, 0, 1, 0x23]);
        assert_eq!(one.inner(), 0);
        let two = Tags::NONE.then(SERVICE, 0xe00a).unwrap();
        let two = two.then(CUSTOMER, 0x0fff).unwrap();
        assert_eq!(octets(two.outer()), [0x88, 0xa8, 0, 10]);
        assert_eq!(octets(two.inner()), [0x81, 0, 0xf, 0xff]);
        assert_eq!(two.then(CUSTOMER, 1), None);
        assert_ne!(one, Tags::NONE.then(SERVICE, 0x0123).unwrap());
    }

    #[test]
    fn a_mere_priority_is_no_network() {
        let tags = Tags::NONE.then(CUSTOMER, 0xe000).unwrap();
        assert_eq!((tags, tags.outer()), (Tags::NONE, 0));
        let inner = tags.then(CUSTOMER, 7).unwrap();
        assert_eq!(inner, Tags::NONE.then(CUSTOMER, 7).unwrap());
        assert_eq!(key(3, tags), 3);
    }

    #[test]
    fn priority_is_not_part_of_a_network() {
        let tag = |octets: [u8; 4]| u32::from_ne_bytes(octets);
        let base = tag([0x81, 0, 1, 2]);
        assert!(is_same(base, tag([0x81, 0, 0xf1, 2])));
        for other in [[0x81, 0, 1, 3], [0x81, 0, 2, 2], [0x88, 0xa8, 1, 2]] {
            assert!(!is_same(base, tag(other)), "{other:?}");
        }
    }

    #[test]
    fn a_key_keeps_its_parts() {
        let tags_of = Tags::NONE.then(SERVICE, 5).unwrap();
        let key = key(u32::MAX, tags_of);
        assert_eq!((parent(key), tags(key)), (u32::MAX, tags_of));
    }
}
