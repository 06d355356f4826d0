//! What a file says about a service, as one number that two directors compare.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

use super::record::ServiceName;
use crate::config::model::{Config, Endpoint, VirtualServer};

/// The views of all services of a configuration.
pub fn views(config: &Config) -> BTreeMap<ServiceName, u64> {
    let services = config.members().filter_map(|member| {
        let mut entrances: Vec<Endpoint> = config.entrances(&member.key).collect();
        entrances.sort_unstable();
        let name = ServiceName::of(&member.key)?;
        Some((name, view(member.service, &entrances)))
    });
    services.collect()
}

/// Whatever decides where a connection goes: scheduler, persistence, servers and their weights, and
/// what gets the mark of a service by mark. Not their order, which is nobody's intention; nor whether
/// the service is one of a group.
fn view(service: &VirtualServer, entrances: &[Endpoint]) -> u64 {
    let mut servers: Vec<(SocketAddr, u32)> = service
        .real_servers
        .iter()
        .map(|server| (server.address, server.weight))
        .collect();
    servers.sort_unstable();
    let mut hash = SipHasher13::new_with_keys(0, 0);
    service.scheduler.hash(&mut hash);
    service.persistence.is_some().hash(&mut hash);
    servers.hash(&mut hash);
    entrances.hash(&mut hash);
    service
        .sorry_server
        .map(|sorry| sorry.address)
        .hash(&mut hash);
    hash.finish()
}
