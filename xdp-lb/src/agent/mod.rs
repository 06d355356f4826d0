//! The agent: drives the pure machines and is the only writer of the data plane and the links.
//!
//! [`host`] opens what an agent is made of on this host; [`run`] is its life from there to the last of
//! its [`signals`], with [`reload`] to say what a new file changes. In between, [`health`] drives the
//! health checks and [`vrrp`], on a thread of its own, the elections of who owns which VIPs, beside
//! which stands what they hear of and whom they tell ([`outside`]): [`track`] watches what instances
//! track, [`notify`] tells scripts, pipes and people what became of them. [`reconciler`] waits for any
//! change of these or of the network, works out what the tables should hold and lets its [`writer`]
//! take the steps there, on the interfaces that [`placement`] names. [`pulse`] tells the program that
//! the agent and its elections live. [`announce`] paces gratuitous ARP,
//! [`journal`] knows which VIPs were added; [`links`] adds them. [`looks`] answers what operators ask about
//! single packets. [`drive`] is the one loop that runs any
//! machine. [`seams`] names what the agent needs of the kernel, so that all of this is tested without
//! one.
//!
//! Nothing here decides whether a server lives, what a table holds or in which order it changes: that
//! is in [`crate::health`] and [`crate::plan`], which are pure.

pub mod host;
pub mod reload;
pub mod run;
pub mod signals;
pub mod sync;

pub mod health;
pub mod vrrp;

pub mod notify;
pub mod outside;
pub mod track;

pub mod announce;
pub mod journal;
pub mod links;
pub mod looks;
pub mod memory;
pub mod overrides;
pub mod placement;
pub mod pools;
pub mod pulse;
pub mod reconciler;
pub mod writer;

pub mod drive;
mod ebpf;
pub mod seams;
#[cfg(test)]
pub(crate) mod testing;
