//! Tables of another size, filled from those of a predecessor while its program goes on with them.
//!
//! A way is its flow's hash and state, whatever the size of the table: it is put into the new one by the
//! same protocol of claims as a packet's. All living ways go over at the start, and again and again those
//! that changed meanwhile, the last time when the new program is on the interface: what the old one wrote
//! in between is then there too, unless the new one was faster. Counts of connections are in a map of their
//! own, which both programs share, so nothing is counted here.
//!
//! The old table of stages goes on as `last-STAGES` until the old programs are gone, since the kernel
//! empties one that nobody holds; so an agent that ends at any point of this leaves whole programs and
//! tables.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::tick::Tick;

use super::flows::{CONNECTIONS, Flows, TEMPLATES, mapped};
use super::found::max_entries;
use super::load::{self, STAGES, Sizes};
use super::{Ebpf, Options, read};
use crate::dataplane::Error;
use crate::dataplane::mmap::MappedArray;
use crate::dataplane::pins::Pins;

/// The map with a bit per place that was full.
const OVERFLOWS: &str = "OVERFLOWS";

/// What is under way.
pub(super) struct Moving {
    tables: Vec<Table>,
    overflows: Option<Overflows>,
    /// Maps that come in the place of others.
    names: Vec<&'static str>,
    /// Whether the pinned maps are the new ones.
    changed_over: bool,
    /// Interfaces that no old program is on any more.
    done: BTreeSet<u32>,
}

/// One table.
struct Table {
    what: &'static str,
    old: Flows,
    new: Flows,
    /// What was seen of each old way.
    seen: Vec<u64>,
    moved: u64,
    /// Entries that found no way, or took that of another.
    left_out: u64,
}

/// Marks of full places.
struct Overflows {
    old: MappedArray<u64>,
    new: MappedArray<u64>,
}

