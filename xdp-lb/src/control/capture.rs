//! What becomes of packets, for people: which decisions somebody wants to see, and each one that is.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_common::watch::{Block, Filter, NOBODY, Via};

use super::snapshot::verdict_name;
use super::trace;
use crate::config::model::Protocol;
use crate::dataplane::decision::Seen;

/// Which decisions somebody wants to see: those that all of it is true for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpNet>,
    /// Port of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// Virtual IPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpNet>,
    /// Port of the VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Real servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<IpNet>,
    /// Reasons, or words for several: see [`reasons`]. None means whatever is about a virtual service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Of so many decisions one is shown, by chance; 0 and 1 for all.
    #[serde(default)]
    pub sample: u32,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A decision.
    Decision(Box<Told>),
    /// So many more were wanted, but came faster than they could be shown.
    NotShown(u64),
}

/// A decision, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When, microseconds since 1970.
    pub time_us: u64,
    /// Where the packet comes from; `None` if it is of no flow, as a fragment.
    pub client: Option<SocketAddr>,
    /// Where it goes to.
    pub vip: Option<SocketAddr>,
    /// `tcp`, `udp`, or a number.
    pub protocol: String,
    /// Its service, as metrics name it.
    pub service: Option<String>,
    /// The real server that it goes to.
    pub real_server: Option<SocketAddr>,
    /// `pass`, `tx`, `redirect` or `drop`.
    pub verdict: String,
    /// Why it left the program.
    pub reason: String,
    /// By which rule its real server was found, as in a trace.
    pub rule: Option<String>,
    /// Interface it came in by.
    pub interface: String,
}

/// Reasons before it is known whether a packet is for a virtual service.
const STRANGERS: [Reason; 7] = [
    Reason::Truncated,
    Reason::Malformed,
    Reason::NotIp,
    Reason::Ipv6,
    Reason::NotTcpUdp,
    Reason::Fragment,
    Reason::NoService,
];

/// Reasons for which a new connection is placed.
const NEW: [Reason; 6] = [
    Reason::TxScheduled,
    Reason::TxPersistent,
    Reason::TxStateless,
    Reason::RedirectScheduled,
    Reason::RedirectPersistent,
    Reason::RedirectStateless,
];

/// A bit per reason of a word: the name of a reason, of what becomes of packets (`pass`, `tx`,
/// `redirect`, `drop`), `new` for new connections, `all`.
fn reasons(word: &str) -> Option<u64> {
    let bits = |is: &dyn Fn(Reason) -> bool| {
        let those = Reason::ALL.iter().filter(|reason| is(**reason));
        those.fold(0, |bits, reason| bits | 1 << *reason as u64)
    };
    let verdicts = [Verdict::Pass, Verdict::Tx, Verdict::Redirect, Verdict::Drop];
    let verdict = verdicts.into_iter().find(|v| verdict_name(*v) == word);
    let found = match (word, verdict) {
        ("all", _) => bits(&|_| true),
        ("new", _) => bits(&|reason| NEW.contains(&reason)),
        (_, Some(verdict)) => bits(&|reason| reason.verdict() == verdict),
        _ => bits(&|reason| reason.name() == word),
    };
    (found != 0).then_some(found)
}

impl Want {
    /// As the program has it, or what is wrong with it.
    pub fn filter(&self) -> Result<Filter, String> {
        let mut wanted = 0;
        for word in &self.reasons {
            let unknown = || {
                let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
                format!(
                    "no reason is called '{}'; there are all, new, pass, tx, redirect, drop and {}",
                    word.escape_debug(),
                    names.join(", ")
                )
            };
            wanted |= reasons(word).ok_or_else(unknown)?;
        }
        if self.reasons.is_empty() {
            wanted = STRANGERS
                .iter()
                .fold(u64::MAX, |bits, reason| bits & !(1 << *reason as u64));
        }
        let protocol = match &self.protocol {
            None => 0,
            Some(name) => protocol(name).ok_or_else(|| format!("'{name}' is not tcp or udp"))?,
        };
        let block = |net: Option<IpNet>| {
            net.map_or_else(Block::default, |net| {
                Block::prefix(net.addr(), net.prefix_len())
            })
        };
        Ok(Filter {
            reasons: wanted,
            client: block(self.client),
            vip: block(self.vip),
            server: block(self.server),
            client_port_be: self.client_port.unwrap_or(0).to_be(),
            vip_port_be: self.port.unwrap_or(0).to_be(),
            protocol,
            sample: self.sample,
            ..Filter::default()
        })
    }
}

fn protocol(name: &str) -> Option<u8> {
    let mut known = [Protocol::Tcp, Protocol::Udp].into_iter();
    known
        .find(|protocol| protocol.name() == name)
        .map(Protocol::number)
}

