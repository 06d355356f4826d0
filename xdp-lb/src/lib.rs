//! The agent of xdp-lb, as a library: a guided tour.
//!
//! A keepalived.conf becomes a [`config::model::Config`] ([`config`]). Health checks ([`health`],
//! [`probe`]) and the network ([`net`]) say what is alive and where; [`plan`] turns all of that into
//! the tables that the kernel must hold and the steps that lead there; [`agent`] drives the machines
//! and is the only writer of the [`dataplane`]. [`control`] and [`telemetry`] only read snapshots.
//! [`cli`] is what users type; [`realserver`] is the other side of direct routing; [`sys`] is the
//! machine the agent runs on.
//!
//! [`vrrp`] decides who owns which VIP.
//!
//! [`sync`] keeps the tables of the directors of a cluster alike.
//!
//! `config`, `vrrp`, `health`, `plan` and `sync` are pure: no sockets, no clock, no tasks, and but for reading the
//! configuration no files. [`machine`] is the shape of their state machines.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod health;
pub mod machine;
pub mod net;
pub mod plan;
pub mod probe;
pub mod realserver;
pub mod sync;
pub mod sys;
pub mod telemetry;
pub mod vrrp;
