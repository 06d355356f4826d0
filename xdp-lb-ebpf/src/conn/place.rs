//! Where a packet without a connection goes, and that it has one from then on.

use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::{Mac, TCP};
use xdp_lb_common::conn::state::{midstream, tcp};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::Tick;

use super::insert::{insert, overwrite};
use super::route::Route;
use super::table::has_overflowed;
use super::{by_template, is_midstream};
use crate::family::Family;
use crate::maps::{DECIDED, STAGES};
use crate::packet::{Frame, Packet};
use crate::parse::ETHERNET;
use crate::persist::Placed;
use crate::settings::{expiry_of, next_kind};
use crate::{persist, schedule, service, settings};

/// A packet without a connection, as [`place_elsewhere`] notes it for the program that places it.
pub struct Unplaced {
    service: service::Found,
    hash: u64,
    /// Whether it goes over the way of a connection that is closing or was purged.
    again: bool,
    /// Where [`persist`] placed it.
    placed: Option<Placed>,
}

impl Unplaced {
    /// Its virtual service.
    #[inline(always)]
    pub fn service(&self) -> &service::Found {
        &self.service
    }
}

/// Goes on to the program that places a packet (`again`: over the way that it has): the packets that have a
/// connection then pay neither for its registers nor for its stack, and the verifier walks it once. Returns
/// if there is none. (To some kernels, Linux 6.12 among them, a tail call that failed may have changed the
/// frame: nothing must touch that any more.)
#[inline(always)]
pub(super) fn place_elsewhere<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    (hash, again): (u64, bool),
) -> Reason {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy, and nothing interrupts the program with another of its kind.
        unsafe {
            (*decided).service = service.index;
            (*decided).again = again.into();
            (*decided).hash = hash;
            (*decided).names = packet.flow.names();
            (*decided).len = packet.len;
            (*decided).tcp_flags = packet.tcp_flags.into();
            (*decided).placed = 0;
        }
        let ctx = XdpContext::new(frame.context());
        if service.is_persistent() && (again || !is_midstream(packet)) {
            // SAFETY: the program that it leads to takes the context over.
            unsafe { STAGES.tail_call(&ctx, F::PERSIST.index) };
        } else {
            // SAFETY: as above.
            unsafe { STAGES.tail_call(&ctx, F::NEW.index) };
        }
    }
    Reason::Inconsistent
}

/// Places a packet that begins a connection by its client's template, and goes on to the program that gives
/// it the connection. A program of its own, as few services need it.
#[inline(always)]
pub fn persist<F: Family>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let (packet, unplaced) = noted::<F>(frame)?;
    let service = &unplaced.service;
    let now = settings::now().short();
    let pick = || schedule::scheduled(&packet, service);
    let placed = persist::place(&packet, service, now, pick).ok_or(Reason::NoRealServer)?;
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: as in `place_elsewhere`.
        unsafe {
            (*decided).placed = placed.route.word();
            (*decided).template = placed.template;
        }
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(&XdpContext::new(frame.context()), F::NEW.index) };
    }
    Err(Reason::Inconsistent)
}

/// The packet that [`place_elsewhere`] noted. It was parsed, so there is one way through here.
#[inline(always)]
pub fn noted<F: Family>(frame: &Frame) -> Result<(Packet<F>, Unplaced), Reason> {
    let decided = DECIDED.get_ptr(0).ok_or(Reason::Inconsistent)?;
    // SAFETY: this CPU's own copy, as all of it.
    let (hash, service, again) = unsafe { ((*decided).hash, (*decided).service, (*decided).again) };
    // SAFETY: as above.
    let (names, len, tcp_flags) =
        unsafe { ((*decided).names, (*decided).len, (*decided).tcp_flags) };
    let flow = F::named(frame, names)?;
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: within the headers.
    let (low, high, ttl) = unsafe {
        (
            frame.read::<u64>(0),
            frame.read::<u32>(8),
            frame.read(F::HOPS),
        )
    };
    let packet = Packet {
        flow,
        tcp_flags: tcp_flags as u8,
        ttl,
        len,
        source: Mac(low >> 48 | (high as u64) << 16),
        destination: Mac(low & Mac::MASK),
        ctx: frame.context(),
    };
    // SAFETY: as above.
    let (placed, template) = unsafe { ((*decided).placed, (*decided).template) };
    let unplaced = Unplaced {
        service: service::at(service).ok_or(Reason::Inconsistent)?,
        hash,
        again: again != 0,
        placed: Route::found(placed).map(|route| Placed { route, template }),
    };
    Ok((packet, unplaced))
}

/// Where a packet without a connection goes; from then on it has one.
#[inline(always)]
pub fn place<F: Family>(
    packet: &Packet<F>,
    unplaced: &Unplaced,
    now: Tick,
) -> Result<Route, Reason> {
    let Unplaced {
        ref service,
        hash,
        again: replace,
        placed,
    } = *unplaced;
    let midstream = midstream(packet.flow.protocol(), packet.tcp_flags);
    let (placed, kind) = if let Some(placed) = placed {
        (placed, opening_kind(packet))
    } else if !replace && midstream != 0 {
        let route = resumed(packet, service, hash, now)?;
        // Its last packets make it no more than what they leave behind. None of them opens anything.
        let kind = next_kind(Kind::Established as u64, TCP, packet.tcp_flags);
        (Placed { route, template: 0 }, kind)
    } else {
        let route = schedule::scheduled(packet, service).ok_or(Reason::NoRealServer)?;
        (Placed { route, template: 0 }, opening_kind(packet))
    };
    let route = placed.route;
    // A firewall mark may be on TCP as well, which is connections all the same.
    if service.is_one_packet() && packet.flow.protocol() != TCP {
        // Counted as opened, as IPVS counts it, and remembered by nothing but the client's template.
        describe_template(packet, service, &placed, now);
        persist::confirm_again(packet, service, route, now);
        return Ok(route.opening_if(1).changing(kind));
    }
    let (backend, generation) = (route.backend(), route.generation());
    let state = State::new(hash, Kind::Free, backend, generation, now);
    let state = state.with_bits(kind, expiry_of(kind, now));
    let route = if replace {
        Some(overwrite(packet, service, hash, state, route, now))
    } else {
        insert(packet, service, hash, state, route, now)
    };
    describe_template(packet, service, &placed, now);
    let route = route.ok_or(Reason::NoRealServer)?.changing(kind);
    Ok(route.opening_if(1 - midstream))
}

#[inline(always)]
fn describe_template<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    placed: &Placed,
    now: Tick,
) {
    if let Some(template) = placed.template.checked_sub(1) {
        let ctx = packet.ctx;
        packet.flow.describe_template(ctx, service, template, now);
    }
}

/// The number of the kind that an opening packet gives: [`Kind::Syn`], or of UDP [`Kind::UdpNew`]. Without a
/// branch, by the bit that UDP's number has and TCP's has not.
#[inline(always)]
fn opening_kind<F: Family>(packet: &Packet<F>) -> u64 {
    Kind::Syn as u64 + (packet.flow.protocol() as u64 >> 4 & 1)
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
