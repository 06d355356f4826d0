//! What a run saw: numbers and names, no judgement.

use std::collections::BTreeMap;

use serde::Serialize;
use xdp_lb_tests::metrics::Scrape;

use super::clients::{HttpRun, WebSocket};
use super::masters::Reign;
use super::steps::Step;

/// Everything a run saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// The configuration, as a path in the repository.
    pub(crate) configuration: String,
    /// `address:port` of the virtual service.
    pub(crate) service: String,
    /// Hosts.
    pub(crate) hosts: Vec<HostRow>,
    /// How the program is attached on the director; `None`: not at all.
    pub(crate) xdp_mode: Option<String>,
    /// The MAC that answers ARP for the VIP.
    pub(crate) vip_mac: Option<String>,
    /// The director's MAC.
    pub(crate) director_mac: String,
    /// What `xdp-lb realserver status` complains about, by server.
    pub(crate) setup_errors: BTreeMap<String, String>,
    /// The 1,000 requests.
    pub(crate) http: HttpRun,
    /// A server is killed.
    pub(crate) kill: Kill,
    /// It comes back.
    pub(crate) comeback: Comeback,
    /// The WebSocket clients, at it all the while.
    pub(crate) websockets: Vec<WebSocket>,
    /// Frames on the switch.
    pub(crate) frames: Frames,
    /// The last scrape.
    pub(crate) scrape: Counted,
    /// `xdp-lb list`, at the end.
    pub(crate) list: String,
    /// The VIP goes from director to director.
    pub(crate) moves: Vec<Move>,
    /// Who was master when.
    pub(crate) reigns: Vec<Reign>,
    /// How the agent of the first director stopped; `None`: the run did not come to that.
    pub(crate) stop: Option<Stop>,
    /// What was done and how long it took.
    pub(crate) steps: Vec<Step>,
    /// How to enter the cluster that is left up with `--keep`.
    #[serde(skip)]
    pub(crate) doors: Option<String>,
    /// The end of the agent's log.
    #[serde(skip)]
    pub(crate) log: String,
}

/// A host.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HostRow {
    /// Name.
    pub(crate) name: String,
    /// Address or addresses.
    pub(crate) address: String,
    /// What it is there for.
    pub(crate) role: String,
}

/// nginx of one server dies.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Kill {
    /// The server.
    pub(crate) killed: String,
    /// The one that is left.
    pub(crate) survivor: String,
    /// Seconds that the configuration's checks allow.
    pub(crate) bound: f64,
    /// Where the bound comes from.
    pub(crate) bound_explained: String,
    /// Seconds from the kill until the list showed the server down; `None`: not within the wait.
    pub(crate) listed_down: Option<f64>,
    /// Clients of the killed server, asking until another answers.
    pub(crate) moved: HttpRun,
    /// Clients of the other, asking meanwhile.
    pub(crate) bystanders: HttpRun,
}

/// nginx starts again.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Comeback {
    /// Seconds that the configuration's checks allow.
    pub(crate) bound: f64,
    /// Seconds from the start until the list showed the server up; `None`: not within the wait.
    pub(crate) listed_up: Option<f64>,
    /// Clients that had moved, asking once more.
    pub(crate) moved_again: HttpRun,
    /// Clients that were never seen before.
    pub(crate) newcomers: HttpRun,
}

/// Something happens to the master, or between the two.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Move {
    /// What.
    pub(crate) cause: String,
    /// Seconds from it to the new master's first advert; `None`: not within the wait, or nobody new.
    pub(crate) moved: Option<f64>,
    /// The longest time, s, in which the VIP did not answer.
    pub(crate) dark: f64,
    /// The longest that is allowed.
    pub(crate) bound: f64,
    /// Whether in the end the one alone is master that should be.
    pub(crate) settled: bool,
}

/// Frames of the service at ports of the switch.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Frames {
    /// From clients to the director.
    pub(crate) to_director: u64,
    /// From the director to servers.
    pub(crate) from_director: u64,
    /// From servers to the director: there must be none.
    pub(crate) replies_to_director: u64,
    /// From servers to clients.
    pub(crate) replies_to_client: u64,
}

/// What the agent counted.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counted {
    /// Connections of the service.
    pub(crate) connections: Option<f64>,
    /// Packets of the service.
    pub(crate) packets: Option<f64>,
    /// Connections by real server.
    pub(crate) server_connections: BTreeMap<String, f64>,
    /// Packets by reason, those that occurred.
    pub(crate) reasons: BTreeMap<String, f64>,
}

