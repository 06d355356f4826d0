//! The agent: drives the pure machines and is the only writer of the data plane and the links.
//!
//! [`host`] opens what an agent is made of on this host; [`run`] is its life from there to the last of
//! its [`signals`], with [`reload`] to say what a new file changes. In between, [`health`] drives the
//! health checks and [`vrrp`] says which VIPs are owned; [`reconciler`] waits for any of them, or the
//! network, to change, works out what the tables should hold and lets its [`writer`] take the steps
//! there, on the interfaces that [`placement`] names. [`track`] watches what VRRP instances track,
//! [`notify`] tells scripts, pipes and people what became of them. [`announce`] knows when gratuitous ARP is due,
//! [`journal`] which VIPs were added; [`links`] adds them. [`drive`] is the one loop that runs any
//! machine. [`seams`] names what the agent needs of the kernel, so that all of this is tested without
//! one.
//!
//! Nothing here decides whether a server lives, what a table holds or in which order it changes: that
//! is in [`crate::health`] and [`crate::plan`], which are pure.

pub mod host;
pub mod reload;
pub mod run;
pub mod signals;

pub mod health;
pub mod vrrp;

pub mod notify;
pub mod track;

pub mod announce;
pub mod journal;
pub mod links;
pub mod placement;
pub mod reconciler;
pub mod writer;

pub mod drive;
mod ebpf;
pub mod seams;
#[cfg(test)]
pub(crate) mod testing;
