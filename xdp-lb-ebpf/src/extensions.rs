//! The extension headers of IPv6 (RFC 8200): options, routes that are over, a fragment's. Stepping over them
//! is a function of its own: each number of headers is a way on of its own for the verifier.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::{TCP, UDP};
use xdp_lb_common::reason::Reason;

use crate::packet::Frame;
use crate::parse::{ETHERNET, IPV6_LEN};

/// Extension headers that are stepped over: hop-by-hop, routing and destination options twice, as RFC
/// 8200 has them.
const MAX_EXTENSIONS: u32 = 4;
/// The fragment offset in the header of fragments.
pub const OFFSET_BE: u16 = 0xfff8_u16.to_be();

// Hop-by-hop options, a routing header, a fragment, destination options.
const OPTIONS: u8 = 0;
const ROUTING: u8 = 43;
/// Number of the header of fragments.
pub const FRAGMENT: u8 = 44;
/// Its length.
pub const FRAGMENT_LEN: usize = 8;
const DESTINATION: u8 = 60;

/// What stands behind extension headers: 1, whether the last of them is a fragment's that is not the first
/// one, whether it is a fragment's, protocol (8 bits), their octets (16).
#[derive(Clone, Copy)]
pub struct Behind(u64);

impl Behind {
    const SET: u64 = 1 << 63;
    const IS_FRAGMENT: u64 = 1 << 24;
    const IS_LATER: u64 = 1 << 25;

    /// What stands there: an extension header only if it is that of a second fragment.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Octets of all extension headers, which may be more than there are.
    #[inline(always)]
    pub fn passed(self) -> usize {
        self.0 as usize & 0xffff
    }

    /// Whether the last header is a fragment's, of [`FRAGMENT_LEN`] octets that are there.
    #[inline(always)]
    pub fn is_fragment(self) -> bool {
        self.0 & Self::IS_FRAGMENT != 0
    }

    /// Whether it is a fragment's that is not the first one.
    #[inline(always)]
    pub fn is_later(self) -> bool {
        self.0 & Self::IS_LATER != 0
    }
}

/// What stands behind the extension headers of a frame.
#[inline(always)]
pub fn of(frame: &Frame, payload: usize) -> Result<Behind, Reason> {
    at(frame, 0, payload)
}

/// The same of a packet whose header stands `base` octets behind that of the frame; `payload` octets are
/// there behind it.
#[inline(always)]
pub fn at(frame: &Frame, base: usize, payload: usize) -> Result<Behind, Reason> {
    let word = behind(frame.context(), base as u32, payload as u32);
    if word & Behind::SET != 0 {
        Ok(Behind(word))
    } else if word == Reason::Ipv6 as u64 {
        Err(Reason::Ipv6)
    } else {
        Err(Reason::Truncated)
    }
}

/// See [`at`]: a [`Behind`], or the number of a reason.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn behind(ctx: *mut xdp_md, base: u32, payload: u32) -> u64 {
    match step_over(&Frame::new(ctx), base, payload) {
        Ok(Behind(word)) => word,
        Err(reason) => reason as u64,
    }
}

#[inline(always)]
fn step_over(frame: &Frame, base: u32, payload: u32) -> Result<Behind, Reason> {
    const AT: usize = ETHERNET + IPV6_LEN;
    let header = frame.from(base as usize & 0x3fff);
    if !header.holds(0, AT) {
        return Err(Reason::Truncated);
    }
    // SAFETY: checked just now.
    let mut next: u8 = unsafe { header.read(ETHERNET + 6) };
    let mut passed = 0;
    let mut step = 0;
    while is_stepped_over(next) {
        let rest = frame.from(base.wrapping_add(passed) as usize & 0x3fff);
        if step == MAX_EXTENSIONS {
            return Err(Reason::Ipv6);
        }
        if passed + 8 > payload || !rest.holds(AT, 8) {
            return Err(Reason::Truncated);
        }
        // SAFETY: within the first eight octets of the header.
        let (after, length, segments_left) = unsafe {
            (
                rest.read::<u8>(AT),
                rest.read::<u8>(AT + 1),
                rest.read::<u8>(AT + 3),
            )
        };
        if next == ROUTING && segments_left != 0 {
            return Err(Reason::Ipv6);
        }
        passed += (length as u32 + 1) * 8;
        next = after;
        step += 1;
    }
    let mut word = Behind::SET;
    if next == FRAGMENT {
        let rest = frame.from(base.wrapping_add(passed) as usize & 0x3fff);
        if passed + FRAGMENT_LEN as u32 > payload || !rest.holds(AT, FRAGMENT_LEN) {
            return Err(Reason::Truncated);
        }
        // SAFETY: checked just now.
        let (after, offset_be) = unsafe { (rest.read::<u8>(AT), rest.read::<u16>(AT + 2)) };
        next = after;
        passed += FRAGMENT_LEN as u32;
        word |= Behind::IS_FRAGMENT;
        if offset_be & OFFSET_BE != 0 {
            word |= Behind::IS_LATER;
        }
    }
    Ok(Behind(word | (next as u64) << 16 | passed as u64))
}

#[inline(always)]
fn is_stepped_over(header: u8) -> bool {
    header == OPTIONS || header == ROUTING || header == DESTINATION
}

/// Octets from the IPv6 header to the transport's of a frame that was parsed; none of a later fragment.
#[inline(always)]
pub fn transport(frame: &Frame) -> Option<usize> {
    transport_at(frame, 0)
}

/// The same of a packet whose header stands `base` octets behind that of the frame which came in; `frame`
/// begins so far behind that one.
#[inline(always)]
pub fn transport_at(frame: &Frame, base: usize) -> Option<usize> {
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return None;
    }
    // SAFETY: within the two headers.
    let payload = u16::from_be(unsafe { frame.read(ETHERNET + 4) }) as usize;
    let behind = at(frame, base, payload).ok()?;
    let is_there = behind.protocol() == TCP || behind.protocol() == UDP;
    if is_there && !behind.is_later() && behind.passed() <= payload {
        Some(IPV6_LEN + behind.passed())
    } else {
        None
    }
}

/// Whether a frame that was parsed is no fragment.
#[inline(always)]
pub fn is_whole(frame: &Frame) -> bool {
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return false;
    }
    // SAFETY: within the two headers.
    let payload = u16::from_be(unsafe { frame.read(ETHERNET + 4) }) as usize;
    of(frame, payload).is_ok_and(|behind| !behind.is_fragment())
}
