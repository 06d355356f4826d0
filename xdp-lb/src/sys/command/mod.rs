//! Commands that the configuration names: check scripts, notify scripts, what reads a FIFO.
//!
//! [`resolve`] finds out once which program a [`Command`](crate::config::model::Command) is, who runs
//! it and whether that is safe; what comes out is a [`Runnable`](resolve::Runnable). [`run`] runs it
//! and says how it ended; [`notify`] does so in order, one at a time; [`fifo`] tells the same events
//! to whoever reads a named pipe. Decisions are apart, and pure: [`safety`] on the facts of a path,
//! [`notify::Backlog`] on what waits, [`run::judge`] on how a process ended.
//!
//! A process has its own group, no standard input, the root folder as its own, and of the agent's
//! environment only what names paths, language and time zone. A user other than the agent's has
//! neither its supplementary groups nor its own ones but the one given, as under keepalived.

pub mod safety;
mod way;

pub mod resolve;

pub mod run;

pub mod notify;

pub mod fifo;