/// Makes these maps once more, in the sizes that are wanted.
pub(super) fn begin(
    options: &Options,
    sizes: &Sizes,
    resized: &[&'static str],
) -> Result<Moving, Error> {
    let pins = Pins::new(&options.instance);
    let entries = |name: &str| max_entries(&pins.map(name)).unwrap_or(0);
    let is_resized = |name: &str| resized.contains(&name);
    let tables = [
        ("connections", CONNECTIONS, sizes.conn_places),
        ("templates", TEMPLATES, sizes.template_places),
    ];
    let tables = tables.into_iter().filter(|(_, maps, _)| is_resized(maps.0));
    let old: Vec<_> = tables
        .map(|of| Ok((of, Flows::open(&pins, of.1, entries(of.1.0))?)))
        .collect::<Result<_, Error>>()?;
    let marks = if is_resized(OVERFLOWS) {
        Some(mapped(&pins, OVERFLOWS, entries(OVERFLOWS))?)
    } else {
        None
    };
    // Of its own, so that no old entry leads to programs over new tables, nor the other way round.
    let names: Vec<_> = resized.iter().copied().chain([STAGES]).collect();
    load::make_next(options, sizes, &names)?;
    let tables = old.into_iter().map(|((what, maps, places), old)| {
        let new = Flows::open(&pins, maps, places)?;
        let seen = vec![0; usize::try_from(old.info.len()).unwrap_or(0)];
        let (moved, left_out) = (0, 0);
        Ok(Table {
            what,
            old,
            new,
            seen,
            moved,
            left_out,
        })
    });
    let tables = tables.collect::<Result<_, Error>>()?;
    let overflows = match marks {
        None => None,
        Some(old) => Some(Overflows {
            old,
            new: mapped(&pins, OVERFLOWS, entries(OVERFLOWS))?,
        }),
    };
    Ok(Moving {
        tables,
        overflows,
        names,
        changed_over: false,
        done: BTreeSet::new(),
    })
}

/// What is left to do after a predecessor that ended between two interfaces: the programs.
pub(super) fn unfinished(pins: &Pins) -> Option<Moving> {
    pins.has_last(STAGES).then(|| Moving {
        tables: Vec::new(),
        overflows: None,
        names: Vec::new(),
        changed_over: true,
        done: BTreeSet::new(),
    })
}

impl Moving {
    /// Brings what is new in the old tables into the new ones.
    fn pass(&mut self, now: Tick) {
        for table in &mut self.tables {
            table.pass(now, self.changed_over);
        }
        if let Some(Overflows { old, new }) = &self.overflows {
            spread(old, new);
        }
    }

    /// What is said of it.
    fn notes(&self) -> impl Iterator<Item = String> {
        self.tables.iter().map(|table| {
            let Table {
                what,
                moved,
                left_out,
                ..
            } = table;
            let (from, to) = (table.old.info.len() / 2, table.new.info.len() / 2);
            let left_out = match left_out {
                0 => String::new(),
                some => format!(", of which {some} found no room or took that of others"),
            };
            format!(
                "the table of {what} was made for {from} and is made for {to} now: {moved} entries of the \
                 previous run go over{left_out}"
            )
        })
    }
}

impl Table {
    fn pass(&mut self, now: Tick, changed_over: bool) {
        let ways = self.old.places.all_words().chunks_exact(2);
        for ((at, way), seen) in (0..).zip(ways).zip(&mut self.seen) {
            let [key, word] = way else { continue };
            let (hash, state) = (
                key.load(Ordering::Acquire),
                State(word.load(Ordering::Acquire)),
            );
            let mark = hash.rotate_left(32) ^ state.0;
            let claimed = state.kind() == Kind::Claimed;
            // A way that changes hands is looked at again next time.
            if *seen == mark || claimed || state.is_free(now) == 1 || !state.belongs_to(hash) {
                continue;
            }
            let first = *seen == 0;
            *seen = mark;
            let info = self.old.info.read(at);
            let put = put(&self.new, (hash, state), now, changed_over);
            if let Some(index) = put.way {
                self.new.info.write(index, &info);
            }
            self.moved += u64::from(first);
            self.left_out += u64::from(put.is_left_out);
        }
    }
}

/// What became of an entry.
struct Put {
    /// The way that it was put into.
    way: Option<u32>,
    /// Whether there is an entry less than there should be.
    is_left_out: bool,
}

/// Puts an entry into its table. One that stands there is as old, until the new program is at work.
fn put(table: &Flows, (hash, state): (u64, State), now: Tick, changed_over: bool) -> Put {
    use xdp_lb_common::conn::table::Inserted;
    let places = table.places(hash, None);
    let found = places.find(hash, now);
    if found.exists() {
        let is_put = !changed_over && places.update(&found, state);
        return Put {
            way: is_put.then(|| places.index(found.in_second, found.way)),
            is_left_out: false,
        };
    }
    // Two attempts: the first may lose its way to a CPU.
    let claim = places
        .claim(hash, state, now)
        .or_else(|| places.claim(hash, state, now));
    let Some(claim) = claim else {
        return Put {
            way: None,
            is_left_out: true,
        };
    };
    match places.publish(&claim, hash, state, now) {
        Inserted::Mine { index, evicted } => Put {
            way: Some(index),
            is_left_out: evicted,
        },
        // A packet was faster.
        Inserted::Other(_) | Inserted::Lost => Put {
            way: None,
            is_left_out: false,
        },
    }
}

/// Marks the places of a table that the flows of another's marked places have. Places are the low bits of
/// a hash, so those of the smaller table stand for every so-manieth of the larger.
fn spread(old: &MappedArray<u64>, new: &MappedArray<u64>) {
    let (old, new) = (old.all_words(), new.all_words());
    for at in 0..old.len().max(new.len()) {
        let (Some(from), Some(to)) = (
            at.checked_rem(old.len()).and_then(|at| old.get(at)),
            at.checked_rem(new.len()).and_then(|at| new.get(at)),
        ) else {
            continue;
        };
        let marks = from.load(Ordering::Relaxed);
        if marks != 0 {
            to.fetch_or(marks, Ordering::Relaxed);
        }
    }
}

impl Ebpf {
    /// Begins to fill tables of another size.
    pub(super) fn move_in(&mut self, moving: Option<Moving>) -> Result<(), Error> {
        let Some(mut moving) = moving else {
            return Ok(());
        };
        moving.pass(read::tick(&mut self.object)?.short());
        self.notes.extend(moving.notes());
        self.tables.filling = true;
        self.moving = Some(moving);
        Ok(())
    }

    /// Brings over what the predecessor's program wrote meanwhile.
    pub(super) fn catch_up(&mut self, now: Tick) {
        if let Some(moving) = &mut self.moving {
            moving.pass(now);
        }
    }

    /// The last moment before the program goes onto interfaces: the new tables are those that count.
    pub(super) fn change_over(&mut self) -> Result<(), Error> {
        let Some(moving) = &mut self.moving else {
            return Ok(());
        };
        if !moving.changed_over {
            self.pins.change_over(&moving.names, STAGES)?;
            moving.pass(read::tick(&mut self.object)?.short());
            moving.changed_over = true;
        }
        Ok(())
    }

    /// No old program is on this interface any more; the end of all this if it was the last.
    pub(super) fn moved_to(&mut self, ifindex: u32) -> Result<(), Error> {
        let Some(moving) = &mut self.moving else {
            return Ok(());
        };
        moving.pass(read::tick(&mut self.object)?.short());
        moving.done.insert(ifindex);
        let links = self.pins.links()?;
        if moving.changed_over && links.iter().all(|link| moving.done.contains(&link.ifindex)) {
            self.moving = None;
            self.tables.filling = false;
            self.pins.forget_last(STAGES)?;
        }
        Ok(())
    }
}
