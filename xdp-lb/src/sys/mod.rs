//! The machine the agent runs on: what it may do, where it keeps its things, what time the kernel
//! counts in, who supervises it.
//!
//! In the order of a start: [`privileges`], [`instance`] (one agent per name), [`bpffs`] (where pins
//! live), [`clock`] (the packet path's time), [`limits`] (how many files), [`systemd`] (ready). Each fails with one line that
//! says what to do. [`host`] answers what a configuration asks of this machine, [`firewall`] has the rules that mark packets, [`command`] runs what
//! it names, [`number`] reads
//! the files it tracks, [`pidfile`] and [`syslog`] are for those who expect a daemon. Nothing here knows of
//! packets.

pub mod privileges;

pub mod instance;

pub mod bpffs;

pub mod clock;

pub mod limits;

pub mod systemd;

pub mod host;

pub mod firewall;

pub mod command;

pub mod number;

pub mod pidfile;

pub mod syslog;
