//! Where the connection of a packet goes.

use core::num::NonZeroU64;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::TCP;
use xdp_lb_common::backend::{BACKEND_USABLE, Backend, Identity};
use xdp_lb_common::conn::state::{opens, tcp, tcp_next};
use xdp_lb_common::conn::table::{Claim, Found, Inserted, Place, PlaceMemory, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FlowInfo, FlowV4, FlowV6};
use xdp_lb_common::hash::{first_place, second_place};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::stage;
use xdp_lb_common::tick::Tick;
pub use xdp_lb_common::watch::Via;

use crate::family::Family;
use crate::maps::{BACKENDS, CONN_INFO, CONNS, OVERFLOWS, STAGES};
use crate::packet::{Frame, Packet};
use crate::persist::Placed;
use crate::settings::{CONN_MASK, expiry};
use crate::{atomic, count, load, parse, persist, schedule, service};

/// Where a packet goes, in one register: 1, kind that its connection's way got (4 bits), whether it opens
/// a connection (1), how it was found (2), generation (8), backend (32).
/// Neither the compiler nor the verifier then loses track of a half-written enum.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Route(NonZeroU64);

impl Route {
    const SET: NonZeroU64 = match NonZeroU64::new(1 << 63) {
        Some(word) => word,
        None => NonZeroU64::MIN,
    };

    /// The route to a backend that has this generation.
    #[inline(always)]
    fn new(backend: u32, generation: u8, via: Via) -> Self {
        let word = (via as u64) << 40 | (generation as u64) << 32 | backend as u64;
        Self(Self::SET | word)
    }

    /// As one word, and again a route.
    #[inline(always)]
    pub fn word(self) -> u64 {
        self.0.get()
    }

    /// The route of [`Self::word`].
    #[inline(always)]
    pub fn of(word: u64) -> Self {
        Self(Self::SET | word)
    }

    /// Index of the backend.
    #[inline(always)]
    pub fn backend(self) -> u32 {
        self.0.get() as u32
    }

    /// Its generation when it was chosen.
    #[inline(always)]
    pub fn generation(self) -> u8 {
        (self.0.get() >> 32) as u8
    }

    /// How it was found.
    #[inline(always)]
    pub fn via(self) -> u32 {
        (self.0.get() >> 40) as u32 & 3
    }

    /// The same route, for a packet that opens a connection; one that is known is not opened.
    #[inline(always)]
    fn opening(self) -> Self {
        let opens = (self.via() != Via::Connection as u32) as u64;
        Self(self.0 | opens << 42)
    }

    /// The same route, for a packet by which its connection's way changes.
    #[inline(always)]
    fn changing(self, kind: Kind) -> Self {
        Self(self.0 | (kind as u64) << 43)
    }

    /// The kind that the connection's way got; `Free` if its way did not change.
    #[inline(always)]
    pub fn kind(self) -> Kind {
        Kind::from_bits((self.0.get() >> 43) as u8 & 0xf)
    }

    /// 1 if the packet opens a connection, else 0. (In the middle of a connection that has no way,
    /// every packet is placed.)
    #[inline(always)]
    pub fn opens(self) -> u64 {
        self.0.get() >> 42 & 1
    }
}

/// A `Result<Route, Reason>` in one register.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Packed(u64);

impl Packed {
    #[inline(always)]
    fn new(result: Result<Route, Reason>) -> Self {
        match result {
            Ok(route) => Self(route.0.get()),
            Err(reason) => Self(reason as u64),
        }
    }

    #[inline(always)]
    fn unpack(self) -> Result<Route, Reason> {
        match NonZeroU64::new(self.0) {
            Some(word) if self.0 & Route::SET.get() != 0 => Ok(Route(word)),
            Some(word) if word.get() == Reason::NoConnection as u64 => Err(Reason::NoConnection),
            Some(word) if word.get() == Reason::NoRealServer as u64 => Err(Reason::NoRealServer),
            _ => Err(Reason::Inconsistent),
        }
    }
}

/// A place in map memory. What stands in it counts as connections of its backend if `COUNTED`.
#[derive(Clone, Copy)]
pub struct MapPlace<const COUNTED: bool>(pub *mut PlaceMemory);

