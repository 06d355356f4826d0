//! Tunnels: the packet goes to the real server behind another IP header, with UDP and GUE or with GRE
//! between the two if its server wants that. All as IPVS does: the outer header has the hops left, the
//! type of service and the "don't fragment" of the inner one.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_check_mtu, bpf_get_prandom_u32, bpf_xdp_adjust_head};
use xdp_lb_common::addr::{Address, Mac, UDP};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::method::{GUE_LEN, Kind, UDP_LEN, protocol};
use xdp_lb_common::reason::Reason;

use crate::decided::{self, Noted, noted};
use crate::family::Family;
use crate::packet::Frame;
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN};
use crate::{forward, sums};

/// "Don't fragment".
const DONT_FRAGMENT_BE: u16 = 0x4000_u16.to_be();

/// What the outer header takes of the inner one.
#[derive(Clone, Copy)]
struct Inner {
    /// IP protocol number that says what follows: one of [`protocol`].
    protocol: u8,
    /// Octets of the whole packet.
    len: u32,
    /// Hops that are left.
    ttl: u8,
    /// Type of service, or traffic class.
    tos: u8,
    /// The flag of IPv4 in its place, else 0.
    dont_fragment_be: u16,
}

/// Sends the packet of a context as it was noted.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> Result<(Reason, u32), Reason> {
    let noted = noted()?;
    let inner = look(&Frame::new(ctx))?;
    let grows = noted.method.outer_len() + noted.method.middle_len();
    // SAFETY: a map value; userspace may move the server to another interface meanwhile, see
    // `forward::send`.
    let ifindex = unsafe { (*noted.backend).ifindex };
    fits(ctx, ifindex, (inner.len, grows))?;
    spend(&Frame::new(ctx), &inner)?;
    let covered = covered(ctx, &noted, &inner)?;
    // SAFETY: the kernel checks the room; all pointers into the frame are made anew below.
    if unsafe { bpf_xdp_adjust_head(ctx, -(grows as i32)) } != 0 {
        return Err(Reason::NoHeadroom);
    }
    let frame = Frame::new(ctx);
    if noted.method.is_v6() {
        outer_v6(&frame, &noted, &inner)?;
        middle(&frame.from(IPV6_LEN), &noted, &inner, covered)?;
    } else {
        outer_v4(&frame, &noted, &inner)?;
        middle(&frame.from(IPV4_MIN), &noted, &inner, covered)?;
    }
    forward::out_noted(&frame, ifindex, &noted)
}

/// Says what the inner packet is.
#[inline(always)]
fn look(frame: &Frame) -> Result<Inner, Reason> {
    if !frame.holds(0, ETHERNET + IPV4_MIN) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: within the two headers, as are all reads below.
    let ethertype: u16 = unsafe { frame.read(12) };
    if ethertype == 0x0800_u16.to_be() {
        // SAFETY: as above.
        let (tos, len, fragment, ttl) = unsafe {
            (
                frame.read::<u8>(ETHERNET + 1),
                u16::from_be(frame.read(ETHERNET + 2)),
                frame.read::<u16>(ETHERNET + 6),
                frame.read::<u8>(ETHERNET + 8),
            )
        };
        let ttl = left(ttl)?;
        return Ok(Inner {
            protocol: protocol::IPV4,
            len: len.into(),
            ttl,
            tos,
            dont_fragment_be: fragment & DONT_FRAGMENT_BE,
        });
    }
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: within the two headers.
    let (class, payload, ttl) = unsafe {
        (
            u16::from_be(frame.read(ETHERNET)),
            u16::from_be(frame.read(ETHERNET + 4)),
            frame.read::<u8>(ETHERNET + 7),
        )
    };
    let ttl = left(ttl)?;
    Ok(Inner {
        protocol: protocol::IPV6,
        len: payload as u32 + IPV6_LEN as u32,
        ttl,
        tos: (class >> 4) as u8,
        dont_fragment_be: 0,
    })
}

