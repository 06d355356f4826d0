//! Who is told what of a real server or a service. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::told::Deed;
use crate::config::model::{Command, Config, RealServer, ServiceKey, VirtualServer};
use crate::plan::installed::ServerKey;
use crate::plan::table::Health;
use crate::telemetry::mail::{server_subject, service_subject};

/// Something happened to a real server or to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolEvent {
    /// A real server went up or down.
    Server {
        /// Which.
        server: ServerKey,
        /// Whether it is up now.
        up: bool,
        /// Why, in words.
        reason: String,
    },
    /// A service has enough weight up again, or not any more.
    Quorum {
        /// Which.
        service: ServiceKey,
        /// Whether it has.
        gained: bool,
    },
}

/// Whose scripts run one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Those of a real server.
    Server(ServerKey),
    /// Those of a service.
    Service(ServiceKey),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server((service, server)) => write!(f, "real server {server} of {service}"),
            Self::Service(service) => write!(f, "virtual server {service}"),
        }
    }
}

/// What the configuration says about telling.
#[derive(Clone, Debug, Default)]
pub struct PoolTold {
    router_id: String,
    config: Arc<Config>,
    /// Where a service stands in the configuration.
    places: BTreeMap<ServiceKey, usize>,
}

impl PoolTold {
    /// Takes a configuration; `host` is the name of a director that has none of its own.
    pub fn configure(&mut self, config: &Arc<Config>, host: &str) {
        let router_id = config.global.router_id.as_deref().unwrap_or(host);
        router_id.clone_into(&mut self.router_id);
        self.config = Arc::clone(config);
        let services = config.virtual_servers.iter().enumerate();
        let places = services.map(|(place, service)| (service.key(), place));
        self.places = places.collect();
    }

    /// Whether anything can still be told of it.
    pub fn knows(&self, whose: &Whose) -> bool {
        match whose {
            Whose::Server(server) => self.server(*server).is_some(),
            Whose::Service(service) => self.places.contains_key(service),
        }
    }

    /// What is to be done, in this order, and whose scripts are among it.
    pub fn deeds(&self, event: &PoolEvent) -> (Whose, Vec<Deed>) {
        match event {
            PoolEvent::Server { server, up, reason } => {
                let deeds = self.of_server(*server, *up, reason);
                (Whose::Server(*server), deeds)
            }
            PoolEvent::Quorum { service, gained } => {
                let deeds = self.of_quorum(*service, *gained);
                (Whose::Service(*service), deeds)
            }
        }
    }

    /// What is to be done as the director stops: with `omega` all servers that are up go down, then the
    /// service, also one whose quorum is lost. Nobody gets mail: that a director stops is no news of
    /// its servers.
    pub fn at_the_end(&self, health: &Health) -> Vec<(Whose, Vec<Deed>)> {
        let mut all = Vec::new();
        for (key, service) in self.config.services().filter(|(_, service)| service.omega) {
            for server in &service.real_servers {
                let name = (key, server.address);
                if health.get(&name).is_none_or(|health| health.up) {
                    let deeds =
                        scripts_and_line(server.notify_down.as_ref(), server_line(name, false));
                    all.push((Whose::Server(name), deeds));
                }
            }
            let down = service.quorum.down.as_ref();
            let deeds = scripts_and_line(down, service_line(key, false));
            all.push((Whose::Service(key), deeds));
        }
        all
    }

    fn of_server(&self, name: ServerKey, up: bool, reason: &str) -> Vec<Deed> {
        let Some(server) = self.server(name) else {
            return Vec::new();
        };
        let command = if up {
            &server.notify_up
        } else {
            &server.notify_down
        };
        let mut deeds = scripts_and_line(command.as_ref(), server_line(name, up));
        if server.smtp_alert {
            let (service, address) = (service_name(name.0), server_name(name));
            deeds.push(Deed::Mail {
                subject: server_subject(&self.router_id, &address, &service, word(up)),
                body: format!("{reason}\n"),
            });
        }
        deeds
    }

