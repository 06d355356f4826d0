//! From what is wanted and what is known to the tables the kernel must hold.
//!
//! [`desired`] says what the tables hold; [`table`] computes it from configuration, ownership, health
//! and network; [`diff`] orders the steps from one to the next. All of it is pure.

pub mod desired;
pub mod diff;
pub mod table;
