//! What it costs to read a line in a block.

use super::event::{Event, Kind};
use super::state::Frame;
use crate::config::keywords::{self, Keyword, Scope};

/// A word that no block knows.
const UNKNOWN: u32 = 1;
/// A word in a list that could be a keyword of a block around it.
const LIKE_A_KEYWORD: u32 = 1;
/// A keyword that this block cannot hold.
const MISFIT: u32 = 2;
/// A second keyword of a kind that counts once: more likely two blocks than a misfit one.
const REPEATED: u32 = 3;
/// The first block in this one that only the top level can hold: it outweighs one brace moved.
const ROOT_BLOCK: u32 = 2 * super::EDIT + 1;

/// How a line stands in a block.
pub(super) struct Fit {
    pub(super) cost: u32,
    /// The cost is that of a word that no block knows.
    pub(super) unknown: bool,
    /// What its own block holds; `None` if nobody knows.
    pub(super) block: Option<Scope>,
    /// It is a block of the top level, and this is not the top level.
    pub(super) root_block: bool,
    /// Bit in [`Frame::seen`] of a keyword that counts once.
    pub(super) bit: u128,
}

impl Fit {
    const fn free(block: Option<Scope>) -> Self {
        Self::at(0, block)
    }

    const fn at(cost: u32, block: Option<Scope>) -> Self {
        Self {
            cost,
            unknown: false,
            block,
            root_block: false,
            bit: 0,
        }
    }
}

/// Reads `event`, which is no `}`, in `frame`.
pub(super) fn fit(frame: &Frame<'_>, event: &Event<'_>) -> Fit {
    let Some(word) = event.keyword else {
        return Fit::free(None);
    };
    let known = keywords::everywhere(&word.text);
    let row = |scope: Scope| {
        let found = known.iter().find(|(where_, _)| *where_ == scope);
        found.map(|(_, keyword)| *keyword)
    };
    // The block that it opens wherever it can stand, the top level first.
    let block = known.iter().find_map(|(_, keyword)| keyword.block);
    let is_root_block = event.kind == Kind::Open
        && frame.parent.is_some()
        && row(Scope::Root).is_some_and(|keyword| keyword.block.is_some());
    let misfit = |cost: u32| {
        if !is_root_block {
            return Fit::at(cost, block);
        }
        let cost = if frame.held_root_block { 0 } else { ROOT_BLOCK };
        Fit {
            root_block: true,
            ..Fit::at(cost, block)
        }
    };
    match frame.scope {
        // Who knows what it holds? A block of the top level only if braces are missing anyway.
        None if is_root_block => Fit {
            cost: u32::from(!frame.held_root_block),
            ..misfit(0)
        },
        None => Fit::free(block),
        Some(Scope::Lines) if event.kind == Kind::Line => {
            let like = frame.around().any(|outer| {
                let found = outer.scope.and_then(row);
                found.is_some_and(|keyword| takes(keyword, event.values))
            });
            Fit::free(None).plus(if like { LIKE_A_KEYWORD } else { 0 })
        }
        Some(scope) => match row(scope) {
            Some(keyword) if event.kind == Kind::Line || keyword.block.is_some() => {
                held(frame, scope, keyword)
            }
            Some(_) | None if known.is_empty() => Fit {
                unknown: true,
                ..Fit::at(UNKNOWN, None)
            },
            Some(_) if block.is_none() => Fit::free(None),
            Some(_) | None => misfit(MISFIT),
        },
    }
}

impl Fit {
    fn plus(mut self, cost: u32) -> Self {
        self.cost += cost;
        self
    }
}

/// A keyword that the block can hold.
fn held(frame: &Frame<'_>, scope: Scope, keyword: &'static Keyword) -> Fit {
    let once = (!keyword.repeats).then(|| scope.keywords().element_offset(keyword));
    let bit = once
        .flatten()
        .and_then(|index| 1_u128.checked_shl(u32::try_from(index).ok()?))
        .unwrap_or(0);
    Fit {
        bit,
        ..Fit::at(
            if frame.seen & bit == 0 { 0 } else { REPEATED },
            keyword.block,
        )
    }
}

/// Whether the keyword takes that many values.
const fn takes(keyword: &Keyword, values: usize) -> bool {
    keyword.values.min <= values && values <= keyword.values.max
}