/// Spends a hop of the inner packet.
#[inline(always)]
fn spend(frame: &Frame, inner: &Inner) -> Result<(), Reason> {
    if inner.protocol == protocol::IPV4 {
        if !frame.holds(0, ETHERNET + IPV4_MIN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe { FlowV4::lower_hops(frame, inner.ttl) };
        return Ok(());
    }
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: checked just now.
    unsafe { FlowV6::lower_hops(frame, inner.ttl) };
    Ok(())
}

#[inline(always)]
fn left(ttl: u8) -> Result<u8, Reason> {
    match ttl {
        0 | 1 => Err(Reason::TtlExpired),
        more => Ok(more - 1),
    }
}

/// Whether a packet of `len` octets fits the interface that it leaves by when it has grown.
#[inline(always)]
fn fits(ctx: *mut xdp_md, ifindex: u32, (len, grows): (u32, u32)) -> Result<(), Reason> {
    // The helper takes the length of the packet here, and leaves the MTU: a frame in several buffers has
    // its whole length nowhere else.
    let mut mtu = len;
    // SAFETY: `mtu` outlives the call. Neither the frame nor pointers into it are changed.
    match unsafe { bpf_check_mtu(ctx.cast(), ifindex, &raw mut mtu, grows as i32, 0) } {
        0 => Ok(()),
        // The interface went just now.
        failed if failed < 0 => Err(Reason::RedirectFailed),
        _ => {
            decided::note_mtu((mtu.saturating_sub(grows)) as u16);
            Err(Reason::TooBig)
        }
    }
}

/// The sum over the inner packet, if the header between wants one.
#[inline(always)]
fn covered(ctx: *mut xdp_md, noted: &Noted, inner: &Inner) -> Result<Sum, Reason> {
    if !noted.method.has_checksum() {
        return Ok(Sum::default());
    }
    match sums::inner_sum(ctx, inner.len) {
        sums::NONE => Err(Reason::Inconsistent),
        sum => Ok(Sum(sum)),
    }
}

/// Writes Ethernet's header and an outer one of IPv4.
#[inline(always)]
fn outer_v4(frame: &Frame, noted: &Noted, inner: &Inner) -> Result<(), Reason> {
    if !frame.holds(0, ETHERNET + IPV4_MIN) {
        return Err(Reason::Inconsistent);
    }
    let (source, destination) = (noted.source().words_be[0], noted.address().words_be[0]);
    let len = IPV4_MIN as u32 + noted.method.middle_len() + inner.len;
    // One that routers may not fragment needs no name; others get one by chance, as any two on their
    // way at once must differ.
    let id = if inner.dont_fragment_be != 0 {
        0
    } else {
        // SAFETY: the helper takes no argument and changes nothing but its own state.
        unsafe { bpf_get_prandom_u32() as u16 }
    };
    let words = [
        0x45 | (inner.tos as u32) << 8 | ((len as u16).to_be() as u32) << 16,
        id as u32 | (inner.dont_fragment_be as u32) << 16,
        inner.ttl as u32 | (carries(noted, inner) as u32) << 8,
        source,
        destination,
    ];
    let sum = words
        .iter()
        .fold(Sum::default(), |sum, word| sum.plus(*word));
    // SAFETY: within the two headers, checked above.
    unsafe {
        ethernet(frame, noted, 0x0800_u16.to_be());
        frame.write(ETHERNET, words[0]);
        frame.write(ETHERNET + 4, words[1]);
        frame.write(ETHERNET + 8, words[2] | (sum.checksum() as u32) << 16);
        frame.write(ETHERNET + 12, source);
        frame.write(ETHERNET + 16, destination);
    }
    Ok(())
}

/// Writes Ethernet's header and an outer one of IPv6.
#[inline(always)]
fn outer_v6(frame: &Frame, noted: &Noted, inner: &Inner) -> Result<(), Reason> {
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return Err(Reason::Inconsistent);
    }
    let (source, destination) = (noted.source(), noted.address());
    let first = (6 << 28 | (inner.tos as u32) << 20).to_be();
    let len = noted.method.middle_len() + inner.len;
    let second = (len as u16).to_be() as u32
        | (carries(noted, inner) as u32) << 16
        | (inner.ttl as u32) << 24;
    // SAFETY: within the two headers, checked above.
    unsafe {
        ethernet(frame, noted, 0x86dd_u16.to_be());
        frame.write(ETHERNET, first);
        frame.write(ETHERNET + 4, second);
        for word in 0..4 {
            frame.write(ETHERNET + 8 + word * 4, source.words_be[word]);
            frame.write(ETHERNET + 24 + word * 4, destination.words_be[word]);
        }
    }
    Ok(())
}

