//! keepalived.conf.

pub mod model;
