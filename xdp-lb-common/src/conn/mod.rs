//! The set-associative table of connections (and, in a table of its own, of persistence templates).
//!
//! A flow has two candidate *places* of 8 *ways*. A way is two words: the keyed hash of the flow
//! (the *key*), and a [`State`] word that holds expiry, check bits, generation, kind and backend.
//!
//! - [`state`]: the state word and what a TCP packet does to it.
//! - [`table`]: lookup and insertion over a [`table::Place`], which the packet path implements over
//!   map memory and tests over atomics.
//!
//! **Races.** All CPUs share the table without a lock. Every change of a state word is one 64-bit
//! compare-and-exchange, and so is the change of a key. An inserting CPU first takes the way (kind
//! `CLAIMED`, which nobody evicts), then writes the key, then looks for another way with the same key
//! in both places, and only then publishes. Of two CPUs that insert the same flow, at least one sees
//! the other, and both come to the same winner; so a flow never has two servers. A lookup reads key,
//! state, key: the state it returns belonged to that key.

mod found;
pub mod state;
pub mod table;

pub use state::{Kind, State};
