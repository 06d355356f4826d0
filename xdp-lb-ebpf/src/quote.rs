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
use crate::packet::Frame;
use crate::parse::{self, ETHERNET, IPV4_MIN, IPV6_LEN};
use crate::translate::{Side, Translate};
use crate::{count, extensions, nat};

/// Length of the header of all errors.
const ICMP_LEN: usize = 8;
/// Where the checksum of an error stands, if Ethernet's header lies before ICMP's.
const CHECKSUM: usize = ETHERNET + 2;
/// Where the checksum of an IPv4 header stands.
const HEADER_CHECKSUM: usize = ETHERNET + 10;
/// What is quoted at least behind an IP header; and what it takes to have the checksum of a TCP header.
const QUOTED: usize = 8;
const WITH_CHECKSUM: usize = 18;

/// Sends the error of a context to the real server that was noted; the action.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> u32 {
    if parse::is_v4(&Frame::new(ctx)) {
        nat_error(ctx)
    } else {
        nat_error_v6(ctx)
    }
}

/// [`send`] of IPv4.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nat_error(ctx: *mut xdp_md) -> u32 {
    count::and_act(to_server::<FlowV4>(&Frame::new(ctx)))
}

/// [`send`] of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nat_error_v6(ctx: *mut xdp_md) -> u32 {
    count::and_act(to_server::<FlowV6>(&Frame::new(ctx)))
}

#[inline(always)]
fn to_server<F: Translate>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let noted = noted()?;
    let server = (noted.address(), noted.method.port_be());
    translate::<F>(frame, Side::Destination, noted.special as u8, server)?;
    nat::to_hop(frame, &noted)
}

/// Replaces an address of an error, the same one on the other side of the packet that it quotes, and
/// there the port beside it if the new one is not 0; spends a hop. `protocol` is the quoted packet's. The
/// error was looked at by [`crate::icmp`].
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
    let quote = frame.from((outer.header + ICMP_LEN) & 0x3fff);
    if !message.holds(ETHERNET, ICMP_LEN) || !quote.holds(ETHERNET, F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    let before = outer.header + ICMP_LEN;
    let inner = F::transport(&quote, before).ok_or(Reason::IcmpUnknown)?;
    let before = before + inner;
    let carried = frame.from(before & 0x3fff);
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
        quoted: outer.len.saturating_sub(before),
    };
    let sum = changes.transport(&carried, sum)?;
    // SAFETY: as above.
    let sum = unsafe { quoted_address::<F>(&quote, inner_at, (was, address), sum) };
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: checked just now; the ICMP header above.
    unsafe {
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
    // SAFETY: within the headers, as are all reads below.
    let hops: u8 = unsafe { frame.read(F::HOPS) };
    if hops <= 1 {
        return Err(Reason::TtlExpired);
    }
    if F::HEADER == IPV4_MIN {
        // SAFETY: as above.
        let (version_ihl, len_be) =
            unsafe { (frame.read::<u8>(ETHERNET), frame.read::<u16>(ETHERNET + 2)) };
        return Ok(Outer {
            header: (version_ihl as usize & 0xf) * 4,
            len: u16::from_be(len_be) as usize,
            hops,
        });
    }
    // SAFETY: as above.
    let payload = u16::from_be(unsafe { frame.read(ETHERNET + 4) }) as usize;
    Ok(Outer {
        header: IPV6_LEN + extensions::of(frame, payload)?.passed(),
        len: IPV6_LEN + payload,
        hops,
    })
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
    if F::HEADER != IPV4_MIN {
        // SAFETY: as the caller checked.
        unsafe { F::replace_address(quote, at, was, address) };
        return sum;
    }
    // SAFETY: as above.
    unsafe {
        let before: u16 = quote.read(HEADER_CHECKSUM);
        F::replace_address(quote, at, was, address);
        let after: u16 = quote.read(HEADER_CHECKSUM);
        sum.minus(before as u32).plus(after as u32)
    }
}

/// What changes in a quoted packet.
struct Changes {
    protocol: u8,
    was: Address,
    address: Address,
    port_be: u16,
    port_at: usize,
    /// Octets that are quoted behind the IP header.
    quoted: usize,
}

impl Changes {
    /// Changes a port, and the checksum beside it if that is quoted; follows with a sum over both. Of
    /// segments mostly no more than eight octets are there, and the checksum is not in them.
    #[inline(always)]
    fn transport(&self, carried: &Frame, sum: Sum) -> Result<Sum, Reason> {
        if !carried.holds(ETHERNET, QUOTED) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now, as are both ports below.
        let was: u16 = unsafe { carried.read(self.port_at) };
        let port_be = if self.port_be == 0 { was } else { self.port_be };
        // SAFETY: as above.
        unsafe { carried.write(self.port_at, port_be) };
        let sum = sum.minus(was as u32).plus(port_be as u32);
        if self.protocol != TCP {
            // SAFETY: as above.
            let old: u16 = unsafe { carried.read(ETHERNET + 6) };
            if old == 0 {
                return Ok(sum);
            }
            let new = self.follow(old, (was, port_be)).checksum_udp();
            // SAFETY: as above.
            unsafe { carried.write(ETHERNET + 6, new) };
            return Ok(sum.minus(old as u32).plus(new as u32));
        }
        if self.quoted < WITH_CHECKSUM || !carried.holds(ETHERNET, WITH_CHECKSUM) {
            return Ok(sum);
        }
        // SAFETY: checked just now.
        let old: u16 = unsafe { carried.read(ETHERNET + 16) };
        let new = self.follow(old, (was, port_be)).checksum();
        // SAFETY: as above.
        unsafe { carried.write(ETHERNET + 16, new) };
        Ok(sum.minus(old as u32).plus(new as u32))
    }

    /// What a transport checksum covers, after the change.
    #[inline(always)]
    fn follow(&self, old: u16, (was, port_be): (u16, u16)) -> Sum {
        Sum::under(old)
            .minus_address(self.was)
            .plus_address(self.address)
            .minus(was as u32)
            .plus(port_be as u32)
    }
}
