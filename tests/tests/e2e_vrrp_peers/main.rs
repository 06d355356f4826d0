//! Directors that agree on who is master, whatever happens to them: xdp-lb and real keepalived, mixed.

mod flood;
mod mixed;
mod roles;
mod site;