impl<const COUNTED: bool> MapPlace<COUNTED> {
    #[inline(always)]
    fn word(&self, way: usize, word: usize) -> *mut u64 {
        // SAFETY: the pointer is a map value and the way is below 8; only an address is taken.
        unsafe {
            (&raw mut (*self.0).ways)
                .cast::<u64>()
                .add((way & 7) * 2 + word)
        }
    }
}

impl<const COUNTED: bool> Place for MapPlace<COUNTED> {
    #[inline(always)]
    fn key(&self, way: usize) -> u64 {
        // SAFETY: eight aligned bytes of a map value that other CPUs change whole.
        unsafe { self.word(way, 0).read_volatile() }
    }

    #[inline(always)]
    fn state(&self, way: usize) -> State {
        // SAFETY: as in `key`.
        State(unsafe { self.word(way, 1).read_volatile() })
    }

    #[inline(always)]
    fn swap_key(&self, way: usize, old: u64, new: u64) -> bool {
        // SAFETY: as in `key`.
        unsafe { atomic::swap(self.word(way, 0), old, new) }
    }

    #[inline(always)]
    fn swap_state(&self, way: usize, old: State, new: State) -> bool {
        // SAFETY: as in `key`.
        unsafe { atomic::swap(self.word(way, 1), old.0, new.0) }
    }

    #[inline(always)]
    fn moved(&self, old: State, new: State) {
        if COUNTED && !old.counts_as(new) {
            load::conn_moved(old.0, new.0);
        }
    }
}

/// The identity of a backend as it is now.
#[inline(always)]
pub fn identity(backend: *const Backend) -> Identity {
    // SAFETY: a map value; userspace changes the word whole while packets read.
    Identity(unsafe { (&raw const (*backend).identity).read_volatile() })
}

/// The route to a backend, if it takes packets.
#[inline(always)]
pub fn backend(index: u32, via: Via) -> Option<Route> {
    let identity = identity(BACKENDS.get_ptr(index)?);
    if identity.flags() & BACKEND_USABLE == 0 {
        return None;
    }
    Some(Route::new(index, identity.generation(), via))
}

/// The backend of an entry, if there is one and it is of the backend's present generation.
#[inline(always)]
pub fn backend_of(state: State, via: Via) -> Option<Route> {
    if state.0 == 0 {
        return None;
    }
    let route = backend(state.backend(), via)?;
    if route.generation() == state.generation() {
        Some(route)
    } else {
        None
    }
}

/// Finds the connection, or places it.
#[inline(always)]
pub fn route<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Route, Reason> {
    let hash = packet.flow.keyed_hash();
    let places = places(hash).ok_or(Reason::Inconsistent)?;
    let found = places.find(hash, now);
    if !found.exists() {
        return Packed(F::place(frame.context(), service.index, hash, now.0, 0)).unpack();
    }
    match backend_of(found.state, Via::Connection) {
        Some(route) => match next(found.state.kind(), packet) {
            Some(kind) => {
                if touch(frame, packet, service, (hash, &places, &found), kind, now) {
                    Ok(route.changing(kind))
                } else {
                    Ok(route)
                }
            }
            None => Packed(F::place(frame.context(), service.index, hash, now.0, 1)).unpack(),
        },
        None if is_midstream(packet) => Err(Reason::Purged),
        None => Packed(F::place(frame.context(), service.index, hash, now.0, 1)).unpack(),
    }
}

/// A place of the connection table.
pub type Counted = MapPlace<true>;

/// The two places of a hash.
#[inline(always)]
pub fn places(hash: u64) -> Option<Places<Counted>> {
    let mask = CONN_MASK.load();
    let (first_at, second_at) = (first_place(hash, mask), second_place(hash, mask));
    Some(Places {
        first: MapPlace(CONNS.get_ptr_mut(first_at)?),
        second: MapPlace(CONNS.get_ptr_mut(second_at)?),
        first_at,
        second_at,
    })
}

#[inline(always)]
fn is_midstream<F: Family>(packet: &Packet<F>) -> bool {
    packet.flow.protocol() == TCP && !opens(packet.tcp_flags)
}

/// The kind of a connection after a packet; `None` when the packet opens a new one.
#[inline(always)]
fn next<F: Family>(kind: Kind, packet: &Packet<F>) -> Option<Kind> {
    if packet.flow.protocol() == TCP {
        tcp_next(kind, packet.tcp_flags)
    } else {
        Some(Kind::Udp)
    }
}

