//! The pinned tables of connections and templates, mapped: changed as the program changes them, by the
//! protocol of `xdp_lb_common::conn::table`.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData};
use xdp_lb_common::conn::State;
use xdp_lb_common::conn::table::{Place, PlaceMemory, Places};
use xdp_lb_common::flow::FlowInfo;
use xdp_lb_common::hash::{first_place, second_place};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::load::Load;

use super::standing::count_change;
use crate::dataplane::Error;
use crate::dataplane::mmap::MappedArray;
use crate::dataplane::pins::Pins;

/// The maps of the connections: ways, and what they are.
pub(super) const CONNECTIONS: (&str, &str) = ("CONNS", "CONN_INFO");

/// The same of the templates.
pub(super) const TEMPLATES: (&str, &str) = ("TEMPLATES", "TEMPLATE_INFO");

/// A table and what its ways are.
pub(super) struct Flows {
    pub(super) places: MappedArray<PlaceMemory>,
    pub(super) info: MappedArray<FlowInfo>,
    mask: u32,
}

impl Flows {
    /// The pinned one of so many places.
    pub(super) fn open(
        pins: &Pins,
        (table, info): (&str, &str),
        places: u32,
    ) -> Result<Self, Error> {
        let ways = places * u32::try_from(WAYS).unwrap_or(1);
        Ok(Self {
            places: mapped(pins, table, places)?,
            info: mapped(pins, info, ways)?,
            mask: places - 1,
        })
    }

    /// The places of a flow. Its connections are counted in `loads`, if they are new.
    pub(super) fn places<'a>(
        &'a self,
        hash: u64,
        loads: Option<&'a MappedArray<Load>>,
    ) -> Places<MappedPlace<'a>> {
        let (first_at, second_at) = (first_place(hash, self.mask), second_place(hash, self.mask));
        let place = |at| MappedPlace {
            words: self.places.words(at),
            loads,
        };
        Places {
            first: place(first_at),
            second: place(second_at),
            first_at,
            second_at,
        }
    }
}

/// A place of a mapped table.
pub(super) struct MappedPlace<'a> {
    words: &'a [AtomicU64],
    /// Where connections are counted.
    loads: Option<&'a MappedArray<Load>>,
}

impl MappedPlace<'_> {
    fn load(&self, at: usize) -> u64 {
        self.words
            .get(at)
            .map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn swap(&self, at: usize, old: u64, new: u64) -> bool {
        self.words.get(at).is_some_and(|word| {
            word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        })
    }
}

impl Place for MappedPlace<'_> {
    fn key(&self, way: usize) -> u64 {
        self.load(way * 2)
    }

    fn state(&self, way: usize) -> State {
        State(self.load(way * 2 + 1))
    }

    fn swap_key(&self, way: usize, old: u64, new: u64) -> bool {
        self.swap(way * 2, old, new)
    }

    fn swap_state(&self, way: usize, old: State, new: State) -> bool {
        self.swap(way * 2 + 1, old.0, new.0)
    }

    fn moved(&self, old: State, new: State) {
        if let Some(loads) = self.loads {
            count_change(loads, old, new);
        }
    }
}

pub(super) fn mapped<T: aya::Pod>(
    pins: &Pins,
    name: &str,
    len: u32,
) -> Result<MappedArray<T>, Error> {
    let cannot = |why: &dyn std::fmt::Display| {
        Error::Load(format!("cannot open the pinned table '{name}': {why}"))
    };
    let data = MapData::from_pin(pins.map(name)).map_err(|error| cannot(&error))?;
    match Map::from_map_data(data).map_err(|error| cannot(&error))? {
        Map::Array(map) => MappedArray::new(map.fd(), len).map_err(|error| cannot(&error)),
        _ => Err(cannot(&"it is of another type")),
    }
}
