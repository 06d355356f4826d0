//! From what is wanted and what is known to the tables the kernel must hold.
//!
//! [`desired`] says what the tables hold; [`pool`] says who is in the pool of each service, from
//! configuration, verdicts and what operators said; [`table`] computes all tables from there, from
//! ownership and network, with [`carriers`] for what VRRP says of a service, [`belongings`] for what
//! comes with VIPs, [`groups`] for multicast and [`routing`] for the words of routes and rules; [`interfaces`] and [`vlans`] say
//! what the program sees where; [`installed`] keeps what stands by
//! now, step by step; [`diff`] orders the steps from there to what is wanted. All of it is pure.

pub mod belongings;
pub mod carriers;
pub mod desired;
pub mod diff;
pub mod groups;
pub mod installed;
pub mod interfaces;
pub mod pool;
pub mod routing;
pub mod table;
pub mod vlans;

#[cfg(test)]
pub(crate) mod testing;