/// Moves the expiry (at most once per tick) and the kind; whether there was anything to move. A lost
/// race is dropped: the winner wrote much the same, unless it took the way of a connection that this
/// packet confirms.
#[inline(always)]
fn touch<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    (hash, places, found): (u64, &Places<Counted>, &Found),
    kind: Kind,
    now: Tick,
) -> bool {
    let state = found.state.with(kind, expiry(kind, now));
    if state == found.state {
        return false;
    }
    if !places.update(found, state) && found.state.kind() != kind {
        F::confirm(frame.context(), service.index, hash, state.0, now.0);
    }
    if service.is_persistent() && kind > Kind::Closed {
        packet
            .flow
            .confirm_template(frame.context(), service.index, state.backend(), now.0);
    }
    true
}

/// Once more, for a connection that another CPU changed or evicted while it was being confirmed: this
/// packet goes to its server, so all later ones must. Global as [`conn_claim`] is; 1 if it had to be
/// put back.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_confirm(
    ctx: *mut xdp_md,
    service: u32,
    hash: u64,
    state: u64,
    now: u32,
) -> u32 {
    confirm::<FlowV4>(ctx, service, hash, state, now)
}

/// [`conn_confirm`] of an IPv6 connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_confirm_v6(
    ctx: *mut xdp_md,
    service: u32,
    hash: u64,
    state: u64,
    now: u32,
) -> u32 {
    confirm::<FlowV6>(ctx, service, hash, state, now)
}

#[inline(always)]
fn confirm<F: Family>(ctx: *mut xdp_md, service: u32, hash: u64, state: u64, now: u32) -> u32 {
    count::event(Event::RaceLost);
    let Some(places) = places(hash) else { return 0 };
    let found = places.find(hash, Tick(now));
    if found.exists() {
        let wanted = State(state);
        if (found.state.backend(), found.state.generation())
            == (wanted.backend(), wanted.generation())
        {
            let _won = places.update(&found, wanted);
        }
        return 0;
    }
    let packet = match F::parse(&Frame::new(ctx)) {
        Ok(packet) => packet,
        Err(_) => return 0,
    };
    let Some(service) = service::at(service) else {
        return 0;
    };
    let claim = conn_claim(hash, state, now);
    if claim == 0 {
        return 0;
    }
    match Inserted::unpack(conn_publish(hash, state, claim, now)) {
        Inserted::Mine { index, .. } => {
            describe(&packet, &service, index, Tick(now));
            1
        }
        Inserted::Other(_) | Inserted::Lost => 0,
    }
}

/// Places a packet without a connection, or anew (`replace` is 1) over the way of one that is closing
/// or was purged; a [`Packed`]. A function of its own, so that the registers of the packets that have
/// a connection are not spilled for it, and global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn place(ctx: *mut xdp_md, service: u32, hash: u64, now: u32, replace: u32) -> u64 {
    let packet = match parse::ipv4_first(&Frame::new(ctx)) {
        Ok(packet) => packet,
        Err(reason) => return Packed::new(Err(reason)).0,
    };
    let Some(service) = service::at(service) else {
        return Packed::new(Err(Reason::Inconsistent)).0;
    };
    Packed::new(place_in(&packet, &service, hash, Tick(now), replace != 0)).0
}

/// [`place`] of an IPv6 packet, which is a program of its own: the verifier grants a chain of calls no
/// more than 512 bytes of stack, and placing with two long addresses takes most of it.
#[inline(always)]
pub fn place_elsewhere(ctx: *mut xdp_md) -> u64 {
    // SAFETY: the program that it leads to takes the context over.
    unsafe { STAGES.tail_call(&XdpContext::new(ctx), stage::IPV6_NEW.index) };
    Packed::new(Err(Reason::Inconsistent)).0
}

/// Places a packet that [`route`] sent on by [`place_elsewhere`].
#[inline(always)]
pub fn place_here<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Route, Reason> {
    let hash = packet.flow.keyed_hash();
    let found = places(hash).ok_or(Reason::Inconsistent)?.find(hash, now);
    place_in(packet, service, hash, now, found.exists())
}

