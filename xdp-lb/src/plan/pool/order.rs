//! What operators order at runtime: whom they mean, and what becomes of the overrides.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::{Override, Overrides};
use crate::config::model::{Config, RealServer, ServiceKey, VirtualServer};
use crate::plan::installed::ServerKey;

/// Names listed in a message.
const LISTED: usize = 8;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Of whom.
    pub target: Target,
    /// What.
    pub what: What,
}

/// A real server of a virtual service, as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its address, mark or group.
    pub service: Asked,
    /// `tcp` or `udp`; may be missing if only one of them has such a service.
    pub protocol: Option<String>,
    /// Address and port of the real server; port 0 if its address says enough.
    pub server: SocketAddr,
}

/// What is to become of its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// This weight, drained no more; `None`: that of the file again.
    Weight(Option<u32>),
    /// No new connections.
    Drain,
    /// As before it was drained.
    Undrain,
}

/// Nobody is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such service.
    #[error("there is no virtual service {asked}; there is {known}")]
    Service {
        /// As it was named.
        asked: String,
        /// Those that exist.
        known: String,
    },
    /// Several services have that address, or are of that group.
    #[error("{asked} is a service of tcp and of udp; say {asked}/tcp or {asked}/udp")]
    Ambiguous {
        /// As it was named.
        asked: Asked,
    },
    /// The service has no such real server.
    #[error("{service} has no real server {asked}; it has {known}")]
    Server {
        /// The service.
        service: ServiceKey,
        /// As it was named.
        asked: SocketAddr,
        /// Those that it has.
        known: String,
    },
}

/// Carries an order out; what was done, in words.
pub fn carry_out(
    overrides: &mut Overrides,
    config: &Config,
    order: &Order,
) -> Result<String, Unknown> {
    let (server, configured) = find(config, &order.target)?;
    let said = overrides.entry(server).or_default();
    match order.what {
        What::Weight(weight) => {
            *said = Override {
                weight,
                is_drained: false,
            };
        }
        What::Drain => said.is_drained = true,
        What::Undrain => said.is_drained = false,
    }
    let said = *said;
    if said == Override::default() {
        overrides.remove(&server);
    }
    let (service, address) = server;
    Ok(match said {
        Override {
            is_drained: true, ..
        } => format!("{address} of {service} is drained: its clients stay, new ones go elsewhere"),
        Override {
            weight: Some(weight),
            ..
        } => format!("{address} of {service} has weight {weight} now ({configured} in the file)"),
        Override { weight: None, .. } => {
            format!("{address} of {service} has the weight of the file, {configured}")
        }
    })
}

/// The server that is meant, and its weight in the file.
fn find(config: &Config, target: &Target) -> Result<(ServerKey, u32), Unknown> {
    let (key, service) = service(config, target)?;
    let asked = target.server;
    let mut servers = service.real_servers.iter();
    let exact = servers.find(|server| server.address == asked);
    let found = exact.or_else(|| {
        // An address alone is enough where it is that of one server.
        let is_meant =
            |server: &&RealServer| asked.port() == 0 && server.address.ip() == asked.ip();
        let mut servers = service.real_servers.iter().filter(is_meant);
        servers.next().filter(|_| servers.next().is_none())
    });
    let Some(server) = found else {
        return Err(Unknown::Server {
            service: key,
            asked,
            known: list(service.real_servers.iter().map(|server| server.address)),
        });
    };
    Ok(((key, server.address), server.weight))
}

fn service<'a>(
    config: &'a Config,
    target: &Target,
) -> Result<(ServiceKey, &'a VirtualServer), Unknown> {
    let asked = target.service;
    let meant = asked.meant(config, target.protocol.as_deref());
    if meant.len() > 1 {
        return Err(Unknown::Ambiguous { asked });
    }
    let mut services = config.services();
    let found = meant
        .first()
        .and_then(|key| services.find(|(other, _)| other == key));
    found.ok_or_else(|| Unknown::Service {
        asked: match &target.protocol {
            Some(protocol) => format!("{protocol}/{asked}"),
            None => asked.to_string(),
        },
        known: list(config.services().map(|(key, _)| key)),
    })
}

