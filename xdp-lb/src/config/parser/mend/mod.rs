//! Braces that are missing or too many: which edit makes the most of the file fit.
//!
//! In: the tokens. Out: [`Repair`]s for the builder of the tree, in the order of the file; none for a
//! file whose braces balance and whose keywords stand where they can.
//!
//! Every way of reading the file has a [`Cost`]: what stands where it cannot, and each brace that is
//! added or ignored, weighs [`hard`](Cost::hard); lines whose indentation does not show their block
//! decide among readings that weigh the same. So indentation alone never moves anything, while a
//! keyword that only the outer block can hold does. A reading is a [`State`], a stack of open blocks;
//! [`Search`] goes through the file once with the few cheapest ones, so the time is linear.

mod event;
mod fit;
mod state;

pub(super) use event::indent;

use super::super::lexer::Token;
use super::super::source::Sources;
use event::{Event, Events, Kind};
use state::State;

/// What the builder does at a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repair {
    /// Index of the token.
    pub(super) at: usize,
    /// What to do there.
    pub(super) edit: Edit,
}

/// See [`Repair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// End that many blocks before the token.
    Close(usize),
    /// Pass over the token, a `}`.
    Ignore,
}

/// What a brace that is added or ignored weighs.
const EDIT: u32 = 10;

/// How good a reading is; less is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// Edits and keywords that stand where they cannot.
    hard: u32,
    /// Lines whose indentation tells otherwise.
    soft: u32,
}

/// Finds the braces to add and to ignore.
pub(super) fn repairs(tokens: &[Token], sources: &Sources) -> Vec<Repair> {
    let mut as_it_is = State::default();
    for event in Events::new(tokens, None) {
        as_it_is.read(&event);
    }
    as_it_is.end();
    // A file that balances takes two edits at least to balance otherwise.
    if as_it_is.balanced && as_it_is.doubt().hard <= 2 * EDIT {
        return Vec::new();
    }
    let best = Search::default().run(Events::new(tokens, Some(sources)));
    if best.cost.hard >= as_it_is.cost.hard && as_it_is.balanced {
        return Vec::new();
    }
    best.repairs()
}

/// The cheapest readings so far, cheapest first.
struct Search<'t> {
    states: Vec<State<'t>>,
    /// Steps that may still be taken; then the cheapest reading goes on without repairs.
    steps: usize,
    /// Events that may still be looked at in vain by [`Search::skip_sound_blocks`].
    looks: usize,
}

impl Default for Search<'_> {
    fn default() -> Self {
        Self {
            states: vec![State::default()],
            steps: Self::STEPS,
            looks: Self::STEPS,
        }
    }
}

impl<'t> Search<'t> {
    /// Readings that are followed.
    const WIDTH: usize = 24;
    /// How much worse than the best a reading may be.
    const MARGIN: u32 = 3 * EDIT + 4;
    /// Enough for many mistakes in the longest file; a bound for what is no configuration at all.
    const STEPS: usize = 1_000_000;

    fn run(mut self, mut events: Events<'t>) -> State<'t> {
        loop {
            self.skip_sound_blocks(&mut events);
            let Some(event) = events.next() else {
                break;
            };
            self.step(&event);
        }
        for state in &mut self.states {
            state.end();
        }
        self.states.sort_by_key(|state| state.cost);
        self.states.into_iter().next().unwrap_or_default()
    }

    fn step(&mut self, event: &Event<'t>) {
        if self.steps == 0 {
            self.states.truncate(1);
            for state in &mut self.states {
                state.read(event);
            }
            return;
        }
        let best = self.states.first().map_or(0, |state| state.cost.hard);
        let mut next = Vec::with_capacity(self.states.len() * 3);
        for state in self.states.drain(..) {
            state.read_every_way(event, best + Self::MARGIN, &mut next);
        }
        self.steps = self.steps.saturating_sub(next.len());
        // Stable: among equals the reading with the fewer or later repairs was there first.
        next.sort_by_key(|state| state.cost);
        let limit = next.first().map_or(0, |state| state.cost.hard) + Self::MARGIN;
        for state in next {
            if self.states.len() >= Self::WIDTH || state.cost.hard > limit {
                break;
            }
            if !self.states.iter().any(|kept| kept.is_where(&state)) {
                self.states.push(state);
            }
        }
    }

    /// Goes past top-level blocks with nothing wrong in them or behind them: whatever was open before
    /// them is not.
    fn skip_sound_blocks(&mut self, events: &mut Events<'t>) {
        while let Some(state) = self.states.first().filter(|state| state.is_at_root()) {
            let mut looked = 0;
            let Some((behind, ahead)) = sound_block(state.clone(), events, self.looks, &mut looked)
            else {
                self.looks = self.looks.saturating_sub(looked);
                return;
            };
            *events = ahead;
            self.states = vec![behind];
        }
    }
}

/// The reading behind the next top-level block, if nothing is wrong up to the line after it. Looks at
/// `most` events and counts them in `looked`.
fn sound_block<'t>(
    mut state: State<'t>,
    events: &Events<'t>,
    most: usize,
    looked: &mut usize,
) -> Option<(State<'t>, Events<'t>)> {
    let mut ahead = events.clone();
    let doubt = state.doubt();
    loop {
        let event = ahead.next()?;
        *looked += 1;
        if *looked > most || (*looked == 1 && event.kind != Kind::Open) {
            return None;
        }
        state.read(&event);
        if state.doubt() != doubt {
            return None;
        }
        if state.is_at_root() {
            break;
        }
    }
    let mut next = state.clone();
    if let Some(event) = ahead.clone().next() {
        next.read(&event);
    }
    (next.doubt() == doubt).then_some((state, ahead))
}
