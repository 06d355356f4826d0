//! One reading of the file up to some place.

use std::cmp::Ordering;
use std::rc::Rc;

use super::event::{Event, Kind};
use super::fit::fit;
use super::{Cost, EDIT, Edit, Repair};
use crate::config::keywords::Scope;
use crate::config::parser::MAX_DEPTH;

/// An open block, or the top level.
#[derive(Clone)]
pub(super) struct Frame<'t> {
    /// The block it stands in; the top level has none.
    pub(super) parent: Option<Rc<Self>>,
    /// Tells it and the blocks around it from others.
    hash: u64,
    /// What it holds; `None` for a block that the table does not know.
    pub(super) scope: Option<Scope>,
    /// Indentation of its head.
    head: Option<&'t str>,
    /// Indentation of the first line in it.
    inside: Option<&'t str>,
    /// Keywords in it that count once, as [`Fit::bit`](super::fit::Fit) says.
    pub(super) seen: u128,
    /// A block of the top level stood in it.
    pub(super) held_root_block: bool,
}

impl Default for Frame<'_> {
    fn default() -> Self {
        Self {
            parent: None,
            hash: 0,
            scope: Some(Scope::Root),
            head: None,
            inside: None,
            seen: 0,
            held_root_block: false,
        }
    }
}

impl Frame<'_> {
    /// The blocks around it, the nearest first, and the top level.
    pub(super) fn around(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.parent.as_deref(), |frame| frame.parent.as_deref())
    }
}

/// Repairs, the last one first.
struct Trail {
    repair: Repair,
    before: Option<Rc<Self>>,
}

impl Drop for Trail {
    /// One after the other: a long trail must not need a deep stack.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut trail) = next.and_then(Rc::into_inner) {
            next = trail.before.take();
        }
    }
}

/// A reading.
#[derive(Clone)]
pub(super) struct State<'t> {
    top: Rc<Frame<'t>>,
    /// Blocks open.
    depth: usize,
    /// Blocks open below [`MAX_DEPTH`], which the builder drops.
    too_deep: usize,
    pub(super) cost: Cost,
    /// What of it comes from words that nobody knows.
    unknown: u32,
    /// No `}` closed nothing, and at the end nothing is open.
    pub(super) balanced: bool,
    trail: Option<Rc<Trail>>,
}

impl Default for State<'_> {
    fn default() -> Self {
        Self {
            top: Rc::default(),
            depth: 0,
            too_deep: 0,
            cost: Cost::default(),
            unknown: 0,
            balanced: true,
            trail: None,
        }
    }
}

impl<'t> State<'t> {
    /// What may be wrong with braces: a word that nobody knows is a slip of another kind.
    pub(super) const fn doubt(&self) -> Cost {
        Cost {
            hard: self.cost.hard.saturating_sub(self.unknown),
            ..self.cost
        }
    }

    /// Whether no block is open.
    pub(super) const fn is_at_root(&self) -> bool {
        self.depth == 0 && self.too_deep == 0
    }

    /// Whether both stand in the same blocks.
    pub(super) fn is_where(&self, other: &Self) -> bool {
        self.depth == other.depth
            && self.too_deep == other.too_deep
            && self.top.hash == other.top.hash
    }

    /// Goes on as the file stands.
    pub(super) fn read(&mut self, event: &Event<'t>) {
        if self.is_too_deep(event) {
            return;
        }
        match event.kind {
            Kind::Line | Kind::Open => self.place(event),
            Kind::Close if self.depth == 0 => self.closes_nothing(),
            Kind::Close => self.close(event),
        }
    }

    /// The end of the file.
    pub(super) fn end(&mut self) {
        let open = self.depth + self.too_deep;
        self.balanced &= open == 0;
        self.edit(u32::try_from(open).unwrap_or(u32::MAX));
    }

