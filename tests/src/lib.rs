//! The harness: a cluster on one machine, for the lab and for the end-to-end suites.
//!
//! [`netns`] makes network namespaces and runs code inside them; [`link`] and [`lan`] join them to a
//! switched network like the one a director and its real servers share; [`xdp`] puts on the
//! switch's end what a veth needs there; [`process`] runs programs inside and keeps their output;
//! [`wait`] waits for what they do; [`http`] and [`metrics`] read what the agent serves; [`capture`]
//! counts frames as the switch sees them; [`interrupt`] turns Ctrl-C into an error that unwinds.
//! [`packet`] writes frames and [`program`] runs an XDP program on them without any of this.
//! [`director`] is a small cluster around the real agent.
//!
//! Everything is undone on drop, on failure and panic alike, in names that no other run has. What
//! should happen is for the suites to say.

pub mod interrupt;
pub mod wait;

pub mod netns;

pub mod lan;
pub mod link;
pub mod xdp;

pub mod process;

pub mod capture;
pub mod http;
pub mod metrics;

pub mod director;

pub mod packet;
pub mod program;
