//! The key of the hash: the cluster's, a predecessor's, or a new one.

use std::path::Path;

use aya::maps::MapData;
use xdp_lb_common::hash::HashKey;

use crate::dataplane::Error;
use crate::dataplane::pins::Pins;

/// The cluster's key: the pinned one, else the one that is wanted, else a new one from the kernel.
pub(super) fn hash_key(
    pins: &Pins,
    took_over: bool,
    wanted: Option<HashKey>,
) -> Result<HashKey, Error> {
    let pinned = if took_over {
        pinned_key(&pins.map("KEY"))
    } else {
        None
    };
    match pinned {
        Some(key) if key != HashKey::default() => Ok(key),
        _ => wanted.map_or_else(random_key, Ok),
    }
}

pub(super) fn pinned_key(path: &Path) -> Option<HashKey> {
    let map = aya::maps::Map::from_map_data(MapData::from_pin(path).ok()?).ok()?;
    aya::maps::Array::<_, HashKey>::try_from(map)
        .ok()?
        .get(&0, 0)
        .ok()
}

fn random_key() -> Result<HashKey, Error> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.map_err(|error| {
        Error::Load(format!(
            "cannot read /dev/urandom for the hash key: {error}"
        ))
    })?;
    let (k0, k1) = bytes.split_at(8);
    let word = |half: &[u8]| half.try_into().map_or(0, u64::from_ne_bytes);
    Ok(HashKey {
        k0: word(k0),
        k1: word(k1),
    })
}