/// # Safety
/// As [`Frame::write`], for 14 octets.
#[inline(always)]
unsafe fn ethernet(frame: &Frame, noted: &Noted, ethertype: u16) {
    // SAFETY: as the caller checked.
    unsafe {
        forward::write_macs(frame, noted.identity.mac(), noted.source_mac());
        frame.write(12, ethertype);
    }
}

/// What the outer header says follows it.
#[inline(always)]
fn carries(noted: &Noted, inner: &Inner) -> u8 {
    match noted.method.kind() {
        Kind::Gue => UDP,
        Kind::Gre => protocol::GRE,
        Kind::Direct | Kind::Ipip | Kind::Nat => inner.protocol,
    }
}

/// Writes what stands between the two IP headers; `frame` begins so that it stands behind Ethernet's.
#[inline(always)]
fn middle(frame: &Frame, noted: &Noted, inner: &Inner, covered: Sum) -> Result<(), Reason> {
    match noted.method.kind() {
        Kind::Gue => gue(frame, noted, inner, covered),
        Kind::Gre => gre(frame, noted, inner, covered),
        Kind::Direct | Kind::Ipip | Kind::Nat => Ok(()),
    }
}

#[inline(always)]
fn gue(frame: &Frame, noted: &Noted, inner: &Inner, covered: Sum) -> Result<(), Reason> {
    if !frame.holds(ETHERNET, (UDP_LEN + GUE_LEN) as usize) {
        return Err(Reason::Inconsistent);
    }
    let ports = noted.source_port_be as u32 | (noted.method.port_be() as u32) << 16;
    let len = ((UDP_LEN + GUE_LEN + inner.len) as u16).to_be() as u32;
    // Version 0, data and not control, no options, no flags.
    let header = (inner.protocol as u32) << 8;
    let checksum = if noted.method.has_checksum() {
        let pseudo = covered
            .plus_address(noted.source())
            .plus_address(noted.address())
            .plus(len | ((UDP as u16).to_be() as u32) << 16);
        pseudo.plus(ports).plus(len).plus(header).checksum_udp()
    } else {
        0
    };
    // SAFETY: checked above.
    unsafe {
        frame.write(ETHERNET, ports);
        frame.write(ETHERNET + 4, len | (checksum as u32) << 16);
        frame.write(ETHERNET + 8, header);
    }
    Ok(())
}

#[inline(always)]
fn gre(frame: &Frame, noted: &Noted, inner: &Inner, covered: Sum) -> Result<(), Reason> {
    let ethertype = if inner.protocol == protocol::IPV4 {
        0x0800_u16
    } else {
        0x86dd
    };
    let ethertype = (ethertype.to_be() as u32) << 16;
    if !noted.method.has_checksum() {
        if !frame.holds(ETHERNET, 4) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe { frame.write(ETHERNET, ethertype) };
        return Ok(());
    }
    if !frame.holds(ETHERNET, 8) {
        return Err(Reason::Inconsistent);
    }
    let header = ethertype | 0x8000_u16.to_be() as u32;
    let checksum = covered.plus(header).checksum();
    // SAFETY: checked just now.
    unsafe {
        frame.write(ETHERNET, header);
        frame.write(ETHERNET + 4, checksum as u32);
    }
    Ok(())
}

impl Noted {
    /// Where an outer header comes from.
    #[inline(always)]
    fn source(&self) -> Address {
        // SAFETY: a map value.
        unsafe { (*self.backend).source }
    }

    /// Address of the real server.
    #[inline(always)]
    pub fn address(&self) -> Address {
        // SAFETY: a map value.
        unsafe { (*self.backend).address }
    }

    /// Source MAC of frames to it.
    #[inline(always)]
    pub fn source_mac(&self) -> Mac {
        // SAFETY: a map value; userspace changes the word whole while packets read.
        Mac(unsafe { (&raw const (*self.backend).source_mac).read_volatile() })
    }
}