/// How the agent stopped.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Stop {
    /// Exit status, spelled out.
    pub(crate) status: String,
    /// Whether that is success.
    pub(crate) success: bool,
    /// What it left on the machine.
    pub(crate) left: Vec<String>,
}

impl Counted {
    /// Reads a scrape. `servers` are pairs of a name and the value of the label `real_server`.
    pub(crate) fn read(
        scrape: &Scrape,
        service: &str,
        servers: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let service = ("service", service);
        let of_server = |label: &str| {
            let labels = [service, ("real_server", label)];
            scrape.one("xdp_lb_real_server_connections_total", &labels)
        };
        let mut reasons: BTreeMap<String, f64> = BTreeMap::new();
        for sample in scrape.all("xdp_lb_packets_total") {
            if let Some(reason) = sample.labels.get("reason").filter(|_| sample.value > 0.0) {
                *reasons.entry(reason.clone()).or_default() += sample.value;
            }
        }
        Self {
            connections: scrape.one("xdp_lb_service_connections_total", &[service]),
            packets: scrape.one("xdp_lb_service_packets_total", &[service]),
            server_connections: servers
                .into_iter()
                .filter_map(|(name, label)| Some((name, of_server(&label)?)))
                .collect(),
            reasons,
        }
    }
}

impl HttpRun {
    /// What failed requests failed of, and how often.
    pub(crate) fn errors(&self) -> String {
        let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
        for (error, count) in self.sources.iter().flat_map(|source| &source.errors) {
            *errors.entry(error).or_default() += count;
        }
        let each: Vec<_> = errors
            .iter()
            .map(|(error, count)| format!("{count} × {error}"))
            .collect();
        each.join(", ")
    }

    /// Connections attempted.
    pub(crate) fn connections(&self) -> u64 {
        self.sources.iter().map(|source| source.connections).sum()
    }

    /// Requests answered, by any server.
    pub(crate) fn answered(&self) -> u64 {
        self.sources
            .iter()
            .flat_map(|source| source.answers.values())
            .sum()
    }

    /// Requests answered by `server`.
    pub(crate) fn answered_by(&self, server: &str) -> u64 {
        self.sources
            .iter()
            .filter_map(|source| source.answers.get(server))
            .sum()
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.sources
            .iter()
            .flat_map(|source| source.errors.values())
            .sum()
    }

    /// Source addresses that only `server` answered.
    pub(crate) fn sources_of(&self, server: &str) -> Vec<String> {
        let only = |source: &&super::clients::HttpSource| {
            source.answers.len() == 1 && source.answers.contains_key(server)
        };
        self.sources
            .iter()
            .filter(only)
            .map(|source| source.source.clone())
            .collect()
    }

    /// The longest outage; `None` if a source was never answered by another server.
    pub(crate) fn longest_outage(&self) -> Option<f64> {
        let outages: Option<Vec<f64>> = self.sources.iter().map(|source| source.outage).collect();
        outages?.into_iter().reduce(f64::max)
    }
}

impl Findings {
    /// All groups of HTTP clients.
    pub(crate) fn http_runs(&self) -> [&HttpRun; 5] {
        let Self {
            http,
            kill,
            comeback,
            ..
        } = self;
        [
            http,
            &kill.moved,
            &kill.bystanders,
            &comeback.moved_again,
            &comeback.newcomers,
        ]
    }

    /// Connections that clients attempted, all of them.
    pub(crate) fn connections(&self) -> u64 {
        let http: u64 = self.http_runs().iter().map(|run| run.connections()).sum();
        let websockets: u64 = self
            .websockets
            .iter()
            .map(|socket| socket.connections)
            .sum();
        http + websockets
    }

    /// Connections that led to `server`. One that led to none was refused by the killed server: no
    /// other refuses.
    pub(crate) fn connections_to(&self, server: &str) -> u64 {
        let answered: u64 = self
            .http_runs()
            .iter()
            .map(|run| run.answered_by(server))
            .sum();
        let opened = |socket: &WebSocket| {
            socket.servers.iter().filter(|name| *name == server).count() as u64
        };
        let opened: u64 = self.websockets.iter().map(opened).sum();
        let failed = if server == self.kill.killed {
            self.failed()
        } else {
            0
        };
        answered + opened + failed
    }

    /// Connections that led to nothing.
    fn failed(&self) -> u64 {
        let http: u64 = self.http_runs().iter().map(|run| run.failed()).sum();
        let unopened = |socket: &WebSocket| socket.connections - socket.servers.len() as u64;
        http + self.websockets.iter().map(unopened).sum::<u64>()
    }
}
