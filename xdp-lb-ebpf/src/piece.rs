//! What fragments say of themselves, and what those of a packet have in common.

use xdp_lb_common::flow::{FlowV4, FlowV6, FragmentsV4, FragmentsV6};
use xdp_lb_common::reason::Reason;

use crate::extensions::{self, FRAGMENT_LEN};
use crate::family::Family;
use crate::packet::{Frame, Packet};
use crate::parse::{self, ETHERNET, IPV4_MIN, IPV6_LEN, OFFSET_BE};
use crate::settings::{COEFFICIENTS, coefficients_v6};

/// What a fragment says of itself.
pub struct Piece {
    /// Identification, network order.
    pub id_be: u32,
    /// Where it stands in the datagram, in units of eight octets.
    pub offset: u16,
    /// Others follow.
    pub more: bool,
    /// Octets of it behind the headers that each fragment has.
    pub len: usize,
}

/// What differs between the families.
pub trait Pieces: Family {
    /// Parses any fragment.
    fn parse_any(frame: &Frame) -> Result<Packet<Self>, Reason>;
    /// What one says of itself. The IP header was looked at.
    fn piece(frame: &Frame) -> Result<Piece, Reason>;
    /// The keyed hash that stands in the table for all fragments of a packet.
    fn hash_of_pieces(packet: &Packet<Self>, piece: &Piece) -> u64;
    /// The same of a reply that is translated.
    fn hash_of_reply_pieces(packet: &Packet<Self>, piece: &Piece) -> u64;
}

impl Pieces for FlowV4 {
    #[inline(always)]
    fn parse_any(frame: &Frame) -> Result<Packet<Self>, Reason> {
        parse::ipv4_any(frame)
    }

    #[inline(always)]
    fn piece(frame: &Frame) -> Result<Piece, Reason> {
        piece_v4(frame)
    }

    #[inline(always)]
    fn hash_of_pieces(packet: &Packet<Self>, piece: &Piece) -> u64 {
        name(packet, piece).hash(&COEFFICIENTS.load())
    }

    #[inline(always)]
    fn hash_of_reply_pieces(packet: &Packet<Self>, piece: &Piece) -> u64 {
        name(packet, piece).hash_of_reply(&COEFFICIENTS.load())
    }
}

impl Pieces for FlowV6 {
    #[inline(always)]
    fn parse_any(frame: &Frame) -> Result<Packet<Self>, Reason> {
        parse::ipv6_any(frame)
    }

    #[inline(always)]
    fn piece(frame: &Frame) -> Result<Piece, Reason> {
        piece_v6(frame)
    }

    #[inline(always)]
    fn hash_of_pieces(packet: &Packet<Self>, piece: &Piece) -> u64 {
        name_v6(packet, piece).hash(coefficients_v6())
    }

    #[inline(always)]
    fn hash_of_reply_pieces(packet: &Packet<Self>, piece: &Piece) -> u64 {
        name_v6(packet, piece).hash_of_reply(coefficients_v6())
    }
}

#[inline(always)]
fn name(packet: &Packet, piece: &Piece) -> FragmentsV4 {
    FragmentsV4 {
        source_be: packet.flow.client_be,
        destination_be: packet.flow.vip_be,
        id_be: piece.id_be as u16,
        protocol: packet.flow.protocol,
    }
}

#[inline(always)]
fn name_v6(packet: &Packet<FlowV6>, piece: &Piece) -> FragmentsV6 {
    FragmentsV6 {
        source: packet.flow.client,
        destination: packet.flow.vip,
        id_be: piece.id_be,
    }
}

/// What an IPv4 header, which was looked at, says of a fragment.
#[inline(always)]
fn piece_v4(frame: &Frame) -> Result<Piece, Reason> {
    if !frame.holds(0, ETHERNET + IPV4_MIN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the IP header.
    let (version_ihl, len_be, id_be, offset_be) = unsafe {
        (
            frame.read::<u8>(ETHERNET),
            frame.read::<u16>(ETHERNET + 2),
            frame.read::<u16>(ETHERNET + 4),
            frame.read::<u16>(ETHERNET + 6),
        )
    };
    let header = (version_ihl as usize & 0xf) * 4;
    Ok(Piece {
        id_be: id_be as u32,
        offset: u16::from_be(offset_be & OFFSET_BE),
        more: offset_be & 0x2000_u16.to_be() != 0,
        len: (u16::from_be(len_be) as usize).saturating_sub(header),
    })
}

/// What an IPv6 fragment header says.
#[inline(always)]
fn piece_v6(frame: &Frame) -> Result<Piece, Reason> {
    const AT: usize = ETHERNET + IPV6_LEN;
    if !frame.holds(0, AT) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the IPv6 header.
    let payload = u16::from_be(unsafe { frame.read(ETHERNET + 4) }) as usize;
    let behind = extensions::of(frame, payload)?;
    if !behind.is_fragment() {
        return Err(Reason::NotTcpUdp);
    }
    let passed = behind.passed();
    let rest = frame.from(passed.wrapping_sub(FRAGMENT_LEN) & 0x3fff);
    if !rest.holds(AT, FRAGMENT_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the fragment header.
    let (offset_be, id_be) = unsafe { (rest.read::<u16>(AT + 2), rest.read::<u32>(AT + 4)) };
    Ok(Piece {
        id_be,
        offset: u16::from_be(offset_be & extensions::OFFSET_BE) >> 3,
        more: offset_be & 1_u16.to_be() != 0,
        len: payload.saturating_sub(passed),
    })
}
