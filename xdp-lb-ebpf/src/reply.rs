//! Address translation on the way back: packets of real servers that answer a connection get the
//! service's address and port for their source.
//!
//! Their next hop is what the routing table says of the client, as with IPVS. The kernel's own
//! forwarding could not take them: it drops packets from an address of its own as martians. Where the
//! table has no answer that a frame can be built from (the next hop's MAC is not known, as nothing but
//! this program sends to it; forwarding is off; it leads out of an interface that this program does
//! not send by), they go the way back that the client's packets came: to the MAC that these came from.
//!
//! So do ICMP errors about packets that real servers got, from them or from routers on the way to them; and
//! fragments of replies, see [`crate::reply_fragment`].

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use xdp_lb_common::addr::{Address, FAMILY_V6, Mac};
use xdp_lb_common::conn::State;
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo, FlowV4, FlowV6, WayBack};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::{LongTick, Tick};

use crate::conn::{Via, backend_of};
use crate::family::{Family, halves};
use crate::maps::CONN_INFO;
use crate::packet::{Frame, Packet};
use crate::settings::{self, expiry};
use crate::translate::{Side, Translate, translate};
use crate::{atomic, count, decided, forward, icmp, lookup, parse, quote, service};

/// Sends the packet of a context to the client, if it answers a connection; else it is for no service.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> Result<(Reason, u32), Reason> {
    let frame = Frame::new(ctx);
    if parse::is_v4(&frame) {
        to_client::<FlowV4, false>(&frame, &FlowV4::parse(&frame)?)
    } else {
        to_client::<FlowV6, false>(&frame, &FlowV6::parse(&frame)?)
    }
}

/// Sends the ICMP error of a context, about a packet that a real server got, to the client who sent that to
/// the service; the action.
#[inline(always)]
pub fn send_error(ctx: *mut xdp_md) -> u32 {
    if parse::is_v4(&Frame::new(ctx)) {
        reply_error(ctx)
    } else {
        reply_error_v6(ctx)
    }
}

/// [`send_error`] of IPv4. Of a connection, the quoted packet names the client and the real server, as a
/// reply does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_error(ctx: *mut xdp_md) -> u32 {
    let frame = Frame::new(ctx);
    count::and_act(icmp::error(&frame).and_then(|(mut packet, server_be)| {
        packet.flow.client_be = server_be;
        to_client::<FlowV4, true>(&frame, &packet)
    }))
}

/// [`send_error`] of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_error_v6(ctx: *mut xdp_md) -> u32 {
    let frame = Frame::new(ctx);
    count::and_act(icmp::error_v6(&frame).and_then(|(mut packet, server)| {
        packet.flow.client = server;
        to_client::<FlowV6, true>(&frame, &packet)
    }))
}

#[inline(always)]
fn to_client<F: Translate, const IS_ERROR: bool>(
    frame: &Frame,
    packet: &Packet<F>,
) -> Result<(Reason, u32), Reason> {
    let asked = packet.flow.turned();
    let hash = asked.reply_hash();
    let now = settings::now();
    let entry = entry(hash, now.short())?.ok_or(Reason::NoService)?;
    let info = entry.info;
    if !is_of(info, &asked) {
        return Err(Reason::NoService);
    }
    is_ours(frame, packet, info, now)?;
    let way = WayBack::unpack(info.way_back);
    // Anybody can send an error, so it keeps nothing alive.
    if !IS_ERROR && way.touched != now.short() {
        keep_alive(hash, entry.index, now.short().0);
    }
    let (source, to) = ((info.vip, info.vip_port_be), info.client_port_be);
    has_hops(packet, source.0)?;
    let next = next_hop(frame, packet, &way, (&source, to))?;
    if IS_ERROR {
        quote::translate::<F>(frame, Side::Source, packet.flow.protocol(), source)?;
    } else {
        translate(frame, packet, Side::Source, source)?;
    }
    let of = Of {
        service: info.service,
        backend: entry.state.backend(),
        len: packet.len,
    };
    leave(frame, next, &of)
}

/// Whether a packet has a hop left; else its sender is told so from the VIP.
#[inline(always)]
pub fn has_hops<F>(packet: &Packet<F>, vip: Address) -> Result<(), Reason> {
    if packet.ttl > 1 {
        return Ok(());
    }
    decided::note_source(vip);
    Err(Reason::TtlExpired)
}

/// An entry of replies, or of fragments of them.
pub struct Entry {
    /// Where it stands.
    pub index: u32,
    /// Its state.
    pub state: State,
    /// What is written beside it.
    pub info: &'static FlowInfo,
}

