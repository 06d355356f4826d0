//! Direct routing: the frame goes to the real server as it is, but for its MACs and TTL.

use aya_ebpf::bindings::xdp_action;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::backend::{BACKEND_LOCAL, Backend, Identity};
use xdp_lb_common::reason::Reason;

use crate::conn::{Route, identity};
use crate::family::Family;
use crate::maps::{BACKENDS, TX_PORTS};
use crate::packet::{Frame, Packet};
use crate::parse::ETHERNET;
use crate::{count, service};

/// Sends a packet to its real server.
#[inline(always)]
pub fn send<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    route: Route,
) -> Result<(Reason, u32), Reason> {
    let backend = BACKENDS
        .get_ptr(route.backend())
        .ok_or(Reason::Inconsistent)?;
    let identity = identity(backend);
    let is_local = identity.flags() & BACKEND_LOCAL != 0;
    if packet.ttl <= 1 && !is_local {
        return Err(Reason::TtlExpired);
    }
    count::traffic(service.index, route, packet.len as u64);
    if is_local {
        return Err(Reason::Local);
    }
    rewrite(frame, packet, backend, identity)?;
    // SAFETY: a map value. While a server moves to another interface, a packet may meet the old one
    // with the new MAC; the network drops it, as it would have a moment before.
    let ifindex = unsafe { (*backend).ifindex };
    if ifindex == frame.ifindex() {
        return Ok((reason(TX, route.via()), xdp_action::XDP_TX));
    }
    match TX_PORTS.redirect(ifindex, 0) {
        Ok(action) => Ok((reason(REDIRECT, route.via()), action)),
        Err(_) => Ok((Reason::RedirectFailed, xdp_action::XDP_DROP)),
    }
}

/// Reasons by how the route was found.
const TX: [Reason; 4] = [
    Reason::TxConnection,
    Reason::TxScheduled,
    Reason::TxPersistent,
    Reason::TxStateless,
];
const REDIRECT: [Reason; 4] = [
    Reason::RedirectConnection,
    Reason::RedirectScheduled,
    Reason::RedirectPersistent,
    Reason::RedirectStateless,
];

#[inline(always)]
fn reason(by_via: [Reason; 4], via: u32) -> Reason {
    match via & 3 {
        0 => by_via[0],
        1 => by_via[1],
        2 => by_via[2],
        _ => by_via[3],
    }
}

/// Writes both MACs and lowers the TTL, as IPVS does.
#[inline(always)]
fn rewrite<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    backend: *const Backend,
    identity: Identity,
) -> Result<(), Reason> {
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: a map value; userspace changes the word whole while packets read.
    let source = Mac(unsafe { (&raw const (*backend).source_mac).read_volatile() });
    let low = identity.mac().0 | source.0 << 48;
    let high = (source.0 >> 16) as u32;
    // SAFETY: the two headers lie within the frame, checked above.
    unsafe {
        frame.write(0, low);
        frame.write(8, high);
        F::lower_hops(frame, packet.ttl - 1);
    }
    Ok(())
}
