//! What a predecessor left, and whether it can be gone on with.

use std::path::Path;

use aya::maps::MapData;

use super::load::{PINNED, Sizes};
use crate::dataplane::Error;
use crate::dataplane::pins::Pins;

/// What a predecessor left.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// All that there has to be.
    Fitting,
    /// The same, but for the sizes of these.
    OfOtherSizes(Vec<&'static str>),
    /// Something else.
    Unusable(String),
}

pub(super) fn found(pins: &Pins, sizes: &Sizes) -> Found {
    if !pins.exist() {
        return Found::Nothing;
    }
    if let Some(missing) = PINNED.iter().find(|name| !pins.map(name).exists()) {
        return Found::Unusable(format!("{missing} is missing among the pinned maps"));
    }
    let old = Sizes {
        conn_places: max_entries(&pins.map("CONNS")).unwrap_or(0),
        template_places: max_entries(&pins.map("TEMPLATES")).unwrap_or(0),
    };
    for (name, entries) in old.entries() {
        let is = max_entries(&pins.map(name)).unwrap_or(0);
        // Less than a word of marks there never is.
        if is != entries || is == 0 {
            return Found::Unusable(format!("{name} has {is} entries and not {entries}"));
        }
    }
    let now = sizes.entries();
    let other = old.entries().into_iter().zip(now);
    let other = other.filter(|(old, new)| old.1 != new.1);
    let names: Vec<_> = other.map(|((name, _), _)| name).collect();
    if names.is_empty() {
        Found::Fitting
    } else {
        Found::OfOtherSizes(names)
    }
}

/// How many entries a pinned map has.
pub(super) fn max_entries(path: &Path) -> Option<u32> {
    MapData::from_pin(path)
        .ok()?
        .info()
        .ok()
        .map(|info| info.max_entries())
}

/// Removes what a predecessor left.
pub(super) fn give_up(pins: &Pins, why: &str, notes: &mut Vec<String>) -> Result<(), Error> {
    notes.push(given_up(why));
    pins.remove()
}

/// What is said of that.
pub(super) fn given_up(why: &str) -> String {
    format!(
        "connections of the previous run are given up: {why}; before such a change stop xdp-lb by SIGTERM, \
         so that the peer takes them over"
    )
}
