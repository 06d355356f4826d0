//! The same services and the same packets for two directors: the kernel's own, IPVS under keepalived, and
//! xdp-lb.
//!
//! [`case`] reads what is asked of both: a virtual service and what happens to it. [`play`] carries it out
//! before any [`play::Director`] and writes down which real server each packet went to; [`frame`] makes the
//! packets. [`choices`] compares what two directors chose. [`guest`] is the director with IPVS: frames that
//! go in by one end of a cable and come back out of it.

pub mod case;
pub mod choices;
pub mod frame;
pub mod guest;
pub mod play;
