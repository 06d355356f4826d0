//! What the packet path decided about a packet, for those who watch it or ask beforehand.
//!
//! The object is loaded once for each [`mode`] that is in use: the mode is a constant to the verifier,
//! which takes out what the others need. So it is the same code that forwards, that tells what it does,
//! and that only says what it would do.

use crate::addr::Address;
use crate::pod::{no_padding, pod};
use crate::reason::Reason;

/// What a load of the object is for.
pub mod mode {
    /// It forwards.
    pub const FORWARD: u32 = 0;
    /// It forwards, and tells those who watch.
    pub const WATCHED: u32 = 1;
    /// It looks: every table and counter stays as it is, and the [`super::Decision`] is left to be read.
    pub const DRY: u32 = 2;
}

/// [`Decision::mark`] of one that the program wrote.
pub const MARK: u32 = 0x6c62_6432;

/// No service, or no backend.
pub const NOBODY: u32 = u32::MAX;

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Decision {
    /// When, nanoseconds of the monotonic clock.
    pub time_ns: u64,
    /// Where it comes from. All zeroes with `family` 0 where that is not known.
    pub client: Address,
    /// Where it goes to.
    pub vip: Address,
    /// The real server, zeroes for none.
    pub server: Address,
    /// Client's port, network order.
    pub client_port_be: u16,
    /// The VIP's port, network order.
    pub vip_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Address family of client and VIP; 0 if the packet's flow is not known.
    pub family: u8,
    /// How its real server was found: a number of [`Via`].
    pub via: u8,
    /// Fills the word.
    pub reserved: u8,
    /// A number of [`Reason`].
    pub reason: u32,
    /// Index of its service, [`NOBODY`] for none.
    pub service: u32,
    /// Index of its backend, [`NOBODY`] for none.
    pub backend: u32,
    /// Index of the interface it came in by.
    pub ifindex: u32,
    /// A bit per [`Filter`] that wants it.
    pub filters: u32,
    /// [`MARK`].
    pub mark: u32,
}
pod!(Decision);
no_padding!(
    Decision, u64, Address, Address, Address, u16, u16, u8, u8, u8, u8, u32, u32, u32, u32, u32,
    u32
);

impl Decision {
    /// From the octets that the program wrote; `None` of fewer than there must be.
    #[cfg(any(feature = "user", test))]
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let mut octets = Octets(octets);
        Some(Self {
            time_ns: u64::from_ne_bytes(octets.take()?),
            client: octets.address()?,
            vip: octets.address()?,
            server: octets.address()?,
            client_port_be: u16::from_ne_bytes(octets.take()?),
            vip_port_be: u16::from_ne_bytes(octets.take()?),
            protocol: u8::from_ne_bytes(octets.take()?),
            family: u8::from_ne_bytes(octets.take()?),
            via: u8::from_ne_bytes(octets.take()?),
            reserved: u8::from_ne_bytes(octets.take()?),
            reason: octets.word()?,
            service: octets.word()?,
            backend: octets.word()?,
            ifindex: octets.word()?,
            filters: octets.word()?,
            mark: octets.word()?,
        })
    }

    /// The reason, if it is one that this version knows.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(self.reason as usize).copied()
    }
}

/// Octets that are read one after the other.
#[cfg(any(feature = "user", test))]
struct Octets<'a>(&'a [u8]);

#[cfg(any(feature = "user", test))]
impl Octets<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn address(&mut self) -> Option<Address> {
        let words_be = [self.word()?, self.word()?, self.word()?, self.word()?];
        Some(Address { words_be })
    }
}

/// How the real server of a packet was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Via {
    /// Its connection is known.
    Connection = 0,
    /// The scheduler placed it.
    Scheduled = 1,
    /// The client's persistence template placed it.
    Persistent = 2,
    /// By a hash that needs no entry.
    Stateless = 3,
}

impl Via {
    /// Of a number.
    pub const fn of(number: u8) -> Self {
        match number & 3 {
            0 => Self::Connection,
            1 => Self::Scheduled,
            2 => Self::Persistent,
            _ => Self::Stateless,
        }
    }
}

/// Filters there can be at a time: so many can watch.
pub const FILTERS: u32 = 8;

