//! A route: which real server a packet goes to, and how that was found.

use core::num::NonZeroU64;

use xdp_lb_common::backend::{BACKEND_USABLE, Backend, Identity};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::reason::Reason;
pub use xdp_lb_common::watch::Via;

use crate::maps::BACKENDS;

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

    /// The route of [`Self::word_of`], if it was one.
    #[inline(always)]
    pub fn found(word: u64) -> Option<Self> {
        if word & Self::SET.get() == 0 {
            None
        } else {
            Some(Self::of(word))
        }
    }

    /// As one word, 0 for none: functions that the verifier checks on their own return nothing larger.
    #[inline(always)]
    pub fn word_of(route: Option<Self>) -> u64 {
        route.map_or(0, Self::word)
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

    /// The same route, for a packet that opens a connection if `opens` is 1; one that is known is not opened.
    #[inline(always)]
    pub(super) fn opening_if(self, opens: u64) -> Self {
        let is_new = (self.via() != Via::Connection as u32) as u64;
        Self(self.0 | (is_new & opens) << 42)
    }

    /// The same route, for a packet by which its connection's way changes to the kind of this number.
    #[inline(always)]
    pub(super) fn changing(self, kind: u64) -> Self {
        Self(self.0 | (kind & 0xf) << 43)
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

/// A route with the backend that it leads to, which is looked up once a packet.
#[derive(Clone, Copy)]
pub struct Target {
    /// The route.
    pub route: Route,
    /// The backend, in the map.
    pub backend: *const Backend,
}

impl Target {
    /// The target of a route, from wherever that came.
    #[inline(always)]
    pub fn of(route: Route) -> Result<Self, Reason> {
        let backend = BACKENDS
            .get_ptr(route.backend())
            .ok_or(Reason::Inconsistent)?;
        Ok(Self { route, backend })
    }

    /// See [`Route::changing`].
    #[inline(always)]
    pub(super) fn changing(self, kind: u64) -> Self {
        Self {
            route: self.route.changing(kind),
            ..self
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
    // Not by way of a target: of half a `None` the compiler makes registers that were never written.
    route_to(BACKENDS.get_ptr(index)?, index, via)
}

#[inline(always)]
fn route_to(backend: *const Backend, index: u32, via: Via) -> Option<Route> {
    let identity = identity(backend);
    if identity.flags() & BACKEND_USABLE == 0 {
        return None;
    }
    Some(Route::new(index, identity.generation(), via))
}

#[inline(always)]
fn target(index: u32, via: Via) -> Option<Target> {
    let backend = BACKENDS.get_ptr(index)?;
    let route = route_to(backend, index, via)?;
    Some(Target { route, backend })
}

/// The backend of an entry, if there is one and it is of the backend's present generation.
#[inline(always)]
pub fn target_of(state: State, via: Via) -> Option<Target> {
    if state.0 == 0 {
        return None;
    }
    let target = target(state.backend(), via)?;
    if target.route.generation() == state.generation() {
        Some(target)
    } else {
        None
    }
}

/// [`target_of`], its route alone.
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
