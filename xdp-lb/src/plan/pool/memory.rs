//! What of the past of pools a successor has to know, beside the verdicts, which stand in the tables.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::quorum::Quorum;
use super::slow_start::{Return, STEPS, growth};
use super::{Pool, Pools};
use crate::config::model::{Config, ServiceKey, VirtualServer};
use crate::machine::Now;
use crate::plan::installed::ServerKey;

/// What is handed on. Whatever else there is, verdicts, overrides and the file say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Quorums with a margin, by whether they were met.
    pub quorums: BTreeMap<ServiceKey, bool>,
    /// Servers that grow, and how long they have been back.
    pub growing: BTreeMap<ServerKey, Duration>,
}

/// Whether anything is ever handed on of a service. Of most there is not, and verdicts on their servers must
/// not wait until all pools have been looked through.
pub(super) fn is_told_of(service: &VirtualServer) -> bool {
    let mut servers = service.real_servers.iter();
    service.quorum.hysteresis > 0 || servers.any(|server| server.slow_start.is_some())
}

impl Pools {
    /// Begins with what a predecessor knew.
    #[must_use]
    pub fn recalling(mut self, now: Now, memory: &Memory) -> Self {
        for (service, is_met) in &memory.quorums {
            let pool = self.known.entry(*service).or_default();
            pool.quorum = Quorum::recalled(*is_met);
        }
        for ((service, address), age) in &memory.growing {
            let pool = self.known.entry(*service).or_default();
            let came = Return::earlier(now, *age);
            pool.returns.insert(*address, Some(came));
        }
        self
    }

    /// Whether what is handed on may have changed since this was asked last.
    pub fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// What is to be handed on.
    pub fn memory(&self, now: Now, config: &Config) -> Memory {
        let mut memory = Memory::default();
        for (key, service) in config.services() {
            let Some(pool) = self.known.get(&key) else {
                continue;
            };
            if service.quorum.hysteresis > 0 {
                memory.quorums.insert(key, pool.quorum.is_met());
            }
            let growing = pool.growing(service, now);
            let growing = growing.map(|(server, age)| ((key, server), age));
            memory.growing.extend(growing);
        }
        memory
    }
}

impl Pool {
    /// Those that have not grown to their full weight, and how long they have been back.
    fn growing<'a>(
        &'a self,
        service: &'a VirtualServer,
        now: Now,
    ) -> impl Iterator<Item = (SocketAddr, Duration)> + 'a {
        service.real_servers.iter().filter_map(move |server| {
            let came = (*self.returns.get(&server.address)?)?;
            let grown = growth(came, server.slow_start?, now);
            (grown.tenths < STEPS).then_some((server.address, came.age(now)))
        })
    }
}