/// The live entry of a hash, whose real server takes packets.
#[inline(always)]
pub fn entry(hash: u64, now: Tick) -> Result<Option<Entry>, Reason> {
    let found = lookup::find(hash, now);
    if !found.exists() {
        return Ok(None);
    }
    if backend_of(found.state, Via::Connection).is_none() {
        return Err(Reason::Purged);
    }
    let index = lookup::index(hash, &found);
    let info = CONN_INFO.get_ptr(index).ok_or(Reason::Inconsistent)?;
    Ok(Some(Entry {
        index,
        state: found.state,
        // SAFETY: a map value; other CPUs write it, but nothing else as long as it is this connection's.
        info: unsafe { &*info },
    }))
}

/// Whether the VIP is this director's, and the frame for it.
#[inline(always)]
pub fn is_ours<F>(
    frame: &Frame,
    packet: &Packet<F>,
    info: &FlowInfo,
    now: LongTick,
) -> Result<(), Reason> {
    let service = service::at(info.service).ok_or(Reason::Inconsistent)?;
    service::open(&service, service::control()?, now)?;
    if !service::is_addressed_here(frame, packet) && !is_virtual(packet.destination) {
        return Err(Reason::OtherHost);
    }
    Ok(())
}

/// Whose a reply is, and its octets.
pub struct Of {
    /// Index of the service.
    pub service: u32,
    /// Index of the backend.
    pub backend: u32,
    /// Octets, from the IP header on.
    pub len: u32,
}

/// Sends a frame that is translated out of an interface, to a MAC there, and counts it.
#[inline(always)]
pub fn leave(frame: &Frame, (ifindex, mac): (u32, Mac), of: &Of) -> Result<(Reason, u32), Reason> {
    let own = service::mac_of(ifindex);
    if own == u64::MAX || !frame.holds(0, parse::ETHERNET) {
        return Err(Reason::NoReplyRoute);
    }
    // SAFETY: checked just now.
    unsafe { forward::write_macs(frame, mac, Mac(own)) };
    count::reply(of.service, of.backend, of.len as u64);
    forward::leave(frame, ifindex, Reason::TxReply, Reason::RedirectReply)
}

/// Whether an entry describes this connection: its way may have been another one's a moment ago.
#[inline(always)]
pub fn is_of<F: Translate>(info: &FlowInfo, asked: &F) -> bool {
    info.flags & FLOW_OF_REPLIES != 0
        && info.family == F::NUMBER
        && info.protocol == asked.protocol()
        && info.client_port_be == asked.ports_be().0
        && service::is_same(info.client, asked.client())
}

/// A router's virtual MAC (RFC 5798): the servers' gateway may be a VIP.
#[inline(always)]
fn is_virtual(mac: Mac) -> bool {
    const PREFIX: u64 = Mac::from_octets([0, 0, 0x5e, 0, 0, 0]).0;
    mac.0 & 0xffff_ffff == PREFIX & 0xffff_ffff && matches!(mac.octets()[4], 1 | 2)
}

/// Restarts the timers of both entries of a connection, at most once a tick. Global, so that the
/// verifier checks it once; returns nothing that matters.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn keep_alive(hash: u64, index: u32, now: u32) -> u32 {
    let Some(info) = CONN_INFO.get_ptr_mut(index) else {
        return 0;
    };
    // SAFETY: a map value.
    let seen = unsafe { &*info };
    let now = Tick(now);
    let mut way = WayBack::unpack(seen.way_back);
    way.touched = now;
    let connection = if seen.family == FAMILY_V6 {
        connection_v6(seen).keyed_hash()
    } else {
        connection_v4(seen).keyed_hash()
    };
    // SAFETY: as above; a word that other CPUs change whole.
    unsafe {
        let when = (&raw mut (*info).way_back).cast::<u64>();
        atomic::publish(when, way.pack()[0]);
    };
    let found = lookup::find(connection, now);
    if !found.exists() {
        return 0;
    }
    let kind = found.state.kind();
    // Lost races are dropped: the winner wrote much the same.
    let _won = lookup::update(
        connection,
        &found,
        found.state.with(kind, expiry(kind, now)),
    );
    let reply = lookup::find(hash, now);
    if reply.exists() {
        let state = reply.state.with(reply.state.kind(), expiry(kind, now));
        let _won = lookup::update(hash, &reply, state);
    }
    1
}

/// The connection that an entry describes.
#[inline(always)]
pub fn connection_v4(info: &FlowInfo) -> FlowV4 {
    FlowV4 {
        client_be: info.client.words_be[0],
        vip_be: info.vip.words_be[0],
        client_port_be: info.client_port_be,
        vip_port_be: info.vip_port_be,
        protocol: info.protocol,
    }
}

/// [`connection_v4`] of IPv6.
#[inline(always)]
pub fn connection_v6(info: &FlowInfo) -> FlowV6 {
    FlowV6 {
        client: info.client,
        vip: info.vip,
        client_port_be: info.client_port_be,
        vip_port_be: info.vip_port_be,
        protocol: info.protocol,
    }
}