fn list<T: fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<_> = names.map(|name| name.to_string()).collect();
    let more = names.len().saturating_sub(LISTED);
    let listed = names.iter().take(LISTED).cloned().collect::<Vec<_>>();
    match (listed.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => listed.join(", "),
        (false, more) => format!("{} and {more} more", listed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Endpoint, Frontend, Protocol};
    use crate::plan::testing::{endpoint, websocket};

    fn order(service: &str, protocol: Option<&str>, server: &str, what: What) -> Order {
        let target = Target {
            service: service.parse().unwrap(),
            protocol: protocol.map(str::to_owned),
            server: server.parse().unwrap(),
        };
        Order { target, what }
    }

    fn said(config: &Config, order: &Order) -> String {
        let done = carry_out(&mut Overrides::new(), config, order);
        done.unwrap_or_else(|unknown| unknown.to_string())
    }

    #[test]
    fn who_is_not_there_is_told_from_who_is() {
        let config = websocket();
        let ask = |service, protocol, server| {
            said(&config, &order(service, protocol, server, What::Drain))
        };
        let (vip, server) = ("192.168.1.200:80", "192.168.1.102:80");
        assert_eq!(
            ask("192.168.1.200:81", None, server),
            "there is no virtual service 192.168.1.200:81; there is tcp/192.168.1.200:80"
        );
        assert_eq!(
            ask(vip, Some("udp"), server),
            "there is no virtual service udp/192.168.1.200:80; there is tcp/192.168.1.200:80"
        );
        assert_eq!(
            ask(vip, Some("tcp"), "192.168.1.9:80"),
            "tcp/192.168.1.200:80 has no real server 192.168.1.9:80; it has 192.168.1.102:80, 192.168.1.103:80"
        );
        let order = order(vip, None, server, What::Drain);
        assert!(said(&Config::default(), &order).ends_with("there is none"));
    }

    #[test]
    fn a_name_that_two_services_have_is_not_guessed_at() {
        let mut config = websocket();
        let mut udp = config.virtual_servers[0].clone();
        udp.frontend = Frontend::Endpoint(Endpoint {
            protocol: Protocol::Udp,
            ..endpoint(0)
        });
        config.virtual_servers.push(udp);
        let ask = |protocol| {
            let order = order(
                "192.168.1.200:80",
                protocol,
                "192.168.1.102:80",
                What::Drain,
            );
            said(&config, &order)
        };
        assert_eq!(
            ask(None),
            "192.168.1.200:80 is a service of tcp and of udp; say 192.168.1.200:80/tcp or 192.168.1.200:80/udp"
        );
        assert!(
            ask(Some("udp")).starts_with("192.168.1.102:80 of udp/192.168.1.200:80 is drained")
        );
    }

    #[test]
    fn an_address_of_a_group_and_its_name_mean_all_of_it() {
        let text = "virtual_server_group web {\n10.0.0.1 80\n10.0.0.2-3 443\nfwmark 7\n}\n\
                    virtual_server group web {\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
                    real_server 10.0.0.11 80 {\n}\n}\n\
                    virtual_server fwmark 1 {\nlb_algo rr\nlb_kind DR\n\
                    real_server 10.0.0.11 {\n}\nreal_server 10.0.0.12 {\n}\n}\n";
        let loaded = crate::config::parse("test.conf", text.as_bytes());
        let config = loaded
            .unwrap_or_else(|found| panic!("{}", found.render(false)))
            .config;
        let ask = |service, server| said(&config, &order(service, None, server, What::Drain));
        let drained = |service: &str, server: &str| {
            format!("{server} of {service} is drained: its clients stay, new ones go elsewhere")
        };
        for name in ["group:web", "10.0.0.1:80", "10.0.0.3:443", "fwmark:7"] {
            let expected = drained("tcp/group:web", "10.0.0.11:80");
            assert_eq!(ask(name, "10.0.0.11:80"), expected, "{name}");
        }
        // The port says nothing where there is one server of the address.
        let expected = drained("fwmark/1", "10.0.0.12:0");
        assert_eq!(ask("FWM 1", "10.0.0.12:0"), expected);
        assert_eq!(
            ask("fwmark:2", "10.0.0.12:0"),
            "there is no virtual service fwmark:2; there is tcp/group:web, fwmark/1"
        );
    }

    #[test]
    fn a_drain_remembers_the_weight_before_it() {
        let (config, mut overrides) = (websocket(), Overrides::new());
        let mut give = |what| {
            let order = order("192.168.1.200:80", None, "192.168.1.102:80", what);
            carry_out(&mut overrides, &config, &order).unwrap();
            let said = overrides.values().next().copied();
            said.map(|said| (said.weight, said.is_drained))
        };
        assert_eq!(give(What::Weight(Some(5))), Some((Some(5), false)));
        assert_eq!(give(What::Drain), Some((Some(5), true)));
        assert_eq!(give(What::Undrain), Some((Some(5), false)));
        assert_eq!(give(What::Drain), Some((Some(5), true)));
        assert_eq!(give(What::Weight(Some(6))), Some((Some(6), false)));
        assert_eq!(give(What::Weight(None)), None);
        assert_eq!(give(What::Undrain), None, "nothing to undo is no error");
    }
}
