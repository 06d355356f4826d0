//! What the XDP program and the agent share: the layout of every map, and all arithmetic of the
//! packet path, so that it can be tested on the host.
//!
//! In reading order: [`limits`] sizes the tables; [`addr`] holds addresses as maps hold them;
//! [`service`] finds the virtual service of a packet, whose
//! gate [`lease`] may close; [`flow`] names a connection and [`hash`] keys
//! it; [`conn`] is the set-associative table that connections and persistence templates live in;
//! [`persist`] names a template; [`schedule`] says how new connections are placed, [`select`] and
//! [`hashed`] lay out the tables for it and [`load`] counts connections; [`backend`] says where a
//! packet goes and [`method`] what is changed for it, [`checksum`] what follows from that; [`answer`] is what
//! clients are told, [`relay`] of errors about tunnels; [`stage`] lists
//! the programs, [`decided`] is what they hand on, [`reason`] counts why and [`watch`] tells it; what [`opaque`] hides
//! keeps the verifier short.
//!
//! Nothing here touches a socket, a clock, a map or a packet. Without the feature `user` the crate
//! is what the kernel side links: no `std`, no allocation.
//!
//! Byte order: fields named `*_be` hold network order, everything else is the host's.
#![cfg_attr(not(any(feature = "user", test)), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "words are packed and taken apart here: each cast keeps the bits that its field has"
)]

pub mod addr;
pub mod answer;
pub mod backend;
pub mod checksum;
pub mod conn;
pub mod decided;
pub mod flow;
pub mod hash;
pub mod hashed;
pub mod host;
pub mod lease;
pub mod limits;
pub mod load;
pub mod method;
pub mod opaque;
pub mod persist;
pub mod pod;
pub mod reason;
pub mod relay;
pub mod schedule;
pub mod select;
pub mod service;
pub mod stage;
pub mod tick;
pub mod vlan;
pub mod watch;
