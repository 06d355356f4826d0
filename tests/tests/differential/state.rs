//! What stands in the tables and counters of both data planes in the end.

use std::collections::BTreeMap;

use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::ServerCounters;
use xdp_lb::dataplane::memory::Way;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::tick::MASK;

use crate::rig::{Rig, difference};

impl Rig {
    /// What stands in the tables of connections and templates, to the way.
    pub(crate) fn compare_tables(&self) -> Result<(), String> {
        let tables = [
            ("connections", &self.conns, self.model.connection_ways()),
            ("templates", &self.templates, self.model.template_ways()),
        ];
        for (name, memory, ways) in tables {
            let entry = |way: Way| {
                let until = way.until.0.wrapping_sub(self.passed) & MASK;
                (
                    (way.place, way.way),
                    (way.hash, format!("{:?}", way.kind), until),
                )
            };
            let expected: BTreeMap<_, _> = ways.into_iter().map(entry).collect();
            let mut found = BTreeMap::new();
            for place in 0..memory.len() {
                for (way, [key, state]) in memory.read(place).ways.into_iter().enumerate() {
                    let state = State(state);
                    if state.kind() != Kind::Free {
                        let entry = (key, format!("{:?}", state.kind()), state.expiry().0);
                        found.insert((place, way), entry);
                    }
                }
            }
            if found != expected {
                let only = |one: &BTreeMap<_, _>, other: &BTreeMap<_, _>| -> Vec<_> {
                    let entries = one
                        .iter()
                        .filter(|(at, entry)| other.get(*at) != Some(*entry));
                    entries.map(|entry| format!("{entry:x?}")).take(5).collect()
                };
                return Err(format!(
                    "{name} differ at (place, way)\nprogram: {:?}\nmodel:   {:?}",
                    only(&found, &expected),
                    only(&expected, &found)
                ));
            }
        }
        Ok(())
    }

    /// What is counted for services and servers.
    pub(crate) fn compare_counters(&mut self) -> Result<(), String> {
        let found = self.ebpf().counters().unwrap();
        // The program's tables may have been swept just now, or not.
        let before = self.model.counters().unwrap();
        self.model.tend().unwrap();
        let after = self.model.counters().unwrap();
        if found.services != before.services {
            let (found, model) = (&found.services, &before.services);
            return Err(format!(
                "services count\nprogram: {found:?}\nmodel:   {model:?}"
            ));
        }
        for (key, server) in &found.servers {
            let [unswept, swept] = [&before, &after].map(|counters| counters.servers.get(key));
            let fits = |model: &&ServerCounters| {
                (model.stats, model.active, model.inactive)
                    == (server.stats, server.active, server.inactive)
            };
            if !unswept.iter().chain(&swept).any(fits) {
                return Err(format!(
                    "{key:?} counts\nprogram: {server:?}\nmodel:   {unswept:?}"
                ));
            }
        }
        let (one, other) = (found.servers.len(), before.servers.len());
        difference("numbers of servers", &one, &other).map_or(Ok(()), Err)
    }
}
