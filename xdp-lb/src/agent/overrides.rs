//! What operators said at runtime, beyond the death of the agent.
//!
//! The file stands in the instance's folder under `/run`: a full stop forgets it, a restart does not.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::config::model::{Config, ServiceKey};
use crate::plan::installed::ServerKey;
use crate::plan::pool::order::{Order, Unknown, carry_out};
use crate::plan::pool::{Override, Overrides};

/// The overrides in force, and their file.
#[derive(Debug, Default)]
pub struct Store {
    /// `None`: they are forgotten with the agent.
    path: Option<PathBuf>,
    known: Overrides,
    /// When they were last changed, milliseconds since 1970; 0: never, as far as is known.
    changed: u64,
}

impl Store {
    /// Those of the file, which may not exist yet. One that cannot be read counts as empty.
    pub fn open(path: PathBuf) -> Self {
        let known = match fs::read_to_string(&path) {
            Ok(text) => text.lines().filter_map(parse).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Overrides::new(),
            Err(error) => {
                warn!(
                    "{}: {error}; weights set by `xdp-lb weight` and drains before are not known",
                    path.display()
                );
                Overrides::new()
            }
        };
        let written = fs::metadata(&path).and_then(|file| file.modified());
        Self {
            path: Some(path),
            known,
            changed: written.map_or(0, millis),
        }
    }

    /// When they were last changed, milliseconds since 1970; 0: never, as far as is known.
    pub const fn changed(&self) -> u64 {
        self.changed
    }

    /// Takes over what another director was told, instead of all that was said here.
    pub fn adopt(&mut self, overrides: Overrides) {
        self.known = overrides;
        self.changed = millis(SystemTime::now());
        self.write();
    }

    /// All of them.
    pub fn known(&self) -> &Overrides {
        &self.known
    }

    /// Does what an operator asks for; what was done, in words.
    pub fn carry_out(&mut self, config: &Config, order: &Order) -> Result<String, Unknown> {
        let done = carry_out(&mut self.known, config, order)?;
        self.changed = millis(SystemTime::now());
        self.write();
        Ok(done)
    }

    /// Forgets those of servers that the configuration does not know any more, and returns them.
    pub fn retain(&mut self, config: &Config) -> Vec<ServerKey> {
        let is_known = |(service, address): &ServerKey| {
            let mut services = config.services();
            services.any(|(key, service_of)| {
                let mut servers = service_of.real_servers.iter();
                key == *service && servers.any(|server| server.address == *address)
            })
        };
        let forgotten: Vec<_> = self
            .known
            .extract_if(.., |server, _| !is_known(server))
            .map(|(server, _)| server)
            .collect();
        if !forgotten.is_empty() {
            self.write();
        }
        forgotten
    }

    /// Replaces the file; there is none when nobody said anything.
    fn write(&self) {
        let Some(path) = &self.path else { return };
        let written = if self.known.is_empty() {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        } else {
            let unfinished = path.with_extension("new");
            fs::write(&unfinished, self.text()).and_then(|()| fs::rename(&unfinished, path))
        };
        if let Err(error) = written {
            warn!(
                "{}: {error}; weights set at runtime and drains are lost when this agent ends",
                path.display()
            );
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ((service, server), said) in &self.known {
            let weight = said
                .weight
                .map_or_else(|| "-".to_owned(), |weight| weight.to_string());
            let drained = if said.is_drained { "drained" } else { "-" };
            // Writing to a string cannot fail.
            writeln!(text, "{service} {server} {weight} {drained}").ok();
        }
        text
    }
}

fn millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// From the right: the name of a group may have spaces in it.
fn parse(line: &str) -> Option<(ServerKey, Override)> {
    let mut words = line.rsplitn(4, ' ');
    let is_drained = words.next()? == "drained";
    let weight = match words.next()? {
        "-" => None,
        weight => Some(weight.parse().ok()?),
    };
    let server: SocketAddr = words.next()?.parse().ok()?;
    let service = words.next()?;
    // As an agent before wrote it: tcp 192.168.1.200:80.
    let old = || service.replacen(' ', "/", 1).parse().ok();
    let service: ServiceKey = service.parse().ok().or_else(old)?;
    Some(((service, server), Override { weight, is_drained }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::pool::order::{Target, What};
    use crate::plan::testing::websocket;

    fn order(what: What) -> Order {
        Order {
            target: Target {
                service: "192.168.1.200:80".parse().unwrap(),
                protocol: None,
                server: "192.168.1.102:80".parse().unwrap(),
            },
            what,
        }
    }

    #[test]
    fn a_successor_knows_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overrides");
        let mut store = Store::open(path.clone());
        store
            .carry_out(&websocket(), &order(What::Weight(Some(7))))
            .unwrap();
        store.carry_out(&websocket(), &order(What::Drain)).unwrap();
        let successor = Store::open(path.clone());
        assert_eq!(successor.known(), store.known());
        let said: Vec<_> = successor.known().values().copied().collect();
        let (weight, is_drained) = (Some(7), true);
        assert_eq!(said, [Override { weight, is_drained }]);
        store
            .carry_out(&websocket(), &order(What::Undrain))
            .unwrap();
        store
            .carry_out(&websocket(), &order(What::Weight(None)))
            .unwrap();
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "no file is left"
        );
    }

    #[test]
    fn a_server_that_left_the_file_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overrides");
        let mut store = Store::open(path.clone());
        store.carry_out(&websocket(), &order(What::Drain)).unwrap();
        assert_eq!(store.retain(&websocket()), []);
        let mut without = websocket();
        without.virtual_servers[0].real_servers.remove(0);
        assert_eq!(store.retain(&without).len(), 1);
        assert!(store.known().is_empty() && !path.exists());
    }

    #[test]
    fn a_line_it_cannot_read_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overrides");
        let good = "tcp 192.168.1.200:80 192.168.1.102:80 - drained";
        let of_group = "tcp/group:web one 192.168.1.102:80 7 -";
        let text = format!("{good}\nnonsense\ntcp/1.2.3.4:80 x 1 -\n{of_group}\n");
        fs::write(&path, text).unwrap();
        let store = Store::open(path);
        assert_eq!(store.known().len(), 2);
        assert!(store.text().contains(of_group), "{}", store.text());
    }
}
