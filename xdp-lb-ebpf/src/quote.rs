//! ICMP errors about translated connections: who gets one knows the packet that it quotes by other
//! addresses, so these are translated along, back to what they were when it was sent.
//!
//! | comes from | quotes | goes to | by |
//! |---|---|---|---|
//! | the client's side | VIP to client | the real server | [`send`] |
//! | the servers' side | client to real server | the client, from the VIP | [`crate::reply`] |
//!
//! The checksums of the quoted headers follow as far as they are quoted, and that of the error follows all
//! of it.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::{Address, TCP};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::Reason;

use crate::decided::noted;
use crate::forward;
use crate::packet::Frame;
use crate::parse::{self, ETHERNET, IPV4_MIN, IPV6_LEN};
use crate::translate::{Side, Translate};

/// Length of the header of all errors.
const ICMP_LEN: usize = 8;
/// Where the checksum of an error stands behind its IP header.
const CHECKSUM: usize = ETHERNET + 2;
/// Where the checksum of an IPv4 header stands.
const HEADER_CHECKSUM: usize = ETHERNET + 10;

/// Sends the error of a context to the real server that was noted.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> Result<(Reason, u32), Reason> {
    let frame = Frame::new(ctx);
    let noted = noted()?;
    let server = (noted.address(), noted.method.port_be());
    if parse::is_v4(&frame) {
        translate::<FlowV4>(&frame, Side::Destination, noted.error, server)?;
    } else {
        translate::<FlowV6>(&frame, Side::Destination, noted.error, server)?;
    }
    if !frame.holds(0, ETHERNET) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: checked just now.
    unsafe { forward::write_macs(&frame, noted.identity.mac(), noted.source_mac()) };
    // SAFETY: a map value, see `forward::send`.
    let ifindex = unsafe { (*noted.backend).ifindex };
    forward::leave(&frame, ifindex, Reason::TxIcmp, Reason::RedirectIcmp)
}