impl Told {
    /// A decision that was seen; `time_us` is its time by the wall clock, `interface` the name of the
    /// one it came in by.
    pub fn new(seen: &Seen, time_us: u64, interface: String) -> Self {
        let decision = &seen.decision;
        let (client, vip) = seen.flow().unzip();
        let reason = decision.reason();
        let protocol = match decision.protocol {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            number => number.to_string(),
        };
        let is_placed = decision.backend != NOBODY;
        Self {
            time_us,
            client,
            vip,
            protocol,
            service: seen.service.map(|key| key.to_string()),
            real_server: seen.server,
            verdict: reason
                .map_or("", |reason| verdict_name(reason.verdict()))
                .to_owned(),
            reason: reason.map_or_else(
                || format!("reason {}", decision.reason),
                |reason| reason.name().to_owned(),
            ),
            rule: is_placed.then(|| trace::rule(Via::of(decision.via)).to_owned()),
            interface,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xdp_lb_common::addr::{Address, FAMILY_V4, TCP};
    use xdp_lb_common::watch::Decision;

    fn decision(reason: Reason) -> Decision {
        let address = |ip: &str| Address::from_ip(ip.parse().unwrap()).0;
        Decision {
            client: address("10.1.0.5"),
            vip: address("192.168.1.200"),
            server: address("192.168.1.101"),
            client_port_be: 40_000_u16.to_be(),
            vip_port_be: 80_u16.to_be(),
            protocol: TCP,
            family: FAMILY_V4,
            reason: reason as u32,
            backend: 3,
            via: Via::Scheduled as u8,
            ..Decision::default()
        }
    }

    fn wanted(words: &[&str]) -> Vec<&'static str> {
        let want = Want {
            reasons: words.iter().map(ToString::to_string).collect(),
            ..Want::default()
        };
        let filter = want.filter().unwrap();
        let wanted = Reason::ALL.iter().filter(|r| filter.wants(&decision(**r)));
        wanted.map(|reason| reason.name()).collect()
    }

    #[test]
    fn without_a_word_all_that_is_about_a_service_is_wanted() {
        let names = wanted(&[]);
        assert_eq!(names.len(), Reason::ALL.len() - STRANGERS.len());
        assert!(names.contains(&"not_active") && !names.contains(&"no_service"));
        assert_eq!(wanted(&["all"]).len(), Reason::ALL.len());
    }

    #[test]
    fn words_stand_for_reasons() {
        assert_eq!(wanted(&["drop", "no_service"])[0], "no_service");
        assert!(wanted(&["drop"]).contains(&"ttl_expired"));
        let new = wanted(&["new"]);
        assert_eq!(new.len(), 6);
        assert!(
            new.iter()
                .all(|name| name.starts_with("tx_") || name.starts_with("redirect_"))
        );
        let want = Want {
            reasons: vec!["sent".to_owned()],
            ..Want::default()
        };
        let wrong = want.filter().unwrap_err();
        assert!(
            wrong.starts_with("no reason is called 'sent'; there are all, new,"),
            "{wrong}"
        );
    }

    #[test]
    fn all_of_a_want_must_be_true() {
        let seen = decision(Reason::TxScheduled);
        let mut want = Want {
            client: Some("10.1.0.0/16".parse().unwrap()),
            vip: Some("192.168.1.200/32".parse().unwrap()),
            port: Some(80),
            protocol: Some("tcp".to_owned()),
            server: Some("192.168.1.101/32".parse().unwrap()),
            ..Want::default()
        };
        assert!(want.filter().unwrap().wants(&seen));
        want.port = Some(81);
        assert!(!want.filter().unwrap().wants(&seen));
        want.protocol = Some("sctp".to_owned());
        assert_eq!(want.filter().unwrap_err(), "'sctp' is not tcp or udp");
    }

    #[test]
    fn a_decision_is_told_with_names() {
        let seen = Seen {
            decision: decision(Reason::TxScheduled),
            service: Some("tcp/192.168.1.200:80".parse_key()),
            server: Some("192.168.1.101:80".parse().unwrap()),
        };
        let told = Told::new(&seen, 7, "eth0".to_owned());
        assert_eq!(told.client, Some("10.1.0.5:40000".parse().unwrap()));
        assert_eq!(told.service.as_deref(), Some("tcp/192.168.1.200:80"));
        assert_eq!((&*told.verdict, &*told.reason), ("tx", "tx_scheduled"));
        assert_eq!(told.rule.as_deref(), Some("scheduler"));
        let fragment = Seen {
            decision: Decision {
                reason: Reason::Fragment as u32,
                backend: NOBODY,
                ..Decision::default()
            },
            service: None,
            server: None,
        };
        let told = Told::new(&fragment, 7, "eth0".to_owned());
        assert_eq!((told.client, told.vip, told.rule), (None, None, None));
    }

    trait ParseKey {
        fn parse_key(&self) -> crate::config::model::ServiceKey;
    }

    impl ParseKey for str {
        fn parse_key(&self) -> crate::config::model::ServiceKey {
            self.parse().unwrap()
        }
    }
}
