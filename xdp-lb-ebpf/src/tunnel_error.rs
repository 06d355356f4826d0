//! ICMP errors about the packets of tunnels: a router on the way to a real server tells the director, whose
//! address these come from, that one was too long, or did not arrive. Who can do something about it is the
//! client. So it is told, as IPVS does, from the VIP and with what the router quotes of the packet in the
//! tunnel, an MTU less the tunnel's headers; the frame becomes that error, as in [`crate::answer`].
//!
//! A router must have quoted enough to know the connection by, behind the headers of the tunnel; and the table
//! must have that connection, with the real server that the quoted packet was for. Anything else passes.
//! The client is told by the route to it that the kernel has, else by the way that its packets came when the
//! connection was opened.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::{Address, ICMP, ICMP_V6, Mac, UDP};
use xdp_lb_common::answer::TOS;
use xdp_lb_common::backend::{BACKEND_TUNNEL, Backend};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo, FlowV4, FlowV6, WayBack};
use xdp_lb_common::method::{GUE_LEN, Kind, Method, UDP_LEN, protocol};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::{relay, stage};

use crate::answer::{Answer, Error, spend};
use crate::conn::{Via, backend_of, identity};
use crate::fragment::GO_ON;
use crate::icmp::{self, ICMP_LEN};
use crate::maps::{BACKENDS, CONN_INFO, STAGES};
use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN, OFFSET_BE, address};
use crate::translate::Translate;
use crate::{count, decided, forward, lookup, parse, reply, service, settings, sums};

/// What an error quotes, in one word: 1, whether the outer and the inner packet are IPv6 (2 bits), type and
/// code that the client is told (16), octets that are quoted of the inner packet (16), whether the tunnel has
/// a checksum (1), its kind (3), where the quoted headers stand behind Ethernet's: the outer one (8), the
/// inner one (8). Functions that the verifier checks on their own then neither take nor return more.
#[derive(Clone, Copy)]
struct Seen(u64);

impl Seen {
    const SET: u64 = 1 << 63;
    const OUTER_V6: u64 = 1 << 62;
    const INNER_V6: u64 = 1 << 61;

    #[inline(always)]
    fn inner_at(self) -> usize {
        self.0 as usize & 0xff
    }

    #[inline(always)]
    fn outer_at(self) -> usize {
        (self.0 >> 8) as usize & 0xff
    }

    /// Kind of the tunnel, and whether it has a checksum.
    #[inline(always)]
    fn tunnel(self) -> u64 {
        self.0 >> 16 & 0xf
    }

    /// Octets that are quoted from the inner header on.
    #[inline(always)]
    fn quoted(self) -> usize {
        (self.0 >> 20) as usize & 0xffff
    }

    /// What the client is told.
    #[inline(always)]
    fn kind(self) -> u16 {
        (self.0 >> 36) as u16
    }

    #[inline(always)]
    fn outer_v6(self) -> bool {
        self.0 & Self::OUTER_V6 != 0
    }

    #[inline(always)]
    fn inner_v6(self) -> bool {
        self.0 & Self::INNER_V6 != 0
    }
}

/// What of a tunnel stands in a [`Seen`].
#[inline(always)]
const fn tunnel(kind: Kind, has_checksum: bool) -> u64 {
    kind as u64 | (has_checksum as u64) << 3
}

/// Tells the client of the ICMP error of a context, if it is about a tunnel; the action. In functions of
/// their own, so that each chain of calls has the whole stack.
#[inline(always)]
pub fn send(ctx: &XdpContext) -> u32 {
    let seen = if parse::is_v4(&Frame::new(ctx.ctx)) {
        tunnel_error_see(ctx.ctx)
    } else {
        tunnel_error_see_v6(ctx.ctx)
    };
    if seen == 0 {
        return others(ctx);
    }
    let is_v6 = Seen(seen).inner_v6();
    let found = if is_v6 {
        tunnel_error_find_v6(ctx.ctx, seen)
    } else {
        tunnel_error_find(ctx.ctx, seen)
    };
    let action = if found & FOUND == 0 {
        found as u32
    } else if is_v6 {
        tunnel_error_tell_v6(ctx.ctx, seen, found as u32)
    } else {
        tunnel_error_tell(ctx.ctx, seen, found as u32)
    };
    match action {
        GO_ON => others(ctx),
        action => action,
    }
}

/// An error that is about no tunnel: on to the program for those about what real servers got, or out.
#[inline(always)]
fn others(ctx: &XdpContext) -> u32 {
    let why = decided::unless();
    if let Reason::NoService = why
        && service::translates()
    {
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(ctx, stage::REPLY_ERROR.index) };
    }
    count::and_act(Err(why))
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

/// In a word that names an entry: there is one. Below it stands its index; without it an action, or [`GO_ON`].
const FOUND: u64 = 1 << 63;

/// What differs between the families of what a tunnel carries.
trait Carried: Answer + Translate {
    /// Its protocol of errors.
    const ICMP: u8;
    /// The connection of the packet that is quoted: its client and its service.
    fn quoted(frame: &Frame, seen: Seen) -> Result<Self, Reason>;
    /// Octets of the packet whose header stands behind Ethernet's.
    fn len(frame: &Frame) -> Option<u32>;
    /// The connection that an entry describes.
    fn of(info: &FlowInfo) -> Self;
}

impl Carried for FlowV4 {
    const ICMP: u8 = ICMP;

