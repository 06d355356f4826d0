//! What is to be checked.

use crate::config::model::{self, Config};
use crate::plan::installed::ServerKey;

/// A real server and its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub server: ServerKey,
    /// All must pass. None: always up.
    pub checks: Vec<model::Check>,
}

/// The real servers of a configuration, in the order of the file.
pub fn targets(config: &Config) -> Vec<Target> {
    let of_service = |(key, service): (_, &model::VirtualServer)| {
        let target = move |server: &model::RealServer| Target {
            server: (key, server.address),
            checks: server.checks.clone(),
        };
        service.real_servers.iter().map(target).collect::<Vec<_>>()
    };
    config.services().flat_map(of_service).collect()
}