    fn of_quorum(&self, key: ServiceKey, gained: bool) -> Vec<Deed> {
        let Some(service) = self.service(key) else {
            return Vec::new();
        };
        let quorum = &service.quorum;
        let command = if gained { &quorum.up } else { &quorum.down };
        let mut deeds = scripts_and_line(command.as_ref(), service_line(key, gained));
        if service.smtp_alert {
            let body = if gained {
                format!("Weight {} or more is up again.\n", quorum.weight)
            } else {
                format!("Less than weight {} is up.\n", quorum.weight)
            };
            deeds.push(Deed::Mail {
                subject: service_subject(&self.router_id, &service_name(key), word(gained)),
                body,
            });
        }
        deeds
    }

    fn service(&self, key: ServiceKey) -> Option<&VirtualServer> {
        self.config.virtual_servers.get(*self.places.get(&key)?)
    }

    fn server(&self, (key, address): ServerKey) -> Option<&RealServer> {
        let mut servers = self.service(key)?.real_servers.iter();
        servers.find(|server| server.address == address)
    }
}

/// The commands of pools.
pub(super) fn commands(config: &Config) -> impl Iterator<Item = &Command> {
    config.virtual_servers.iter().flat_map(|service| {
        let quorum = [&service.quorum.up, &service.quorum.down];
        let servers = service.real_servers.iter();
        let servers = servers.flat_map(|server| [&server.notify_up, &server.notify_down]);
        quorum.into_iter().chain(servers).flatten()
    })
}

/// Whether anything of pools is worth a mail.
pub(super) fn is_mailed(config: &Config) -> bool {
    let mut services = config.virtual_servers.iter();
    services.any(|service| {
        let mut servers = service.real_servers.iter();
        service.smtp_alert || servers.any(|server| server.smtp_alert)
    })
}

/// The command gets what the file gives it and nothing more, as under keepalived.
fn scripts_and_line(command: Option<&Command>, line: String) -> Vec<Deed> {
    let run = command.map(|command| Deed::Run(command.clone(), Vec::new()));
    run.into_iter().chain([Deed::Line(line)]).collect()
}

const fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

fn server_line(name: ServerKey, up: bool) -> String {
    let (service, server) = (service_name(name.0), server_name(name));
    format!("RS {server} {service} {}", word(up))
}

fn service_line(key: ServiceKey, up: bool) -> String {
    format!("VS {} {}", service_name(key), word(up))
}

/// A service as keepalived writes it: `[192.168.1.200]:tcp:80`, `FWM 1`, and `[NAME]:0` of a group.
fn service_name(key: ServiceKey) -> String {
    match key {
        ServiceKey::Endpoint(endpoint) => {
            let protocol = endpoint.protocol.name();
            format!("[{}]:{protocol}:{}", endpoint.vip, endpoint.port)
        }
        ServiceKey::Mark(mark) => format!("FWM {}", mark.mark),
        ServiceKey::Group { name, .. } => format!("[{name}]:0"),
    }
}