/// Replaces an address of an error, the same one on the other side of the packet that it quotes, and
/// there the port beside it if the new one is not 0; spends a hop. `protocol` is the quoted packet's.
#[inline(always)]
pub fn translate<F: Translate>(
    frame: &Frame,
    side: Side,
    protocol: u8,
    (address, port_be): (Address, u16),
) -> Result<(), Reason> {
    let (outer_at, inner_at, port_at) = match side {
        Side::Source => (F::SOURCE, F::DESTINATION, ETHERNET + 2),
        Side::Destination => (F::DESTINATION, F::SOURCE, ETHERNET),
    };
    let outer = outer::<F>(frame)?;
    let message = frame.from(outer.header & 0x3fff);
    let quote = frame.from((outer.header & 0x3fff) + ICMP_LEN);
    if !message.holds(ETHERNET, ICMP_LEN) || !quote.holds(ETHERNET, F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    // A quoted fragment of IPv6 is not stepped into.
    let inner = F::transport(&quote).ok_or(Reason::IcmpUnknown)? & 0x3fff;
    let carried = frame.from(((outer.header & 0x3fff) + ICMP_LEN + inner) & 0x7fff);
    let quoted = outer.len.wrapping_sub(outer.header + ICMP_LEN + inner);
    // SAFETY: the ICMP header and the quoted one lie within the frame.
    let (sum, was) = unsafe {
        (
            Sum::under(message.read(CHECKSUM)),
            F::read_address(&quote, inner_at),
        )
    };
    let changes = Changes {
        protocol,
        was,
        address,
        port_be,
        port_at,
    };
    let sum = changes.ports(&carried, quoted, sum)?;
    // SAFETY: as above, and the outer header was looked at.
    unsafe {
        let sum = quoted_address::<F>(&quote, inner_at, (was, address), sum);
        if !frame.holds(0, ETHERNET + F::HEADER) {
            return Err(Reason::Inconsistent);
        }
        let old = F::read_address(frame, outer_at);
        // ICMPv6 covers the addresses of its own packet, too.
        let sum = if F::HEADER == IPV4_MIN {
            sum
        } else {
            sum.minus_address(old).plus_address(address)
        };
        message.write(CHECKSUM, sum.checksum());
        F::replace_address(frame, outer_at, old, address);
        F::lower_hops(frame, outer.hops - 1);
    }
    Ok(())
}

/// What the outer header says.
struct Outer {
    /// Octets up to the ICMP header.
    header: usize,
    /// Octets of the packet.
    len: usize,
    /// Hops to live; two at least.
    hops: u8,
}

#[inline(always)]
fn outer<F: Translate>(frame: &Frame) -> Result<Outer, Reason> {
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    let outer = if F::HEADER == IPV4_MIN {
        // SAFETY: within the headers, checked above; as below.
        let (version_ihl, len_be, hops) = unsafe {
            (
                frame.read::<u8>(ETHERNET),
                frame.read::<u16>(ETHERNET + 2),
                frame.read::<u8>(ETHERNET + 8),
            )
        };
        Outer {
            header: (version_ihl as usize & 0xf) * 4,
            len: u16::from_be(len_be) as usize,
            hops,
        }
    } else {
        // SAFETY: as above.
        let (payload_be, next, hops) = unsafe {
            (
                frame.read::<u16>(ETHERNET + 4),
                frame.read::<u8>(ETHERNET + 6),
                frame.read::<u8>(ETHERNET + 7),
            )
        };
        let payload = u16::from_be(payload_be) as usize;
        let (_protocol, passed) = parse::extensions(frame, next, payload)?;
        Outer {
            header: IPV6_LEN + passed,
            len: IPV6_LEN + payload,
            hops,
        }
    };
    if outer.hops <= 1 {
        return Err(Reason::TtlExpired);
    }
    Ok(outer)
}

/// Replaces an address of a quoted header, and follows with a sum over it.
///
/// # Safety
/// The quoted header lies within the frame.
#[inline(always)]
unsafe fn quoted_address<F: Translate>(
    quote: &Frame,
    at: usize,
    (was, address): (Address, Address),
    sum: Sum,
) -> Sum {
    let sum = sum.minus_address(was).plus_address(address);
    // SAFETY: as the caller checked.
    unsafe {
        if F::HEADER != IPV4_MIN {
            F::replace_address(quote, at, was, address);
            return sum;
        }
        let before: u16 = quote.read(HEADER_CHECKSUM);
        F::replace_address(quote, at, was, address);
        sum.minus(before as u32)
            .plus(quote.read::<u16>(HEADER_CHECKSUM) as u32)
    }
}

/// What changes in a quoted packet.
struct Changes {
    protocol: u8,
    was: Address,
    address: Address,
    port_be: u16,
    port_at: usize,
}

impl Changes {
    /// Changes a port and the checksum of what is carried, of which `quoted` octets are there; follows
    /// with a sum over it.
    #[inline(always)]
    fn ports(&self, carried: &Frame, quoted: usize, sum: Sum) -> Result<Sum, Reason> {
        if !carried.holds(ETHERNET, 8) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked above, and for a segment's checksum below.
        unsafe {
            let was: u16 = carried.read(self.port_at);
            let port = if self.port_be == 0 { was } else { self.port_be };
            carried.write(self.port_at, port);
            let sum = sum.minus(was as u32).plus(port as u32);
            // Of segments mostly no more than eight octets are quoted, and the checksum is not in them.
            let is_tcp = self.protocol == TCP;
            if is_tcp && (quoted < 18 || !carried.holds(ETHERNET, 18)) {
                return Ok(sum);
            }
            let follow = |old: u16| {
                let sum = Sum::under(old)
                    .minus_address(self.was)
                    .plus_address(self.address);
                sum.minus(was as u32).plus(port as u32)
            };
            if is_tcp {
                let old: u16 = carried.read(ETHERNET + 16);
                let new = follow(old).checksum();
                carried.write(ETHERNET + 16, new);
                return Ok(sum.minus(old as u32).plus(new as u32));
            }
            let old: u16 = carried.read(ETHERNET + 6);
            if old == 0 {
                return Ok(sum);
            }
            let new = follow(old).checksum_udp();
            carried.write(ETHERNET + 6, new);
            Ok(sum.minus(old as u32).plus(new as u32))
        }
    }
}
