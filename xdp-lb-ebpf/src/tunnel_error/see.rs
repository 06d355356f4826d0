//! What a router quotes of a tunnel's packet.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::{ICMP_V6, UDP};
use xdp_lb_common::method::{GUE_LEN, Kind, UDP_LEN, protocol};
use xdp_lb_common::relay;

use crate::icmp::ICMP_LEN;
use crate::packet::Frame;
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN, OFFSET_BE, address};
use crate::service;

/// What an error quotes, in one word: 1, whether the outer and the inner packet are IPv6 (2 bits), type and
/// code that the client is told (16), octets that are quoted of the inner packet (16), whether the tunnel has
/// a checksum (1), its kind (3), where the quoted headers stand behind Ethernet's: the outer one (8), the
/// inner one (8). Functions that the verifier checks on their own then neither take nor return more.
#[derive(Clone, Copy)]
pub(super) struct Seen(pub(super) u64);

impl Seen {
    const SET: u64 = 1 << 63;
    const OUTER_V6: u64 = 1 << 62;
    const INNER_V6: u64 = 1 << 61;

    #[inline(always)]
    pub(super) fn inner_at(self) -> usize {
        self.0 as usize & 0xff
    }

    #[inline(always)]
    pub(super) fn outer_at(self) -> usize {
        (self.0 >> 8) as usize & 0xff
    }

    /// Kind of the tunnel, and whether it has a checksum.
    #[inline(always)]
    pub(super) fn tunnel(self) -> u64 {
        self.0 >> 16 & 0xf
    }

    /// Octets that are quoted from the inner header on.
    #[inline(always)]
    pub(super) fn quoted(self) -> usize {
        (self.0 >> 20) as usize & 0xffff
    }

    /// What the client is told.
    #[inline(always)]
    pub(super) fn kind(self) -> u16 {
        (self.0 >> 36) as u16
    }

    #[inline(always)]
    pub(super) fn outer_v6(self) -> bool {
        self.0 & Self::OUTER_V6 != 0
    }

    #[inline(always)]
    pub(super) fn inner_v6(self) -> bool {
        self.0 & Self::INNER_V6 != 0
    }
}

/// What of a tunnel stands in a [`Seen`].
#[inline(always)]
pub(super) const fn tunnel(kind: Kind, has_checksum: bool) -> u64 {
    kind as u64 | (has_checksum as u64) << 3
}

/// What the error in a context quotes, a [`Seen`]; 0 if that is no tunnel's packet that this host sent. Global,
/// as all here, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_see(ctx: *mut xdp_md) -> u64 {
    see_v4(&Frame::new(ctx)).unwrap_or(0)
}

/// [`tunnel_error_see`] of ICMPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_see_v6(ctx: *mut xdp_md) -> u64 {
    see_v6(&Frame::new(ctx)).unwrap_or(0)
}

#[inline(always)]
fn see_v4(frame: &Frame) -> Option<u64> {
    if !frame.holds(0, ETHERNET + IPV4_MIN) {
        return None;
    }
    // SAFETY: within both headers, all of them.
    let (version_ihl, len_be, receiver_be) = unsafe {
        (
            frame.read::<u8>(ETHERNET),
            frame.read::<u16>(ETHERNET + 2),
            frame.read::<u32>(ETHERNET + 16),
        )
    };
    let header = (version_ihl as usize & 0xf) * 4;
    let message = frame.from(header & 0x3c);
    if !message.holds(ETHERNET, ICMP_LEN + IPV4_MIN) {
        return None;
    }
    const AT: usize = ETHERNET + ICMP_LEN;
    // SAFETY: within the ICMP header and the quoted one, all of them.
    let (kind, code, words, version_ihl, fragment, carried, source_be) = unsafe {
        (
            message.read::<u8>(ETHERNET),
            message.read::<u8>(ETHERNET + 1),
            message.read::<u8>(ETHERNET + 5),
            message.read::<u8>(AT),
            message.read::<u16>(AT + 6),
            message.read::<u8>(AT + 9),
            message.read::<u32>(AT + 12),
        )
    };
    let outer = (version_ihl as usize & 0xf) * 4;
    if version_ihl >> 4 != 4 || outer < IPV4_MIN || fragment & OFFSET_BE != 0 {
        return None;
    }
    if source_be != receiver_be {
        return None;
    }
    let there = (u16::from_be(len_be) as usize).checked_sub(header + ICMP_LEN)?;
    let quoted = original(there, words as usize * 4).checked_sub(outer)?;
    let outer_at = header + ICMP_LEN;
    let seen = behind(frame, (outer_at, outer_at + outer), carried, quoted)?;
    told(seen, false, (kind, code))
}

