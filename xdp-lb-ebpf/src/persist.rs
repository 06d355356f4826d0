//! Persistence templates: which real server a client sticks to.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::TCP;
use xdp_lb_common::backend::BACKEND_RELEASES;
use xdp_lb_common::conn::table::{Claim, Inserted, Place as _, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FlowInfo, FlowV6};
use xdp_lb_common::hash::{first_place, second_place};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::persist::{template_hash_v4, template_hash_v6};
use xdp_lb_common::reason::Event;
use xdp_lb_common::tick::Tick;

use crate::conn::{MapPlace, Route, Via, backend_of, identity};
use crate::family::{Family, joined};
use crate::maps::{BACKENDS, TEMPLATE_INFO, TEMPLATES};
use crate::packet::{Frame, Packet};
use crate::settings::{COEFFICIENTS, TEMPLATE_MASK, coefficients_v6};
use crate::{atomic, count, service};

/// A place of the template table.
type Uncounted = MapPlace<false>;

#[inline(always)]
fn places(hash: u64) -> Option<Places<Uncounted>> {
    let mask = TEMPLATE_MASK.load();
    let (first_at, second_at) = (first_place(hash, mask), second_place(hash, mask));
    Some(Places {
        first: MapPlace(TEMPLATES.get_ptr_mut(first_at)?),
        second: MapPlace(TEMPLATES.get_ptr_mut(second_at)?),
        first_at,
        second_at,
    })
}

#[inline(always)]
fn hash<F: Family>(packet: &Packet<F>, service: &service::Found) -> u64 {
    let mask = service.get().client_mask;
    packet.flow.template_hash(service.index, mask)
}

#[inline(always)]
fn hash_v4(client_be: u32, service: &service::Found) -> u64 {
    let mask = service.get().client_mask;
    template_hash_v4(&COEFFICIENTS.load(), service.index, client_be, mask)
}

#[inline(always)]
fn expiry(service: &service::Found, now: Tick) -> Tick {
    now.after(service.get().persistence_ticks)
}

/// The backend of a template, unless it is void: its server failed, or releases its clients.
#[inline(always)]
fn backend_by(state: State) -> Option<Route> {
    let route = backend_of(state, Via::Persistent)?;
    if identity(BACKENDS.get_ptr(route.backend())?).flags() & BACKEND_RELEASES == 0 {
        Some(route)
    } else {
        None
    }
}

/// The hash of an IPv6 client's template. Global, as what it multiplies is long and asked for in several
/// places.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_hash_of_v6(high: u64, low: u64, service: u32, mask: u32) -> u64 {
    template_hash_v6(coefficients_v6(), service, joined(high, low), mask)
}

/// Has the memory of the client's template looked up while the connection is searched, as
/// [`crate::conn::route`] does for the connection's own: nothing waits for what is read here.
#[inline(always)]
pub fn expect<F: Family>(packet: &Packet<F>, service: &service::Found) {
    if let Some(places) = places(hash(packet, service)) {
        for place in [&places.first, &places.second] {
            // A place has two cache lines.
            let _unused = (place.key(0), place.key(WAYS / 2));
        }
        if let Some(info) = TEMPLATE_INFO.get_ptr(places.first_at * WAYS as u32) {
            // SAFETY: eight aligned bytes of a map value.
            let _unused = unsafe { info.cast::<u64>().read_volatile() };
        }
    }
}

/// The backend that the client sticks to.
#[inline(always)]
pub fn find<F: Family>(packet: &Packet<F>, service: &service::Found, now: Tick) -> Option<Route> {
    Route::found(template_route(hash(packet, service), now.0))
}

/// The route that a template says, as one word; 0 if there is no template, or a void one. Global, so that
/// the verifier checks it once and not once for every way to get here, as are those below.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_route(hash: u64, now: u32) -> u64 {
    let found = places(hash).map(|places| places.find(hash, Tick(now)));
    Route::word_of(found.and_then(|found| backend_by(found.state)))
}

/// Confirms the client's template and restarts its timer, as a connection of it lives. Global as
/// `place` is, which takes a result to return: 1 if the template was touched.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_touch(client_be: u32, service: u32, backend: u32, now: u32) -> u32 {
    let Some(service) = service::at(service) else {
        return 0;
    };
    touch(hash_v4(client_be, &service), &service, backend, Tick(now))
}

/// [`template_touch`] by the hash of an IPv6 client's template.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_touch_v6(hash: u64, service: u32, backend: u32, now: u32) -> u32 {
    let Some(service) = service::at(service) else {
        return 0;
    };
    touch(hash, &service, backend, Tick(now))
}

/// [`template_touch`] for the IPv6 packet of a context.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_confirm_v6(
    ctx: *mut xdp_md,
    service: u32,
    backend: u32,
    now: u32,
) -> u32 {
    let (Ok(flow), Some(found)) = (FlowV6::named(&Frame::new(ctx), 0), service::at(service)) else {
        return 0;
    };
    let hash = flow.template_hash(service, found.get().client_mask);
    template_touch_v6(hash, service, backend, now)
}

#[inline(always)]
fn touch(hash: u64, service: &service::Found, backend: u32, now: Tick) -> u32 {
    let Some(places) = places(hash) else { return 0 };
    let found = places.find(hash, now);
    if !found.exists() || found.state.backend() != backend {
        return 0;
    }
    if backend_of(found.state, Via::Persistent).is_none() {
        // It is void: of a server that failed since, or was another one.
        return 0;
    }
    let state = found.state.with(Kind::Template, expiry(service, now));
    u32::from(state == found.state || places.update(&found, state))
}

