//! Which connection an error is about, and whether it is to be believed.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::{Address, ICMP_V6, Mac};
use xdp_lb_common::backend::{BACKEND_TUNNEL, Backend};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo, FlowV4, FlowV6};
use xdp_lb_common::method::{GUE_LEN, Kind, Method, UDP_LEN};
use xdp_lb_common::reason::Reason;

use super::Carried;
use super::see::{Seen, tunnel};
use crate::conn::{Via, backend_of, identity};
use crate::fragment::GO_ON;
use crate::maps::{BACKENDS, CONN_INFO};
use crate::packet::Frame;
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN, address};
use crate::{count, lookup, service, settings, sums};

/// In a word that names an entry: there is one. Below it stands its index; without it an action, or [`GO_ON`].
pub(super) const FOUND: u64 = 1 << 63;

/// The entry of the connection that the error in a context is about, see [`FOUND`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_find(ctx: *mut xdp_md, seen: u64) -> u64 {
    entry::<FlowV4>(ctx, Seen(seen))
}

/// [`tunnel_error_find`] if the tunnel carries IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_find_v6(ctx: *mut xdp_md, seen: u64) -> u64 {
    entry::<FlowV6>(ctx, Seen(seen))
}

#[inline(always)]
fn entry<F: Carried>(ctx: *mut xdp_md, seen: Seen) -> u64 {
    match find::<F>(&Frame::new(ctx), seen) {
        Ok(index) if is_sound(ctx, seen) => FOUND | index as u64,
        Err(why @ (Reason::OtherHost | Reason::NotActive | Reason::LeaseOver)) => {
            count::and_act(Err(why)) as u64
        }
        _ => GO_ON as u64,
    }
}

/// The entry's index, if the connection is there, with the real server of that tunnel, and ours.
#[inline(always)]
fn find<F: Carried>(frame: &Frame, seen: Seen) -> Result<u32, Reason> {
    let asked = F::quoted(frame, seen)?;
    let now = settings::now();
    let hash = asked.keyed_hash();
    let found = lookup::find(hash, now.short());
    if !found.exists() {
        return Err(Reason::IcmpUnknown);
    }
    let route = backend_of(found.state, Via::Connection).ok_or(Reason::IcmpUnknown)?;
    let index = lookup::index(hash, &found);
    let info = info(index)?;
    let backend = BACKENDS
        .get_ptr(route.backend())
        .ok_or(Reason::IcmpUnknown)?;
    if !is_of(info, &asked) || !is_through(frame, seen, backend) {
        return Err(Reason::IcmpUnknown);
    }
    let service = service::at(info.service).ok_or(Reason::IcmpUnknown)?;
    service::open(&service, service::control()?, now)?;
    if !frame.holds(0, ETHERNET) {
        return Err(Reason::IcmpUnknown);
    }
    // SAFETY: checked just now.
    let destination = unsafe { frame.read::<u64>(0) } & Mac::MASK;
    if destination != service::mac_of(frame.ifindex()) {
        return Err(Reason::OtherHost);
    }
    Ok(index)
}

#[inline(always)]
pub(super) fn info(index: u32) -> Result<&'static FlowInfo, Reason> {
    let info = CONN_INFO.get_ptr(index).ok_or(Reason::IcmpUnknown)?;
    // SAFETY: a map value; other CPUs write it, but nothing else as long as it is this connection's.
    Ok(unsafe { &*info })
}

/// Whether an entry describes this connection: its way may have been another one's a moment ago.
#[inline(always)]
fn is_of<F: Carried>(info: &FlowInfo, asked: &F) -> bool {
    info.flags & FLOW_OF_REPLIES == 0
        && info.family == F::NUMBER
        && info.protocol == asked.protocol()
        && (info.client_port_be, info.vip_port_be) == asked.ports_be()
        && service::is_same(info.client, asked.client())
        && service::is_same(info.vip, asked.vip())
}

/// Whether the packet that is quoted went to this backend, as this director sends packets there.
#[inline(always)]
fn is_through(frame: &Frame, seen: Seen, backend: *const Backend) -> bool {
    // SAFETY: a map value; userspace changes the word whole while packets read.
    let method = Method(unsafe { (&raw const (*backend).method).read_volatile() });
    // GUE's checksum is UDP's, which is there or not.
    let has_checksum = method.has_checksum() && method.kind() == Kind::Gre;
    if identity(backend).flags() & BACKEND_TUNNEL == 0
        || method.is_v6() != seen.outer_v6()
        || tunnel(method.kind(), has_checksum) != seen.tunnel()
    {
        return false;
    }
    // SAFETY: as above.
    let (source, destination) = unsafe { ((*backend).source, (*backend).address) };
    let quote = frame.from(seen.outer_at());
    let Some(ends) = ends(&quote, seen.outer_v6()) else {
        return false;
    };
    if !service::is_same(ends.0, source) || !service::is_same(ends.1, destination) {
        return false;
    }
    method.kind() != Kind::Gue || port_be(frame, seen) == Some(method.port_be())
}

/// Source and destination of a header behind Ethernet's.
#[inline(always)]
fn ends(header: &Frame, is_v6: bool) -> Option<(Address, Address)> {
    if is_v6 {
        if !header.holds(ETHERNET, IPV6_LEN) {
            return None;
        }
        // SAFETY: checked just now.
        return Some(unsafe {
            (
                address(header, ETHERNET + 8),
                address(header, ETHERNET + 24),
            )
        });
    }
    if !header.holds(ETHERNET, IPV4_MIN) {
        return None;
    }
    // SAFETY: checked just now.
    let (source, destination) = unsafe { (header.read(ETHERNET + 12), header.read(ETHERNET + 16)) };
    Some((Address::v4(source), Address::v4(destination)))
}

/// The port that a datagram with GUE in it went to.
#[inline(always)]
fn port_be(frame: &Frame, seen: Seen) -> Option<u16> {
    let between = (UDP_LEN + GUE_LEN) as usize;
    let header = frame.from(seen.inner_at().wrapping_sub(between) & 0xff);
    if !header.holds(ETHERNET, UDP_LEN as usize) {
        return None;
    }
    // SAFETY: checked just now.
    Some(unsafe { header.read(ETHERNET + 2) })
}

/// Whether the checksums of an error are right: nobody else looks at them, as the client is told by another.
#[inline(always)]
fn is_sound(ctx: *mut xdp_md, seen: Seen) -> bool {
    let frame = Frame::new(ctx);
    if !seen.outer_v6() {
        let Some(len) = FlowV4::len(&frame) else {
            return false;
        };
        // IP's header comes to nothing by its own checksum.
        let sum = sums::sum_all(ctx, len);
        return sum != sums::NONE && Sum(sum).folded() == 0xffff;
    }
    if !frame.holds(ETHERNET, IPV6_LEN) {
        return false;
    }
    // SAFETY: checked just now.
    let (first, second) = unsafe { (frame.read::<u32>(ETHERNET), frame.read::<u32>(ETHERNET + 4)) };
    let len = IPV6_LEN as u32 + u16::from_be(second as u16) as u32;
    let sum = sums::sum_all(ctx, len);
    // Of the header, addresses and length are the pseudo header's, too.
    let sum_of_both = Sum(sum).minus(first).minus(second & 0xffff_0000);
    let sum_of_both = sum_of_both.plus((ICMP_V6 as u16).to_be() as u32);
    sum != sums::NONE && sum_of_both.folded() == 0xffff
}
