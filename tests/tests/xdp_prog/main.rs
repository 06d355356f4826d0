//! The XDP program itself, packet by packet, through the kernel's program test run.
//!
//! [`director`] loads the real program and sets its tables up by the code that the agent uses;
//! [`tables`] has the words to say what is in them and which packets come; [`eyes`] reads what the
//! program left in the maps; [`case`] holds a list of fixtures against all of that. The suites follow
//! in the order of the packet path: [`parse`], [`ipv6`], [`gate`], [`schedule`] and [`balance`], [`persist`], [`marks`], [`state`],
//! [`failure`], [`full`], [`flood`], [`forward`], fragments: [`fragment`], [`fragment_v6`], long ones: [`jumbo`], tagged ones: [`vlan`], and errors about all of that: [`icmp`], [`icmp_v6`], with fragments of what is [`translated`], what of that has no route: [`way_back`], and about tunnels themselves: [`tunnel_error`]; [`answers`] are made here. [`resize`] starts with tables of another size. [`fence`] lets
//! the agent fall silent, [`localnode`] has two directors serve each other. [`length`] sends whatever is hardly a packet, [`race`] and
//! [`purge`] send from two [`cpus`] at once, [`count`] asks the data plane itself and [`look`] the program.
//!
//! Each test runs in a network namespace of its own, and each case on maps of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test whose tools break has failed, and says so"
)]

mod case;
mod cpus;
mod dice;
mod director;
mod eyes;
mod pinned;
mod tables;
mod told;
mod wire;

mod ipv6;
mod parse;

mod gate;

mod balance;
mod schedule;

mod marks;
mod persist;
mod state;

mod failure;
mod flood;
mod full;

mod fence;
mod localnode;
mod resize;

mod forward;

mod answers;
mod fragment;
mod fragment_v6;
mod icmp;
mod icmp_v6;
mod jumbo;
mod nat;
mod translated;
mod tunnel;
mod tunnel_error;
mod vlan;
mod way_back;

mod length;

mod purge;
mod race;

mod count;
mod look;
