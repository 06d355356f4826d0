//! The harness: a cluster on one machine, for the lab and for the end-to-end suites.
//!
//! [`netns`] makes network namespaces and runs code inside them; [`link`] and [`lan`] join them to a
//! switched network like the one a director and its real servers share; [`xdp`] puts on the
//! switch's end what a veth needs there; [`process`] runs programs inside and keeps their output;
//! [`wait`] waits for what they do; [`http`] and [`metrics`] read what the agent serves; [`capture`]
//! counts frames as the switch sees them; [`interrupt`] turns Ctrl-C into an error that unwinds.
//! [`packet`] writes frames and [`program`] runs an XDP program on them without any of this.
//!
//! [`machine`] gives a host processes and files of its own, so that it can be powered off; [`peer`] runs a
//! VRRP director on one, xdp-lb or keepalived; [`adverts`] hears who is master by a [`listener`], and [`stream`] asks a
//! VIP every millisecond.
//!
//! For the end-to-end suites, [`director`] runs the built agent and asks it, [`cluster`] puts one before
//! real servers, and [`traffic`] is what clients and servers say to each other; [`needs`] skips them
//! where they cannot run.
//!
//! For the benches, [`generator`] sends a program packets as fast as it takes them, and [`figures`] is the
//! table that a bench fills.
//!
//! [`ipvs`] asks the kernel's own director and ours the same; [`verifier`] asks the kernel what a program
//! costs to verify.
//!
//! Everything is undone on drop, on failure and panic alike, in names that no other run has. What is
//! right or wrong is for the suites to say.

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

pub mod packet;
pub mod program;

pub mod needs;
pub mod traffic;
pub mod tunnel;

pub mod cluster;
pub mod director;
pub mod keepalived;

pub mod adverts;
pub mod listener;
pub mod machine;
pub mod peer;
pub mod stream;

pub mod figures;
pub mod generator;

pub mod ipvs;
pub mod verifier;
