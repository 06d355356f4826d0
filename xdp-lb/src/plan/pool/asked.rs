//! How operators name a virtual service.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::model::{Config, Family, GroupName, Mark, ServiceKey};

/// A virtual service as an operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Asked {
    /// `192.168.1.200:80`: virtual IP and port.
    Endpoint(SocketAddr),
    /// `fwmark:1`; `fwmark6:1` of IPv6 where there is one of IPv4, too. Also as `list` has it: `FWM 1`,
    /// `FWM 1 IPv6`.
    Mark(Mark),
    /// `group:NAME`: all addresses and marks of a group.
    Group(GroupName),
}

impl Asked {
    /// The keys that it may mean, each once, in the order of the file. Those of a group belong to its
    /// pool, whichever of its addresses is named.
    pub(super) fn meant(&self, config: &Config, protocol: Option<&str>) -> Vec<ServiceKey> {
        let is_of = |name: &str| protocol.is_none_or(|protocol| protocol == name);
        let is_meant = |key: &ServiceKey| match (self, key) {
            (Self::Endpoint(asked), ServiceKey::Endpoint(key)) => {
                SocketAddr::new(key.vip, key.port) == *asked && is_of(key.protocol.name())
            }
            (Self::Mark(asked), ServiceKey::Mark(key)) => asked == key,
            (Self::Group(asked), ServiceKey::Group { name, protocol }) => {
                asked == name && is_of(protocol.name())
            }
            (Self::Endpoint(_) | Self::Mark(_) | Self::Group(_), _) => false,
        };
        let mut meant = Vec::new();
        for member in config.members() {
            let pool = member.service.key();
            if (is_meant(&member.key) || is_meant(&pool)) && !meant.contains(&pool) {
                meant.push(pool);
            }
        }
        match self {
            // There is none of IPv4: the number alone says which.
            Self::Mark(Mark {
                mark,
                family: Family::V4,
            }) if meant.is_empty() => {
                let family = Family::V6;
                let mark = *mark;
                Self::Mark(Mark { mark, family }).meant(config, protocol)
            }
            Self::Endpoint(_) | Self::Mark(_) | Self::Group(_) => meant,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(address) => address.fmt(f),
            Self::Mark(mark) => match mark.family {
                Family::V4 => write!(f, "fwmark:{}", mark.mark),
                Family::V6 => write!(f, "fwmark6:{}", mark.mark),
            },
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

/// What is wrong with the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected VIP:PORT, as in 192.168.1.200:80, or fwmark:NUMBER or group:NAME")]
pub struct NotAService;

impl FromStr for Asked {
    type Err = NotAService;

    fn from_str(text: &str) -> Result<Self, NotAService> {
        if let Some(name) = text.strip_prefix("group:") {
            return GroupName::new(name).map(Self::Group).ok_or(NotAService);
        }
        if let Some(mark) = mark(text) {
            return Ok(Self::Mark(mark));
        }
        text.parse()
            .map(Self::Endpoint)
            .map_err(|_not_an_address| NotAService)
    }
}

/// `fwmark:1`, `fwmark/1`, `FWM 1`, `FWM  1 IPv6`, `fwmark6:1`.
fn mark(text: &str) -> Option<Mark> {
    let text = text.to_lowercase();
    let mut words = text.split([':', '/', ' ']).filter(|word| !word.is_empty());
    let named = match words.next()? {
        "fwm" | "fwmark" => Family::V4,
        "fwm6" | "fwmark6" => Family::V6,
        _ => return None,
    };
    let mark = words.next()?.parse().ok()?;
    let family = match (words.next(), words.next()) {
        (None, _) => named,
        (Some("ipv6"), None) => Family::V6,
        (Some(_), _) => return None,
    };
    Some(Mark { mark, family })
}

impl TryFrom<String> for Asked {
    type Error = NotAService;

    fn try_from(text: String) -> Result<Self, NotAService> {
        text.parse()
    }
}

impl From<Asked> for String {
    fn from(asked: Asked) -> Self {
        asked.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_named_as_ipvsadm_names_it_or_in_one_word() {
        let v4 = |mark| {
            let family = Family::V4;
            Some(Mark { mark, family })
        };
        let v6 = |mark| {
            let family = Family::V6;
            Some(Mark { mark, family })
        };
        let cases = [
            ("fwmark:1", v4(1)),
            ("FWM:1", v4(1)),
            ("FWM  1", v4(1)),
            ("fwmark/4294967295", v4(u32::MAX)),
            ("FWM  1 IPv6", v6(1)),
            ("fwmark6:7", v6(7)),
            ("fwmark", None),
            ("fwmark:x", None),
            ("fwmark:1:80", None),
            ("10.0.0.1:80", None),
        ];
        for (text, expected) in cases {
            assert_eq!(mark(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_is_read_back() {
        for text in [
            "10.0.0.1:80",
            "[2001:db8::1]:80",
            "fwmark:1",
            "fwmark6:1",
            "group:web one",
        ] {
            let asked: Asked = text.parse().unwrap();
            assert_eq!(asked.to_string(), text);
        }
        let wrong = ["", "10.0.0.1", "web", &format!("group:{:65}", "x")];
        for text in wrong {
            assert_eq!(text.parse::<Asked>(), Err(NotAService), "{text}");
        }
    }
}
