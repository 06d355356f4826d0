//! `quorum` and `sorry_server`: what holds when too few real servers are left.

use std::net::SocketAddr;

use super::draft::{Draft, SorryDraft};
use super::real_server::{self, Ports};
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::lower::context::Context;
use crate::config::model::{Family, Forwarding, Quorum, RealServer, SorryServer};

const IGNORED: &str = "ignored, as keepalived does";

impl Draft {
    pub(super) fn quorum(&mut self, context: &mut Context<'_>, servers: &[RealServer]) -> Quorum {
        let total: u64 = servers.iter().map(|server| u64::from(server.weight)).sum();
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let asked = self.quorum.weight.unwrap_or(1);
        let weight = asked.min(total);
        if let Some(place) = self.places.quorum.filter(|_| asked > total && total > 0) {
            context.push(
                Diagnostic::warning(
                    Code::Conflict,
                    format!(
                        "'quorum {asked}' can never be reached: {total} is used, as keepalived does"
                    ),
                )
                .at(place, format!("the real servers weigh {total} together")),
            );
        }
        let margin = self.quorum.hysteresis.unwrap_or(0);
        let hysteresis = margin.min(weight.saturating_sub(1));
        if let Some(place) = self.quorum.hysteresis_place.filter(|_| margin > hysteresis) {
            context.push(
                Diagnostic::warning(
                    Code::Conflict,
                    format!("'hysteresis {margin}' is not below the quorum of {weight}: {hysteresis} is used, as keepalived does"),
                )
                .at(place, "the quorum would never be lost"),
            );
        }
        Quorum {
            weight,
            hysteresis,
            up: self.quorum.up.take(),
            down: self.quorum.down.take(),
        }
    }

    pub(super) fn sorry_server(
        &self,
        context: &mut Context<'_>,
        default: Forwarding,
        (ports, family): (Ports, Option<Family>),
    ) -> Option<SorryServer> {
        let SorryDraft {
            address,
            forwarding,
            inhibit,
            more,
        } = self.sorry;
        let (Some((ip, port)), Some(place)) = (address, self.places.sorry_server) else {
            if let Some(more) = more.filter(|_| self.places.sorry_server.is_none()) {
                context.push(
                    Diagnostic::warning(Code::Conflict, "there is no 'sorry_server'")
                        .at(more, IGNORED),
                );
            }
            return None;
        };
        let forwarding = forwarding.unwrap_or(default);
        if !real_server::fits(family, ip, forwarding) {
            context.push(real_server::other_family(ip, "sorry server", place));
            return None;
        }
        let own = port.filter(|port| *port != 0);
        let port = match (ports, own) {
            (Ports::One(port) | Ports::Grouped(port), None) => port,
            (Ports::One(port), Some(own)) if own != port && !forwarding.changes_ports() => {
                context.push(real_server::other_port(place, forwarding, own, port));
                port
            }
            (Ports::One(_) | Ports::Grouped(_), Some(own)) => own,
            (Ports::Marked, _) => 0,
        };
        Some(SorryServer {
            address: SocketAddr::new(ip, port),
            forwarding,
            inhibit,
        })
    }
}
