//! What a director knows: its agent's pinned table of connections, read as the program reads it.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use xdp_lb::dataplane::mmap::MappedArray;
use xdp_lb::dataplane::pins::Pins;
use xdp_lb::sync::key::{Keys, Secret};
use xdp_lb_common::conn::table::PlaceMemory;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::FlowV4;
use xdp_lb_common::hash::{Coefficients, first_place, second_place};
use xdp_lb_tests::generator::{CLIENT, CLIENT_PORT, PORT};

use crate::site::{SECRET, VIP};

/// The number of TCP.
const TCP: u8 = 6;

pub(crate) struct Known {
    places: MappedArray<PlaceMemory>,
    mask: u32,
}

impl Known {
    /// That of a running agent.
    ///
    /// # Errors
    /// When its tables do not exist yet.
    pub(crate) fn open(instance: &str) -> Result<Self> {
        let map = MapData::from_pin(Pins::new(instance).map("CONNS"))?;
        let places = map.info()?.max_entries();
        Ok(Self {
            places: MappedArray::new(map.fd(), places)?,
            mask: places - 1,
        })
    }

    /// Established connections.
    pub(crate) fn established(&self) -> usize {
        let ways = self.places.all_words().chunks_exact(2);
        let states = ways.filter_map(|way| Some(State(way.get(1)?.load(Ordering::Relaxed))));
        states
            .filter(|state| state.kind() == Kind::Established)
            .count()
    }

    /// Whether it has an established connection with this hash.
    pub(crate) fn holds(&self, hash: u64) -> bool {
        let places = [first_place(hash, self.mask), second_place(hash, self.mask)];
        let mut ways = places
            .into_iter()
            .flat_map(|place| self.places.words(place).chunks_exact(2));
        ways.any(|way| {
            let [key, state] = way else { return false };
            // The state last: it is published after the key.
            key.load(Ordering::Acquire) == hash
                && State(state.load(Ordering::Acquire)).kind() == Kind::Established
        })
    }
}

/// How directors of the cluster hash the flows of a generator.
pub(crate) struct Hashes(Coefficients);

impl Hashes {
    pub(crate) fn of_cluster() -> Result<Self> {
        let secret = Secret::new(SECRET.into()).context("the secret is too short")?;
        let keys = Keys::of(&secret).context("no keys")?;
        Ok(Self(Coefficients::of(keys.hash_key())))
    }

    /// Of a flow, by its number.
    pub(crate) fn of(&self, flow: u32) -> u64 {
        let flow = FlowV4 {
            client_be: CLIENT.wrapping_add(flow).to_be(),
            vip_be: u32::from_ne_bytes(VIP.octets()),
            client_port_be: CLIENT_PORT.to_be(),
            vip_port_be: PORT.to_be(),
            protocol: TCP,
        };
        flow.hash(&self.0)
    }
}