#[inline(always)]
fn place_in<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    now: Tick,
    replace: bool,
) -> Result<Route, Reason> {
    let midstream = is_midstream(packet);
    let (placed, kind) = if !replace && midstream {
        let route = resumed(packet, service, hash, now)?;
        // Its last packets make it no more than what they leave behind.
        let kind = tcp_next(Kind::Established, packet.tcp_flags).unwrap_or(Kind::Established);
        (Placed { route, template: 0 }, kind)
    } else {
        let placed = schedule::place(packet, service, now).ok_or(Reason::NoRealServer)?;
        (placed, opening_kind(packet))
    };
    let route = placed.route;
    // A firewall mark may be on TCP as well, which is connections all the same.
    if service.is_one_packet() && packet.flow.protocol() != TCP {
        // Counted as opened, as IPVS counts it, and remembered by nothing but the client's template.
        describe_template(packet, service, &placed, now);
        return Ok(route.opening().changing(kind));
    }
    let state = State::new(
        hash,
        kind,
        route.backend(),
        route.generation(),
        expiry(kind, now),
    );
    let result = if replace {
        overwrite(packet, service, hash, state, route, now)
    } else {
        insert(packet, service, hash, state, route, now)
    };
    describe_template(packet, service, &placed, now);
    let route = result?.changing(kind);
    Ok(if midstream { route } else { route.opening() })
}

#[inline(always)]
fn describe_template<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    placed: &Placed,
    now: Tick,
) {
    if let Some(template) = placed.template.checked_sub(1) {
        persist::describe(packet, service, template, now);
    }
}

#[inline(always)]
fn opening_kind<F: Family>(packet: &Packet<F>) -> Kind {
    if packet.flow.protocol() == TCP {
        Kind::Syn
    } else {
        Kind::UdpNew
    }
}

/// A TCP packet in the middle of a connection that is not in the table: persistence may know where it
/// went, or the scheduler's hash of its client does; a connection that found no way went by consistent
/// hash; else the kernel resets it.
#[inline(always)]
fn resumed<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    now: Tick,
) -> Result<Route, Reason> {
    match by_template(packet, service, now) {
        Some(route) => {
            // As good a confirmation as that of a connection which has a way.
            let mask = service.get().client_mask;
            packet
                .flow
                .template_touch(service.index, mask, route.backend(), now.0);
            Ok(route)
        }
        None if service.is_hashed() && packet.tcp_flags & tcp::RST == 0 => {
            schedule::hashed(packet, service).ok_or(Reason::NoRealServer)
        }
        None if has_overflowed(hash) => {
            schedule::stateless(packet, service, hash).ok_or(Reason::NoRealServer)
        }
        None => Err(Reason::NoConnection),
    }
}

/// Where the connection of a quoted packet goes, in the order of [`resumed`]. It takes no way, moves no
/// timer and schedules nothing: anybody can send an ICMP error.
#[inline(always)]
pub fn look_up<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Route, Reason> {
    let hash = packet.flow.keyed_hash();
    let found = places(hash).ok_or(Reason::Inconsistent)?.find(hash, now);
    if found.exists() {
        return backend_of(found.state, Via::Connection).ok_or(Reason::Purged);
    }
    match by_template(packet, service, now) {
        Some(route) => Ok(route),
        None if service.is_hashed() => {
            schedule::hashed(packet, service).ok_or(Reason::NoRealServer)
        }
        None if has_overflowed(hash) => {
            schedule::stateless(packet, service, hash).ok_or(Reason::NoRealServer)
        }
        None => Err(Reason::IcmpUnknown),
    }
}

/// Where the client's template says, if its service is persistent and it has one.
#[inline(always)]
fn by_template<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Option<Route> {
    if service.is_persistent() {
        persist::find(packet, service, now)
    } else {
        None
    }
}

/// Gives the way of a connection's predecessor to it.
#[inline(always)]
fn overwrite<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    state: State,
    route: Route,
    now: Tick,
) -> Result<Route, Reason> {
    let places = places(hash).ok_or(Reason::Inconsistent)?;
    let found = places.find(hash, now);
    if !found.exists() {
        // It expired just now: the next packet finds none and takes a way.
        return Ok(route);
    }
    if let Some(other) = backend_of(found.state, Via::Connection)
        && next(found.state.kind(), packet).is_some()
    {
        // Another CPU gave the way to this connection already.
        count::event(Event::RaceLost);
        return Ok(other);
    }
    if places.update(&found, state) {
        describe(
            packet,
            service,
            places.index(found.in_second, found.way),
            now,
        );
        return Ok(route);
    }
    count::event(Event::RaceLost);
    Ok(backend_of(places.find(hash, now).state, Via::Connection).unwrap_or(route))
}