    #[inline(always)]
    fn quoted(frame: &Frame, seen: Seen) -> Result<Self, Reason> {
        let message = frame.from(seen.inner_at().wrapping_sub(ICMP_LEN) & 0xff);
        Ok(icmp::quoted(&message, seen.quoted())?.turned())
    }

    #[inline(always)]
    fn len(frame: &Frame) -> Option<u32> {
        if !frame.holds(ETHERNET, IPV4_MIN) {
            return None;
        }
        // SAFETY: checked just now.
        Some(u16::from_be(unsafe { frame.read(ETHERNET + 2) }).into())
    }

    #[inline(always)]
    fn of(info: &FlowInfo) -> Self {
        reply::connection_v4(info)
    }
}

impl Carried for FlowV6 {
    const ICMP: u8 = ICMP_V6;

    #[inline(always)]
    fn quoted(frame: &Frame, seen: Seen) -> Result<Self, Reason> {
        let quote = frame.from(seen.inner_at());
        Ok(icmp::quoted_v6(&quote, seen.inner_at(), seen.quoted())?.turned())
    }

    #[inline(always)]
    fn len(frame: &Frame) -> Option<u32> {
        if !frame.holds(ETHERNET, IPV6_LEN) {
            return None;
        }
        // SAFETY: checked just now.
        let payload = u16::from_be(unsafe { frame.read(ETHERNET + 4) });
        Some(IPV6_LEN as u32 + payload as u32)
    }

    #[inline(always)]
    fn of(info: &FlowInfo) -> Self {
        reply::connection_v6(info)
    }
}

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
fn info(index: u32) -> Result<&'static FlowInfo, Reason> {
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

/// Tells the client of the error in a context, which is about the connection of an entry: the action, or
/// [`GO_ON`] if there is nothing to be told.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_tell(ctx: *mut xdp_md, seen: u64, index: u32) -> u32 {
    act(tell::<FlowV4>(ctx, Seen(seen), index))
}

/// [`tunnel_error_tell`] if the tunnel carries IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_tell_v6(ctx: *mut xdp_md, seen: u64, index: u32) -> u32 {
    act(tell::<FlowV6>(ctx, Seen(seen), index))
}

#[inline(always)]
fn act(told: Result<(Reason, u32), Reason>) -> u32 {
    match told {
        Err(Reason::IcmpUnknown) => GO_ON,
        told => count::and_act(told),
    }
}

#[inline(always)]
fn tell<F: Carried>(ctx: *mut xdp_md, seen: Seen, index: u32) -> Result<(Reason, u32), Reason> {
    let frame = Frame::new(ctx);
    let info = info(index)?;
    let flow = F::of(info);
    if !F::are_hosts(flow.client(), flow.vip()) {
        return Err(Reason::IcmpUnknown);
    }
    let len = F::len(&frame.from(seen.inner_at())).ok_or(Reason::IcmpUnknown)?;
    if (len as usize) < F::HEADER + ICMP_LEN {
        return Err(Reason::IcmpUnknown);
    }
    let error = Error {
        kind: seen.kind(),
        rest_be: rest::<F>(&frame, seen, len)?,
        reason: Reason::TxReply,
    };
    let way = WayBack::unpack(info.way_back);
    let tos = if F::ICMP == ICMP { TOS } else { 0 };
    let next = reply::own_next_hop(&frame, (F::ICMP, tos), &flow, &way)?;
    let (ifindex, mac) = next.ok_or(Reason::IcmpUnknown)?;
    spend()?;
    let quoted = seen.quoted() as u32;
    let packet = Packet {
        flow,
        tcp_flags: 0,
        ttl: 0,
        len: if len < quoted { len } else { quoted },
        source: mac,
        destination: Mac(service::mac_of(ifindex)),
        ctx,
    };
    // SAFETY: the kernel checks what it cuts; pointers into the frame are made anew below.
    if unsafe { bpf_xdp_adjust_head(ctx, seen.inner_at() as i32) } != 0 {
        return Err(Reason::Inconsistent);
    }
    F::error(&Frame::new(ctx), &packet, packet.flow.vip(), error)?;
    forward::leave(
        &Frame::new(ctx),
        ifindex,
        error.reason,
        Reason::RedirectReply,
    )
}

/// The second word of what the client is told: an MTU, if its packet of `len` octets was too long.
#[inline(always)]
fn rest<F: Carried>(frame: &Frame, seen: Seen, len: u32) -> Result<u32, Reason> {
    if seen.kind() != F::KINDS[2] {
        return Ok(0);
    }
    let message = frame.from(seen.outer_at().wrapping_sub(ICMP_LEN) & 0xff);
    if !message.holds(ETHERNET, ICMP_LEN) {
        return Err(Reason::IcmpUnknown);
    }
    // SAFETY: checked just now.
    let rest = u32::from_be(unsafe { message.read(ETHERNET + 4) });
    // Of IPv4 the upper half may have the length of what is quoted.
    let told = if seen.outer_v6() { rest } else { rest & 0xffff };
    let grows = (seen.inner_at() - seen.outer_at()) as u32;
    match tunnel_error_mtu(seen.0, told, len, grows) {
        0 => Err(Reason::IcmpUnknown),
        mtu => F::mtu(mtu, len).ok_or(Reason::IcmpUnknown),
    }
}

/// See [`relay::inner_mtu`]; 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_mtu(seen: u64, told: u32, len: u32, grows: u32) -> u32 {
    relay::inner_mtu(Seen(seen).outer_v6(), told, len, grows).unwrap_or(0)
}