/// A real server as keepalived writes it: `[192.168.1.102]:tcp:80`; behind a mark it has no protocol.
fn server_name((key, address): ServerKey) -> String {
    let protocol = match key {
        ServiceKey::Endpoint(endpoint) => endpoint.protocol.name(),
        ServiceKey::Group { protocol, .. } => protocol.name(),
        ServiceKey::Mark(_) => "none",
    };
    format!("[{}]:{protocol}:{}", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::table::ServerHealth;
    use crate::plan::testing::{service_key, websocket};

    fn command(line: &str) -> Command {
        Command {
            line: line.to_owned(),
            program: line.to_owned(),
            arguments: Vec::new(),
            user: None,
        }
    }

    fn config() -> Config {
        let mut config = websocket();
        config.global.router_id = Some("LVS_1".to_owned());
        let service = &mut config.virtual_servers[0];
        service.quorum.up = Some(command("/quorum_up"));
        service.quorum.down = Some(command("/quorum_down"));
        for server in &mut service.real_servers {
            server.notify_up = Some(command("/up"));
            server.notify_down = Some(command("/down"));
            server.smtp_alert = true;
        }
        config
    }

    fn told(config: Config) -> PoolTold {
        let mut told = PoolTold::default();
        told.configure(&Arc::new(config), "host");
        told
    }

    fn server(address: &str) -> ServerKey {
        (service_key(0), address.parse().unwrap())
    }

    fn went(up: bool) -> PoolEvent {
        PoolEvent::Server {
            server: server("192.168.1.102:80"),
            up,
            reason: "connection refused (3 of 3)".to_owned(),
        }
    }

    fn quorum(gained: bool) -> PoolEvent {
        let service = service_key(0);
        PoolEvent::Quorum { service, gained }
    }

    fn words(deeds: Vec<Deed>) -> Vec<String> {
        let deeds = deeds.into_iter().map(|deed| match deed {
            Deed::Run(command, more) => [vec![command.line], more].concat().join(" "),
            Deed::Line(line) => line,
            Deed::Mail { subject, body } => format!("{subject}|{body}"),
        });
        deeds.collect()
    }

    const RS: &str = "[192.168.1.102]:tcp:80";
    const VS: &str = "[192.168.1.200]:tcp:80";

    #[test]
    fn a_real_server_is_told_of_by_script_line_and_mail_as_keepalived_tells_it() {
        let told = told(config());
        let (whose, deeds) = told.deeds(&went(false));
        assert_eq!(whose, Whose::Server(server("192.168.1.102:80")));
        let mail = format!(
            "[LVS_1] Realserver {RS} of virtual server {VS} - DOWN|connection refused (3 of 3)\n"
        );
        assert_eq!(
            words(deeds),
            ["/down", &format!("RS {RS} {VS} DOWN"), &mail]
        );
        let (_, deeds) = told.deeds(&went(true));
        assert_eq!(words(deeds)[..2], ["/up", &format!("RS {RS} {VS} UP")]);
    }

    #[test]
    fn a_quorum_is_told_of_and_mail_is_a_matter_of_taste() {
        let mut told = told(config());
        let (whose, deeds) = told.deeds(&quorum(false));
        assert_eq!(whose, Whose::Service(service_key(0)));
        assert_eq!(words(deeds), ["/quorum_down", &format!("VS {VS} DOWN")]);
        let mut config = config();
        config.virtual_servers[0].smtp_alert = true;
        config.virtual_servers[0].real_servers[0].smtp_alert = false;
        told.configure(&Arc::new(config), "host");
        let (_, deeds) = told.deeds(&quorum(true));
        let mail = format!("[LVS_1] Virtualserver {VS} - UP|Weight 1 or more is up again.\n");
        assert_eq!(words(deeds)[2], mail);
        assert_eq!(told.deeds(&went(false)).1.len(), 2, "no mail");
    }

    /// As keepalived 2.2.7 wrote them.
    #[test]
    fn marks_and_groups_are_told_of_as_keepalived_tells_of_them() {
        let server = "10.1.0.11:80".parse().unwrap();
        let group: ServiceKey = "tcp/group:web".parse().unwrap();
        assert_eq!(service_line(group, true), "VS [web]:0 UP");
        let line = server_line((group, server), false);
        assert_eq!(line, "RS [10.1.0.11]:tcp:80 [web]:0 DOWN");
        let mark: ServiceKey = "fwmark/1".parse().unwrap();
        assert_eq!(service_line(mark, true), "VS FWM 1 UP");
        let server = "10.1.0.11:0".parse().unwrap();
        let line = server_line((mark, server), false);
        assert_eq!(line, "RS [10.1.0.11]:none:0 FWM 1 DOWN");
    }

    #[test]
    fn with_omega_what_is_up_goes_down_as_the_director_stops() {
        let mut config = config();
        let down = ServerHealth::default();
        let up = ServerHealth {
            up: true,
            ..ServerHealth::default()
        };
        let health: Health = [
            (server("192.168.1.102:80"), down),
            (server("192.168.1.103:80"), up),
        ]
        .into();
        assert_eq!(told(config.clone()).at_the_end(&health), []);
        config.virtual_servers[0].omega = true;
        let told = told(config);
        let end = |told: &PoolTold| {
            let all = told.at_the_end(&health).into_iter();
            all.flat_map(|(_, deeds)| words(deeds)).collect::<Vec<_>>()
        };
        let other = "RS [192.168.1.103]:tcp:80";
        let servers = ["/down".to_owned(), format!("{other} {VS} DOWN")];
        let service = ["/quorum_down".to_owned(), format!("VS {VS} DOWN")];
        assert_eq!(end(&told), [servers, service].concat());
    }

    #[test]
    fn nothing_is_told_of_whoever_is_not_configured() {
        let told = told(Config::default());
        assert_eq!(told.deeds(&went(true)).1, []);
        assert_eq!(told.deeds(&quorum(true)).1, []);
        assert!(!told.knows(&Whose::Service(service_key(0))));
    }
}