    /// Goes on in every way that costs at most `limit`, as it stands first.
    pub(super) fn read_every_way(self, event: &Event<'t>, limit: u32, out: &mut Vec<Self>) {
        // The last of the blocks is ended by the `}` itself.
        let most = match event.kind {
            _ if self.too_deep > 0 => 0,
            Kind::Line | Kind::Open => self.depth,
            Kind::Close => self.depth.saturating_sub(1),
        };
        let mut base = self.clone();
        for ended in 0..=most {
            if ended > 0 {
                base.pop();
                base.edit(1);
            }
            if base.cost.hard > limit {
                break;
            }
            let mut next = base.clone();
            if ended > 0 {
                next.note(event.at, Edit::Close(ended));
            }
            next.read(event);
            out.push(next);
        }
        if event.kind == Kind::Close && !self.is_at_root() && self.too_deep == 0 {
            let mut ignoring = self;
            ignoring.edit(1);
            ignoring.note(event.at, Edit::Ignore);
            out.push(ignoring);
        }
    }

    /// The repairs, in the order of the file.
    pub(super) fn repairs(&self) -> Vec<Repair> {
        let last = self.trail.as_deref();
        let trail = std::iter::successors(last, |trail| trail.before.as_deref());
        let mut repairs: Vec<Repair> = trail.map(|trail| trail.repair).collect();
        repairs.reverse();
        repairs
    }

    /// Follows the builder where it drops what is nested too deep.
    fn is_too_deep(&mut self, event: &Event<'t>) -> bool {
        match event.kind {
            Kind::Open if self.too_deep > 0 || self.depth >= MAX_DEPTH => self.too_deep += 1,
            Kind::Close if self.too_deep > 0 => self.too_deep -= 1,
            Kind::Line | Kind::Open | Kind::Close => return self.too_deep > 0,
        }
        true
    }

    /// Puts a line, and the block it opens, into the innermost block.
    fn place(&mut self, event: &Event<'t>) {
        let fit = fit(&self.top, event);
        self.cost.hard = self.cost.hard.saturating_add(fit.cost);
        if fit.unknown {
            self.unknown = self.unknown.saturating_add(fit.cost);
        }
        self.cost.soft +=
            u32::from(
                event
                    .indent
                    .is_some_and(|indent| match (self.top.inside, self.top.head) {
                        (Some(inside), _) => compare(indent, inside).is_some_and(Ordering::is_ne),
                        (None, Some(head)) => compare(indent, head).is_some_and(Ordering::is_le),
                        (None, None) => false,
                    }),
            );
        let first = self.top.inside.is_none() && event.indent.is_some();
        if first || fit.bit & !self.top.seen != 0 || fit.root_block {
            let top = Rc::make_mut(&mut self.top);
            top.inside = top.inside.or(event.indent);
            top.seen |= fit.bit;
            top.held_root_block |= fit.root_block;
        }
        if event.kind == Kind::Open {
            // As hashes go: different odd factors for the block and for those around it.
            let around = self.top.hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let hash = (around ^ (event.at as u64 + 1)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let frame = Frame {
                parent: Some(Rc::clone(&self.top)),
                hash: hash ^ (hash >> 32),
                scope: fit.block,
                head: event.indent,
                ..Frame::default()
            };
            self.top = Rc::new(frame);
            self.depth += 1;
        }
    }

    /// `}` ends the innermost block.
    fn close(&mut self, event: &Event<'t>) {
        if let (Some(indent), Some(head)) = (event.indent, self.top.head) {
            let strange = compare(indent, head).is_some_and(Ordering::is_ne);
            self.cost.soft += u32::from(strange);
        }
        self.pop();
    }

    const fn closes_nothing(&mut self) {
        self.balanced = false;
        self.edit(1);
    }

    fn pop(&mut self) {
        if let Some(parent) = self.top.parent.clone() {
            self.top = parent;
            self.depth -= 1;
        }
    }

    const fn edit(&mut self, braces: u32) {
        self.cost.hard = self.cost.hard.saturating_add(braces.saturating_mul(EDIT));
    }

    fn note(&mut self, at: usize, edit: Edit) {
        self.trail = Some(Rc::new(Trail {
            repair: Repair { at, edit },
            before: self.trail.take(),
        }));
    }
}

/// Which of two indentations is deeper; `None` when tabs against spaces leave it open.
fn compare(one: &str, other: &str) -> Option<Ordering> {
    (one.starts_with(other) || other.starts_with(one)).then(|| one.len().cmp(&other.len()))
}
