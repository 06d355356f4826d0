//! Sums over packets, for checksums.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::{TCP, UDP};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::method::UDP_LEN;

use crate::packet::Frame;
use crate::parse::{ETHERNET, FRAGMENT_BE, IPV4_MIN, IPV6_LEN};

/// Octets that are summed at once.
const CHUNK: usize = 128;
/// The longest packet that is summed, in chunks: a jumbo frame.
const MAX_CHUNKS: u32 = 72;
/// No sum.
pub const NONE: u64 = u64::MAX;

/// The sum over a packet of `len` octets; [`NONE`] if that cannot be. Global, so that the verifier
/// checks it once.
///
/// A transport checksum makes all that it covers come to its pseudo header's complement, so that
/// nothing but headers has to be read. Without one the whole packet is summed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn inner_sum(ctx: *mut xdp_md, len: u32) -> u64 {
    match by_headers(&Frame::new(ctx), len) {
        Some(sum) => sum.0,
        None => sum_all(ctx, len),
    }
}

#[inline(always)]
fn by_headers(frame: &Frame, len: u32) -> Option<Sum> {
    if !frame.holds(0, ETHERNET + IPV4_MIN) {
        return None;
    }
    // SAFETY: within the two headers, as are the reads of the first branch.
    let ethertype: u16 = unsafe { frame.read(12) };
    if ethertype == 0x0800_u16.to_be() {
        // SAFETY: as above.
        let (version_ihl, fragment, protocol, from, to) = unsafe {
            (
                frame.read::<u8>(ETHERNET),
                frame.read::<u16>(ETHERNET + 6),
                frame.read::<u8>(ETHERNET + 9),
                frame.read::<u32>(ETHERNET + 12),
                frame.read::<u32>(ETHERNET + 16),
            )
        };
        let header = (version_ihl as u32 & 0xf) * 4;
        let rest = frame.from(header as usize & 0x3c);
        if fragment & FRAGMENT_BE != 0 || !has_checksum(&rest, protocol) {
            return None;
        }
        // The header itself comes to nothing, by its own checksum.
        let sum = Sum::default().minus(from).minus(to);
        return Some(sum.minus(pseudo(len.wrapping_sub(header), protocol)));
    }
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return None;
    }
    // SAFETY: within the two headers.
    let (first, second, protocol) = unsafe {
        (
            frame.read::<u32>(ETHERNET),
            frame.read::<u32>(ETHERNET + 4),
            frame.read::<u8>(ETHERNET + 6),
        )
    };
    if !has_checksum(&frame.from(IPV6_LEN), protocol) {
        return None;
    }
    // Both addresses are in the header and, taken away, in the pseudo header.
    let sum = Sum::default().plus(first).plus(second);
    Some(sum.minus(pseudo(len.wrapping_sub(IPV6_LEN as u32), protocol)))
}

/// Length and protocol of a pseudo header, as they stand in its words.
#[inline(always)]
fn pseudo(len: u32, protocol: u8) -> u32 {
    (len as u16).to_be() as u32 | ((protocol as u16).to_be() as u32) << 16
}

/// Whether a transport header has a checksum; `frame` begins so that it stands behind Ethernet's.
#[inline(always)]
fn has_checksum(frame: &Frame, protocol: u8) -> bool {
    // SAFETY: within what `holds` vouched for.
    let none = |frame: &Frame| unsafe { frame.read::<u16>(ETHERNET + 6) } == 0;
    match protocol {
        TCP => true,
        UDP => frame.holds(ETHERNET, UDP_LEN as usize) && !none(frame),
        _ => false,
    }
}

/// The sum over `len` octets behind Ethernet's; [`NONE`] if they are not there. Global as
/// [`inner_sum`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sum_all(ctx: *mut xdp_md, len: u32) -> u64 {
    let (mut at, mut left, mut sum) = (0, len, Sum::default());
    let mut chunk = 0;
    while chunk < MAX_CHUNKS {
        if left < CHUNK as u32 {
            return sum_words(ctx, at, left, sum.0);
        }
        let rest = Frame::new(ctx).from(at as usize & 0x3fff);
        if !rest.holds(ETHERNET, CHUNK) {
            return NONE;
        }
        // SAFETY: checked just now.
        sum = sum.plus(unsafe { rest.sum::<CHUNK>(ETHERNET) });
        at += CHUNK as u32;
        left -= CHUNK as u32;
        chunk += 1;
    }
    NONE
}

/// Goes on with fewer than [`CHUNK`] octets. Global as [`inner_sum`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sum_words(ctx: *mut xdp_md, at: u32, len: u32, sum: u64) -> u64 {
    let frame = Frame::new(ctx);
    let (mut at, mut left, mut sum) = (at, len, Sum(sum));
    let mut word = 0;
    while word < CHUNK as u32 / 4 {
        if left < 4 {
            break;
        }
        let rest = frame.from(at as usize & 0x3fff);
        if !rest.holds(ETHERNET, 4) {
            return NONE;
        }
        // SAFETY: checked just now.
        sum = sum.plus(unsafe { rest.read(ETHERNET) });
        at += 4;
        left -= 4;
        word += 1;
    }
    sum_end(ctx, at, left, sum.0)
}

/// Goes on with fewer than four octets. Global as [`inner_sum`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sum_end(ctx: *mut xdp_md, at: u32, len: u32, sum: u64) -> u64 {
    let mut rest = Frame::new(ctx).from(at as usize & 0x3fff);
    let mut sum = Sum(sum);
    if len & 2 != 0 {
        if !rest.holds(ETHERNET, 2) {
            return NONE;
        }
        // SAFETY: checked just now.
        sum = sum.plus(unsafe { rest.read::<u16>(ETHERNET) }.into());
        rest = rest.from(2);
    }
    if len & 1 != 0 {
        if !rest.holds(ETHERNET, 1) {
            return NONE;
        }
        // The octet that it lacks is 0, and stands behind it.
        // SAFETY: checked just now.
        sum = sum.plus(u16::from_le_bytes([unsafe { rest.read(ETHERNET) }, 0]).into());
    }
    sum.0
}