#[inline(always)]
fn see_v6(frame: &Frame) -> Option<u64> {
    const MESSAGE: usize = ETHERNET + IPV6_LEN;
    const QUOTE: usize = MESSAGE + ICMP_LEN;
    const OUTER_AT: usize = IPV6_LEN + ICMP_LEN;
    if !frame.holds(0, QUOTE + IPV6_LEN) {
        return None;
    }
    // SAFETY: within all three headers, as what follows.
    let (payload_be, next, receiver, kind, code, longs) = unsafe {
        (
            frame.read::<u16>(ETHERNET + 4),
            frame.read::<u8>(ETHERNET + 6),
            address(frame, ETHERNET + 24),
            frame.read::<u8>(MESSAGE),
            frame.read::<u8>(MESSAGE + 1),
            frame.read::<u8>(MESSAGE + 4),
        )
    };
    // SAFETY: as above.
    let (version, carried, source) = unsafe {
        (
            frame.read::<u8>(QUOTE) >> 4,
            frame.read::<u8>(QUOTE + 6),
            address(frame, QUOTE + 8),
        )
    };
    if next != ICMP_V6 || version != 6 || !service::is_same(source, receiver) {
        return None;
    }
    // "Packet too big" has its MTU where the others have a length.
    let length = if kind == 2 { 0 } else { longs as usize * 8 };
    let there = (u16::from_be(payload_be) as usize).checked_sub(ICMP_LEN)?;
    let quoted = original(there, length).checked_sub(IPV6_LEN)?;
    let seen = behind(frame, (OUTER_AT, OUTER_AT + IPV6_LEN), carried, quoted)?;
    told(seen | Seen::OUTER_V6, true, (kind, code))
}

/// How much of what is there belongs to the packet that is quoted: extensions may follow it (RFC 4884).
#[inline(always)]
fn original(there: usize, length: usize) -> usize {
    if length != 0 && length < there {
        length
    } else {
        there
    }
}

/// What stands behind the quoted header that ends at `at`, of which `quoted` octets are there.
#[inline(always)]
fn behind(
    frame: &Frame,
    (outer_at, at): (usize, usize),
    carried: u8,
    quoted: usize,
) -> Option<u64> {
    let (kind, carried, between) = match carried {
        protocol::IPV4 | protocol::IPV6 => (tunnel(Kind::Ipip, false), carried, 0),
        UDP => {
            let between = (UDP_LEN + GUE_LEN) as usize;
            let rest = frame.from(at & 0xff);
            if !rest.holds(ETHERNET, between) {
                return None;
            }
            // SAFETY: checked just now.
            let gue: u32 = unsafe { rest.read(ETHERNET + UDP_LEN as usize) };
            if gue & !0xff00 != 0 {
                return None;
            }
            (tunnel(Kind::Gue, false), (gue >> 8) as u8, between)
        }
        protocol::GRE => behind_gre(&frame.from(at & 0xff))?,
        _ => return None,
    };
    let inner_v6 = match carried {
        protocol::IPV4 => 0,
        protocol::IPV6 => Seen::INNER_V6,
        _ => return None,
    };
    let quoted = quoted.checked_sub(between)? as u64 & 0xffff;
    let at = (at + between) as u64 & 0xff | (outer_at as u64 & 0xff) << 8;
    Some(Seen::SET | inner_v6 | quoted << 20 | kind << 16 | at)
}

/// What GRE's header says, which stands behind Ethernet's place: the tunnel, the protocol of what it carries,
/// and its octets.
#[inline(always)]
fn behind_gre(rest: &Frame) -> Option<(u64, u8, usize)> {
    if !rest.holds(ETHERNET, 4) {
        return None;
    }
    // SAFETY: checked just now.
    let (flags, ethertype) = unsafe {
        (
            u16::from_be(rest.read(ETHERNET)),
            u16::from_be(rest.read(ETHERNET + 2)),
        )
    };
    let carried = match ethertype {
        0x0800 => protocol::IPV4,
        0x86dd => protocol::IPV6,
        _ => return None,
    };
    match flags {
        0 => Some((tunnel(Kind::Gre, false), carried, 4)),
        0x8000 => Some((tunnel(Kind::Gre, true), carried, 8)),
        _ => None,
    }
}

/// With what the client is told; `None` if it is not.
#[inline(always)]
fn told(seen: u64, outer_v6: bool, (kind, code): (u8, u8)) -> Option<u64> {
    let kind = relay::relayed(outer_v6, Seen(seen).inner_v6(), kind, code)?;
    Some(seen | (kind as u64) << 36)
}
