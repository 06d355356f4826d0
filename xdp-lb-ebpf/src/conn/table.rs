//! The connection table in map memory. What searches and changes it is
//! [`xdp_lb_common::conn::table`]; here are its words, and its rarely walked parts as functions of
//! their own.

use xdp_lb_common::addr::Mac;
use xdp_lb_common::conn::State;
use xdp_lb_common::conn::table::{Claim, Inserted, Place, PlaceMemory, Places, change, find_in};
use xdp_lb_common::flow::{FlowInfo, WayBack};
use xdp_lb_common::hash::{first_place, second_place};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::tick::Tick;

use crate::family::Family;
use crate::maps::{CONN_INFO, CONNS, OVERFLOWS};
use crate::packet::Frame;
use crate::parse::ETHERNET;
use crate::settings::CONN_MASK;
use crate::{atomic, decided, load};

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

/// A place of the connection table.
pub type Counted = MapPlace<true>;

/// Where a connection is: a way of one of its places, with the state that it was found in; state 0 for
/// none. (Not an `Option`, as [`xdp_lb_common::conn::table::Found`] is not.)
#[derive(Clone, Copy)]
pub struct Spot {
    place: Counted,
    way: usize,
    /// Index of the way.
    pub index: u32,
    /// Its state when it was read.
    pub state: State,
}

impl Spot {
    /// Whether there is a way at all.
    #[inline(always)]
    pub fn exists(&self) -> bool {
        self.state.0 != 0
    }

    /// Changes the state; whether nobody else did meanwhile.
    #[inline(always)]
    pub fn update(&self, new: State) -> bool {
        change(&self.place, self.way, self.state, new)
    }

    /// The state as it is now, if the way is still this flow's and alive; else 0.
    #[inline(always)]
    pub fn again(&self, hash: u64, now: Tick) -> State {
        let state = self.place.state(self.way);
        let is_gone = state.is_free(now) | state.is_claimed();
        if is_gone == 0 && state.belongs_to(hash) && self.place.key(self.way) == hash {
            state
        } else {
            State(0)
        }
    }
}

/// Finds a connection. The second place is not looked up unless the first one does not have it.
#[inline(always)]
pub fn spot(hash: u64, now: Tick) -> Option<Spot> {
    let mask = CONN_MASK.load();
    let at = first_place(hash, mask);
    let found = spot_in(at, hash, now)?;
    if found.exists() {
        return Some(found);
    }
    spot_in(second_place(hash, mask), hash, now)
}

#[inline(always)]
fn spot_in(at: u32, hash: u64, now: Tick) -> Option<Spot> {
    let place = MapPlace(CONNS.get_ptr_mut(at)?);
    let (way, state) = find_in(&place, hash, now);
    Some(Spot {
        place,
        way,
        index: at * WAYS as u32 + way as u32,
        state,
    })
}

/// Has the memory that a new connection's cold half will be written to looked up while the table is
/// searched: a write there waits for the page tables as long as the search does for its own. Which way it
/// will be is not known yet, but those of one place share a page.
#[inline(always)]
pub fn expect_info(hash: u64) {
    let at = first_place(hash, CONN_MASK.load());
    if let Some(info) = CONN_INFO.get_ptr(at * WAYS as u32) {
        // SAFETY: eight aligned bytes of a map value. Nobody uses them, so nothing waits for them.
        let _unused = unsafe { info.cast::<u64>().read_volatile() };
    }
}

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

/// Takes a way of the connection table. Global and of scalar arguments only, so that the verifier
/// checks it once and not once for every way a packet can get here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_claim(hash: u64, state: u64, now: u32) -> u64 {
    Claim::pack(places(hash).and_then(|places| places.claim(hash, State(state), Tick(now))))
}

/// [`conn_claim`] in line, for packets that open a connection; what only full places need is a call.
#[inline(always)]
pub fn claim(places: &Places<Counted>, hash: u64, state: State, now: Tick) -> Option<Claim> {
    places.claim_by(hash, (state, now), || conn_victim(hash, now.0))
}

/// See [`Places::victim`]: a function of its own, as only packets without a free way come here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_victim(hash: u64, now: u32) -> u32 {
    places(hash).map_or(u32::MAX, |places| places.victim(Tick(now)))
}

/// Publishes a way of the connection table; global as [`conn_claim`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_publish(hash: u64, state: u64, word: u64, now: u32) -> u64 {
    let (Some(places), Some(claim)) = (places(hash), Claim::unpack(word)) else {
        return Inserted::Lost.pack();
    };
    publish(&places, (&claim, word), hash, State(state), Tick(now)).pack()
}

/// [`conn_publish`] in line; the claim also as the word that it came as, which takes less stack than to make it
/// again.
#[inline(always)]
pub fn publish(
    places: &Places<Counted>,
    (claim, word): (&Claim, u64),
    hash: u64,
    state: State,
    now: Tick,
) -> Inserted {
    let strongest = |rivals| State(conn_strongest(hash, rivals, word, now.0));
    places.publish_by(claim, hash, (state, now), strongest)
}

/// See [`Places::strongest`]: a function of its own, as hardly any packet comes here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_strongest(hash: u64, rivals: u32, claim: u64, now: u32) -> u64 {
    match (places(hash), Claim::unpack(claim)) {
        (Some(places), Some(claim)) => places.strongest(rivals, &claim, hash, Tick(now)).0,
        _ => 0,
    }
}

/// See [`Family::describe_conn`].
#[inline(always)]
pub fn write_info<F: Family>(frame: &Frame, flow: &F, (service, index): (u32, u32), now: Tick) {
    let Some(info) = CONN_INFO.get_ptr_mut(index) else {
        return;
    };
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
        way_back: way_back(frame, now),
    };
    // SAFETY: a map value that belongs to the way this CPU holds.
    unsafe { atomic::store_info(info, &value) };
}

/// Where a frame came from.
#[inline(always)]
fn way_back(frame: &Frame, now: Tick) -> [u64; 2] {
    if !frame.holds(0, ETHERNET) {
        return [0; 2];
    }
    // SAFETY: within the Ethernet header; its source is the upper half and more.
    let upper: u64 = unsafe { frame.read(4) };
    let way = WayBack {
        mac: Mac(upper >> 16),
        ifindex: decided::network(frame),
        touched: now,
    };
    way.pack()
}

/// The bit of a flow's first place.
#[inline(always)]
fn overflow_bit(hash: u64) -> Option<(*mut u64, u64)> {
    let place = first_place(hash, CONN_MASK.load());
    Some((OVERFLOWS.get_ptr_mut(place >> 6)?, 1 << (place & 63)))
}

#[inline(always)]
pub fn mark_overflow(hash: u64) {
    if let Some((word, bit)) = overflow_bit(hash) {
        // SAFETY: eight aligned bytes of a map value.
        unsafe { atomic::set_bits(word, bit) };
    }
}

#[inline(always)]
pub fn has_overflowed(hash: u64) -> bool {
    // SAFETY: eight aligned bytes of a map value that other CPUs change whole.
    overflow_bit(hash).is_some_and(|(word, bit)| unsafe { word.read_volatile() } & bit != 0)
}