/// Which decisions somebody wants to see: those that all of it is true for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Filter {
    /// A bit per [`Reason`]; none while nobody uses the filter.
    pub reasons: u64,
    /// Clients.
    pub client: Block,
    /// Virtual IPs.
    pub vip: Block,
    /// Real servers.
    pub server: Block,
    /// Port of clients, network order; 0 for any.
    pub client_port_be: u16,
    /// Port of the VIP, network order; 0 for any.
    pub vip_port_be: u16,
    /// IP protocol number; 0 for any.
    pub protocol: u8,
    /// Fills the word.
    pub reserved: [u8; 3],
    /// Of so many decisions one is shown, by chance; 0 and 1 for all.
    pub sample: u32,
    /// Fills the word.
    pub reserved_too: u32,
}
pod!(Filter);
no_padding!(
    Filter, u64, Block, Block, Block, u16, u16, u8, [u8; 3], u32, u32
);

/// Addresses that agree in some bits; of IPv4 the words that it leaves zero agree too. By default all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// One of them.
    pub address: Address,
    /// The bits.
    pub mask: Address,
}

impl Block {
    /// Whether an address is among them. Without a branch.
    #[inline(always)]
    pub const fn holds(&self, address: &Address) -> bool {
        let (one, mask, other) = (self.address.words_be, self.mask.words_be, address.words_be);
        ((one[0] ^ other[0]) & mask[0])
            | ((one[1] ^ other[1]) & mask[1])
            | ((one[2] ^ other[2]) & mask[2])
            | ((one[3] ^ other[3]) & mask[3])
            == 0
    }

    /// The addresses of a prefix; a length beyond the family's counts as the whole address.
    #[cfg(any(feature = "user", test))]
    pub fn prefix(ip: core::net::IpAddr, length: u8) -> Self {
        let (address, _family) = Address::from_ip(ip);
        let all = Address {
            words_be: [u32::MAX; 4],
        };
        let mask = match ip {
            core::net::IpAddr::V4(_) => Address {
                words_be: [
                    crate::persist::mask_v4(length),
                    u32::MAX,
                    u32::MAX,
                    u32::MAX,
                ],
            },
            core::net::IpAddr::V6(_) => crate::persist::masked_v6(all, length.into()),
        };
        Self { address, mask }
    }
}

impl Filter {
    /// Whether it wants a decision, if that is sampled.
    #[inline(always)]
    pub const fn wants(&self, decision: &Decision) -> bool {
        let is_of_reason = self.reasons >> (decision.reason & 63) & 1 == 1;
        let is_of_protocol = self.protocol == 0 || self.protocol == decision.protocol;
        is_of_reason
            && is_of_protocol
            && (self.client_port_be == 0 || self.client_port_be == decision.client_port_be)
            && (self.vip_port_be == 0 || self.vip_port_be == decision.vip_port_be)
            && self.client.holds(&decision.client)
            && self.vip.holds(&decision.vip)
            && self.server.holds(&decision.server)
    }

    /// Whether a decision is among those shown, by a random number.
    #[inline(always)]
    pub const fn samples(&self, number: u32) -> bool {
        match number.checked_rem(self.sample) {
            Some(rest) => rest == 0,
            None => true,
        }
    }
}