/// Puts a connection into the table. One that finds no way goes by its template or consistent hash.
#[inline(always)]
fn insert<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    state: State,
    route: Route,
    now: Tick,
) -> Result<Route, Reason> {
    // Two attempts: the first may lose its way to another CPU.
    let claim = match conn_claim(hash, state.0, now.0) {
        0 => conn_claim(hash, state.0, now.0),
        claim => claim,
    };
    if claim == 0 {
        count::event(Event::NoWay);
        mark_overflow(hash);
        // Not what the scheduler picked: the next packet, which asks again, must come to the same.
        return by_template(packet, service, now)
            .or_else(|| schedule::stateless(packet, service, hash))
            .ok_or(Reason::NoRealServer);
    }
    match Inserted::unpack(conn_publish(hash, state.0, claim, now.0)) {
        Inserted::Mine { index, evicted } => {
            if evicted {
                count::event(Event::Evicted);
            }
            describe(packet, service, index, now);
            Ok(route)
        }
        Inserted::Other(other) => {
            count::event(Event::RaceLost);
            Ok(backend_of(other, Via::Connection).unwrap_or(route))
        }
        Inserted::Lost => {
            count::event(Event::RaceLost);
            Ok(route)
        }
    }
}

/// Takes a way of the connection table. Global and of scalar arguments only, so that the verifier
/// checks it once and not once for every way a packet can get here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_claim(hash: u64, state: u64, now: u32) -> u64 {
    let claim = places(hash).and_then(|places| places.claim(hash, State(state), Tick(now)));
    Claim::pack(claim)
}

/// Publishes a way of the connection table; global as [`conn_claim`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_publish(hash: u64, state: u64, claim: u64, now: u32) -> u64 {
    match (places(hash), Claim::unpack(claim)) {
        (Some(places), Some(claim)) => places.publish(&claim, hash, State(state), Tick(now)).pack(),
        _ => Inserted::Lost.pack(),
    }
}

/// Writes the cold half of a way.
#[inline(always)]
fn describe<F: Family>(packet: &Packet<F>, service: &service::Found, index: u32, now: Tick) {
    F::describe_conn(packet, service.index, index, now);
}

/// [`describe`] of an IPv6 connection: looks at the frame again, so that the addresses need no room on
/// the stack till here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_describe_v6(ctx: *mut xdp_md, service: u32, index: u32, now: u32) -> u32 {
    match parse::ipv6_first(&Frame::new(ctx)) {
        Ok(packet) => {
            write_info(&packet, service, index, Tick(now));
            1
        }
        Err(_) => 0,
    }
}

/// See [`describe`].
#[inline(always)]
pub fn write_info<F: Family>(packet: &Packet<F>, service: u32, index: u32, now: Tick) {
    let Some(info) = CONN_INFO.get_ptr_mut(index) else {
        return;
    };
    let flow = &packet.flow;
    let value = FlowInfo {
        client: flow.client(),
        vip: flow.vip(),
        client_port_be: flow.ports_be().0,
        vip_port_be: flow.ports_be().1,
        protocol: flow.protocol(),
        family: F::NUMBER,
        flags: 0,
        service,
        created: now.0,
        way_back: [0; 2],
    };
    // SAFETY: a map value that belongs to the way this CPU holds.
    unsafe { atomic::store(info, value) };
}

/// The bit of a flow's first place.
#[inline(always)]
fn overflow_bit(hash: u64) -> Option<(*mut u64, u64)> {
    let place = first_place(hash, CONN_MASK.load());
    Some((OVERFLOWS.get_ptr_mut(place >> 6)?, 1 << (place & 63)))
}

#[inline(always)]
fn mark_overflow(hash: u64) {
    if let Some((word, bit)) = overflow_bit(hash) {
        // SAFETY: eight aligned bytes of a map value.
        unsafe { atomic::set_bits(word, bit) };
    }
}

#[inline(always)]
fn has_overflowed(hash: u64) -> bool {
    // SAFETY: eight aligned bytes of a map value that other CPUs change whole.
    overflow_bit(hash).is_some_and(|(word, bit)| unsafe { word.read_volatile() } & bit != 0)
}