/// Confirms the template that a datagram without a way found: it is not the client's first one. Nothing
/// else would, so the templates of such flows would push each other out. (A TCP connection without a way
/// confirms its template by its ACK.)
#[inline(always)]
pub fn confirm_again<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    route: Route,
    now: Tick,
) {
    if route.via() == Via::Persistent as u32 && packet.flow.protocol() != TCP {
        let mask = service.get().client_mask;
        packet
            .flow
            .template_touch(service.index, mask, route.backend(), now.0);
    }
}

/// Where a new connection of a client goes.
#[derive(Clone, Copy)]
pub struct Placed {
    /// The route.
    pub route: Route,
    /// Index of the template made for it, plus one; 0 if none was. To be described once the connection
    /// stands: each locked instruction waits for the stores before it, and these miss the cache.
    pub template: u32,
}

/// The backend that a new connection of the client goes to: that of its live template, else the one
/// `pick` chooses, for which a template is made.
#[inline(always)]
pub fn place<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
    pick: impl Fn() -> Option<Route>,
) -> Option<Placed> {
    let hash = hash(packet, service);
    if let Some(route) = Route::found(template_again(hash, service.index, now.0)) {
        return Some(Placed { route, template: 0 });
    }
    let route = pick()?;
    let (backend, generation) = (route.backend(), route.generation());
    let state = State::new(
        hash,
        Kind::TemplateNew,
        backend,
        generation,
        expiry(service, now),
    );
    let kept = template_keep(hash, state.0, now.0);
    Some(match Route::found(kept) {
        Some(route) => Placed { route, template: 0 },
        None => Placed {
            route,
            template: kept as u32,
        },
    })
}

/// [`template_route`] for a new connection, which restarts the template's timer, as with IPVS.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_again(hash: u64, service: u32, now: u32) -> u64 {
    let Some(service) = service::at(service) else {
        return 0;
    };
    let Some(places) = places(hash) else { return 0 };
    let now = Tick(now);
    let found = places.find(hash, now);
    let Some(route) = backend_by(found.state) else {
        return 0;
    };
    let kind = found.state.kind_bits();
    let state = found.state.with_bits(kind, expiry(&service, now));
    let _won = state == found.state || places.update(&found, state);
    route.word()
}

/// Puts a client's template into the table, over a void one if there is any: the index of its way, plus
/// one, if it got a new one; the route of another template if another CPU was first; else 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_keep(hash: u64, state: u64, now: u32) -> u64 {
    let Some(places) = places(hash) else { return 0 };
    let found = places.find(hash, Tick(now));
    if let Some(other) = backend_by(found.state) {
        // Another CPU made one since this one looked, and the first one counts.
        count::event(Event::RaceLost);
        return other.word();
    }
    if found.exists() {
        if places.update(&found, State(state)) {
            return 0;
        }
        // Another CPU replaced the template of the failed server, and its choice counts.
        count::event(Event::RaceLost);
        return template_route(hash, now);
    }
    // Two attempts: the first may lose its way to another CPU.
    let claim = match template_claim(hash, state, now) {
        0 => template_claim(hash, state, now),
        claim => claim,
    };
    if claim == 0 {
        count::event(Event::NoTemplateWay);
        return 0;
    }
    match Inserted::unpack(template_publish(hash, state, claim, now)) {
        Inserted::Mine { index, .. } => index as u64 + 1,
        Inserted::Other(other) => Route::word_of(backend_by(other)),
        Inserted::Lost => {
            count::event(Event::RaceLost);
            0
        }
    }
}

/// Takes a way of the template table; global as `conn_claim` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_claim(hash: u64, state: u64, now: u32) -> u64 {
    let claim = places(hash).and_then(|places| places.claim(hash, State(state), Tick(now)));
    Claim::pack(claim)
}

/// Publishes a way of the template table; global as `conn_claim` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_publish(hash: u64, state: u64, claim: u64, now: u32) -> u64 {
    let (Some(places), Some(claim)) = (places(hash), Claim::unpack(claim)) else {
        return Inserted::Lost.pack();
    };
    let strongest = |rivals| {
        State(template_strongest(
            hash,
            rivals,
            Claim::pack(Some(claim)),
            now,
        ))
    };
    let inserted = places.publish_by(&claim, hash, (State(state), Tick(now)), strongest);
    inserted.pack()
}

/// See `conn_strongest` of the connection table.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_strongest(hash: u64, rivals: u32, claim: u64, now: u32) -> u64 {
    match (places(hash), Claim::unpack(claim)) {
        (Some(places), Some(claim)) => places.strongest(rivals, &claim, hash, Tick(now)).0,
        _ => 0,
    }
}

/// [`Family::describe_template`] of IPv6, see [`crate::conn::conn_describe_v6`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn template_describe_v6(
    ctx: *mut xdp_md,
    service: u32,
    index: u32,
    now: u32,
    names: u64,
) -> u32 {
    let (Ok(flow), Some(service)) = (FlowV6::named(&Frame::new(ctx), names), service::at(service))
    else {
        return 0;
    };
    write_info(&flow, &service, index, Tick(now));
    1
}

/// See [`Family::describe_template`].
#[inline(always)]
pub fn write_info<F: Family>(flow: &F, service: &service::Found, index: u32, now: Tick) {
    let Some(info) = TEMPLATE_INFO.get_ptr_mut(index) else {
        return;
    };
    let value = FlowInfo {
        client: flow.masked_client(service.get().client_mask),
        vip: flow.vip(),
        client_port_be: 0,
        vip_port_be: flow.ports_be().1,
        protocol: flow.protocol(),
        family: F::NUMBER,
        flags: 0,
        service: service.index,
        created: now.0,
        way_back: [0; 2],
    };
    // SAFETY: a map value that belongs to the way this CPU holds.
    unsafe { atomic::store_info(info, &value) };
}