/// Decisions that could not be shown as the ring was full, by filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Unshown {
    /// How many.
    pub by_filter: [u64; FILTERS as usize],
}
pod!(Unshown);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{FAMILY_V4, TCP, UDP};
    use core::net::IpAddr;
    use proptest::prelude::*;

    fn decision(client: &str, vip: &str, server: &str) -> Decision {
        let address = |ip: &str| Address::from_ip(ip.parse().unwrap()).0;
        Decision {
            client: address(client),
            vip: address(vip),
            server: address(server),
            client_port_be: 40_000_u16.to_be(),
            vip_port_be: 80_u16.to_be(),
            protocol: TCP,
            family: FAMILY_V4,
            reason: Reason::TxScheduled as u32,
            ..Decision::default()
        }
    }

    fn all() -> Filter {
        Filter {
            reasons: u64::MAX,
            ..Filter::default()
        }
    }

    fn block(ip: &str, length: u8) -> Block {
        Block::prefix(ip.parse().unwrap(), length)
    }

    /// A change of a filter, and whether it still wants what is seen.
    type Case = (fn(&mut Filter), bool);

    #[test]
    fn a_filter_wants_what_all_of_it_is_true_for() {
        let seen = decision("10.1.0.5", "192.168.1.200", "192.168.1.101");
        assert!(!Filter::default().wants(&seen), "nobody uses it");
        let cases: [Case; 14] = [
            (|_| (), true),
            (|f| f.reasons = 1 << Reason::TxScheduled as u32, true),
            (|f| f.reasons = !(1 << Reason::TxScheduled as u32), false),
            (|f| f.client = block("10.1.0.5", 32), true),
            (|f| f.client = block("10.1.0.0", 24), true),
            (|f| f.client = block("10.1.1.0", 24), false),
            (|f| f.client = block("10.1.1.0", 0), true),
            (|f| f.vip = block("192.168.1.201", 32), false),
            (|f| f.server = block("192.168.1.101", 32), true),
            (|f| f.server = block("192.168.1.102", 32), false),
            (|f| f.vip_port_be = 80_u16.to_be(), true),
            (|f| f.vip_port_be = 81_u16.to_be(), false),
            (|f| f.client_port_be = 40_001_u16.to_be(), false),
            (|f| f.protocol = UDP, false),
        ];
        for (at, (change, wanted)) in cases.into_iter().enumerate() {
            let mut filter = all();
            change(&mut filter);
            assert_eq!(filter.wants(&seen), wanted, "case {at}");
        }
    }

    #[test]
    fn an_ipv4_block_holds_no_ipv6_address() {
        let (v6, _) = Address::from_ip("0a01:0005::1".parse::<IpAddr>().unwrap());
        assert!(!block("10.1.0.5", 32).holds(&v6));
        assert!(!block("0.0.0.0", 0).holds(&v6));
    }

    #[test]
    fn one_of_so_many_is_shown() {
        let shown = |sample| {
            let filter = Filter { sample, ..all() };
            (0..1000).filter(|number| filter.samples(*number)).count()
        };
        assert_eq!((shown(0), shown(1), shown(10)), (1000, 1000, 100));
    }

    #[test]
    fn a_decision_is_read_back_from_its_octets() {
        let told = Decision {
            time_ns: 0x0102_0304_0506_0708,
            via: Via::Persistent as u8,
            service: 7,
            backend: 8,
            ifindex: 9,
            filters: 0x81,
            mark: MARK,
            ..decision("10.1.0.5", "192.168.1.200", "192.168.1.101")
        };
        let mut octets = told.time_ns.to_ne_bytes().to_vec();
        for address in [told.client, told.vip, told.server] {
            octets.extend(address.words_be.into_iter().flat_map(u32::to_ne_bytes));
        }
        octets.extend(told.client_port_be.to_ne_bytes());
        octets.extend(told.vip_port_be.to_ne_bytes());
        octets.extend([told.protocol, told.family, told.via, 0]);
        let words = [told.reason, 7, 8, 9, 0x81, MARK];
        octets.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        assert_eq!(octets.len(), size_of::<Decision>());
        assert_eq!(Decision::from_octets(&octets), Some(told));
        octets.push(1);
        assert_eq!(Decision::from_octets(&octets), Some(told), "more follows");
        assert_eq!(Decision::from_octets(&octets[..88 - 1]), None);
        assert_eq!(told.reason(), Some(Reason::TxScheduled));
    }

    proptest! {
        #[test]
        fn a_prefix_holds_what_shares_its_bits(one: u128, other: u128, length in 0_u8..=128) {
            let ip = |bits: u128| IpAddr::V6(bits.into());
            let differ = (one ^ other).leading_zeros() < length.into();
            let (address, _) = Address::from_ip(ip(other));
            prop_assert_eq!(Block::prefix(ip(one), length).holds(&address), !differ);
        }

        #[test]
        fn a_prefix_of_ipv4_does_too(one: u32, other: u32, length in 0_u8..=32) {
            let ip = |bits: u32| IpAddr::V4(bits.into());
            let differ = (one ^ other).leading_zeros() < length.into();
            let (address, _) = Address::from_ip(ip(other));
            prop_assert_eq!(Block::prefix(ip(one), length).holds(&address), !differ);
        }
    }
}