/// `struct bpf_fib_lookup` of linux/bpf.h, in long words: on the stack the verifier wants each access aligned,
/// and of shorter ones the compiler makes longer ones that are not.
#[repr(C)]
struct RouteLookUp {
    /// Family and protocol (8 bits each), ports in network order, the source's first (16 each), length of the
    /// packet (16); where it does not fit, the length that would.
    names: u64,
    /// Interface that it came in by, then the one that it goes out by; above it its flow label and class.
    way: u64,
    from: (u64, u64),
    to: (u64, u64),
    /// VLAN, source MAC, and from the third octet of the last word on the destination MAC.
    rest: [u64; 2],
}

/// What `bpf_fib_lookup` returns.
mod answer {
    pub const SUCCESS: i64 = 0;
    pub const BLACKHOLE: i64 = 1;
    pub const UNREACHABLE: i64 = 2;
    pub const PROHIBIT: i64 = 3;
    pub const TOO_BIG: i64 = 8;
}

/// Interface and MAC by which a packet reaches the client.
#[inline(always)]
pub fn next_hop<F: Translate>(
    frame: &Frame,
    packet: &Packet<F>,
    way: &WayBack,
    (source, client_port_be): (&(Address, u16), u16),
) -> Result<(u32, Mac), Reason> {
    if !frame.holds(0, parse::ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    let is_long = packet.len > service::control()?.smallest_mtu();
    // The length of one that offloading put together is nothing to the route.
    let len = if is_long && forward::is_put_together(frame.context(), packet.len) != 0 {
        0
    } else {
        packet.len as u16
    };
    let ports = (source.1 as u64) << 16 | (client_port_be as u64) << 32;
    // SAFETY: checked just now.
    let flow_info = unsafe { F::flow_info(frame) };
    let mut lookup = RouteLookUp {
        names: F::AF as u64 | (packet.flow.protocol() as u64) << 8 | ports | (len as u64) << 48,
        way: decided::network(frame) as u64 | (flow_info as u64) << 32,
        from: halves(source.0),
        to: halves(packet.flow.vip()),
        rest: [0; 2],
    };
    let answered = lookup.ask(frame);
    if answered == answer::TOO_BIG {
        decided::note_mtu((lookup.names >> 48) as u16);
        decided::note_source(source.0);
        return Err(Reason::TooBig);
    }
    if let Some(found) = lookup.next_hop(answered)? {
        return Ok(found);
    }
    if is_long && forward::is_too_long(frame.context(), way.ifindex, packet.len) != 0 {
        decided::note_source(source.0);
        return Err(Reason::TooBig);
    }
    Ok((way.ifindex, way.mac))
}

/// Interface and MAC by which a message of this director's own reaches a client, from a VIP. `None` where
/// neither the routing table nor its own packets tell.
#[inline(always)]
pub fn own_next_hop<F: Translate>(
    frame: &Frame,
    (protocol, tos): (u8, u8),
    flow: &F,
    way: &WayBack,
) -> Result<Option<(u32, Mac)>, Reason> {
    let mut lookup = RouteLookUp {
        // It is never too long, so it has no length here.
        names: F::AF as u64 | (protocol as u64) << 8,
        way: decided::network(frame) as u64 | (tos as u64) << 32,
        from: halves(flow.vip()),
        to: halves(flow.client()),
        rest: [0; 2],
    };
    let answered = lookup.ask(frame);
    let found = lookup.next_hop(answered)?;
    if found.is_none() && way.ifindex != 0 && service::mac_of(way.ifindex) != u64::MAX {
        return Ok(Some((way.ifindex, way.mac)));
    }
    Ok(found)
}

impl RouteLookUp {
    /// Asks the routing table: one of [`answer`], or of those that nobody here tells apart.
    #[inline(always)]
    fn ask(&mut self, frame: &Frame) -> i64 {
        let size = size_of::<Self>() as i32;
        let at = (&raw mut *self).cast();
        // SAFETY: the struct is as long as said and outlives the call; the frame stays as it is.
        unsafe { bpf_fib_lookup(frame.context().cast(), at, size, 0) }
    }

    /// Interface and MAC of an answer that has them.
    #[inline(always)]
    fn next_hop(&self, answered: i64) -> Result<Option<(u32, Mac)>, Reason> {
        match answered {
            answer::BLACKHOLE | answer::UNREACHABLE | answer::PROHIBIT => Err(Reason::NoReplyRoute),
            answer::SUCCESS if service::mac_of(self.way as u32) != u64::MAX => {
                Ok(Some((self.way as u32, Mac(self.rest[1] >> 16))))
            }
            _ => Ok(None),
        }
    }
}
