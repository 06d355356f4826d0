//! Persistence: which server a client sticks to.

use std::net::IpAddr;

use xdp_lb_common::addr::Address;
use xdp_lb_common::persist::{mask_v4, template_hash_v4, template_hash_v6};
use xdp_lb_common::reason::Event;

use crate::config::model::{Persistence, Protocol};
use crate::plan::installed::ServerKey;

use super::journey::{Journey, Via};
use super::table::{At, Entry};
use super::{Client, Memory, Template};

impl Journey<'_> {
    /// The server that the client sticks to, for a new connection, which starts its time anew.
    pub(super) fn again(&self, memory: &mut Memory) -> Option<ServerKey> {
        let server = self.template(memory)?;
        let (at, _) = self.template_at(memory)?;
        let until = memory.after(self.persistence_ticks(memory));
        memory.templates.at(at)?.until = until;
        Some(server)
    }

    /// The client sticks to a server from here on, if the service has it so.
    pub(super) fn stick(&mut self, memory: &mut Memory, server: ServerKey) {
        let Some((key, hash)) = self.client(memory) else {
            return;
        };
        let life = memory
            .servers
            .get(&server)
            .map(|s| s.life)
            .unwrap_or_default();
        let value = Template {
            server,
            life,
            confirmed: false,
        };
        let until = memory.after(self.persistence_ticks(memory));
        // In the place of one that is void.
        let before = self.template_at(memory);
        if let Some(entry) = before.and_then(|(at, _)| memory.templates.at(at)) {
            (entry.value, entry.until) = (value, until);
            return;
        }
        let entry = Entry {
            key,
            hash,
            value,
            until,
        };
        if memory.templates.insert(entry, memory.now).is_err() {
            self.events.push(Event::NoTemplateWay);
        }
    }

    fn persistence_ticks(&self, memory: &Memory) -> u32 {
        memory
            .services
            .get(&self.key)
            .map_or(0, |service| service.persistence_ticks)
    }

    /// What names the client's template, if the service is persistent.
    fn client(&self, memory: &Memory) -> Option<(Client, u64)> {
        let service = memory.services.get(&self.key)?;
        let Persistence { prefix_len, .. } = service.persistence?;
        let index = service.index;
        let ip = self.packet.client.ip();
        let hash = match ip {
            IpAddr::V4(v4) => {
                let client_be = u32::from_ne_bytes(v4.octets());
                template_hash_v4(&memory.coefficients, index, client_be, mask_v4(prefix_len))
            }
            IpAddr::V6(_) => {
                let client = Address::from_ip(ip).0;
                template_hash_v6(&memory.coefficients_v6, index, client, prefix_len.into())
            }
        };
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let net = ipnet::IpNet::new(ip, prefix_len.min(bits)).ok()?;
        Some(((index, net.network()), hash))
    }

    fn template_at(&self, memory: &Memory) -> Option<(At, Template)> {
        let (client, hash) = self.client(memory)?;
        let (at, entry) = memory.templates.find(&client, hash, memory.now)?;
        Some((at, entry.value))
    }

    /// The server that the client sticks to.
    pub(super) fn template(&self, memory: &Memory) -> Option<ServerKey> {
        let (_, template) = self.template_at(memory)?;
        memory.holds(&template).then_some(template.server)
    }

    /// A connection of the client to this server is no accident: its template stays.
    pub(super) fn confirm_template(&self, memory: &mut Memory, server: ServerKey) {
        let Some((at, template)) = self.template_at(memory) else {
            return;
        };
        if template.server != server || !memory.takes_packets(&server, template.life) {
            return;
        }
        let until = memory.after(self.persistence_ticks(memory));
        if let Some(entry) = memory.templates.at(at) {
            (entry.value.confirmed, entry.until) = (true, until);
        }
    }

    /// A datagram without a way that found its template is not the client's first one. (A TCP connection
    /// without a way confirms its template by its ACK.)
    pub(super) fn confirm_again(&self, memory: &mut Memory, (server, via): (ServerKey, Via)) {
        if via == Via::Persistent && self.packet.protocol == Protocol::Udp {
            self.confirm_template(memory, server);
        }
    }
}

impl Memory {
    /// Whether a template holds: its server neither failed nor releases its clients.
    fn holds(&self, template: &Template) -> bool {
        let server = self.servers.get(&template.server);
        self.takes_packets(&template.server, template.life) && server.is_some_and(|s| !s.releases)
    }
}
