//! What names a virtual service.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use super::{Family, Protocol};

/// What names a virtual service: a `virtual_server` of the file with its pool, or a service of the
/// tables, which has a schedule, templates and counters of its own. Mostly that is the same; a group is
/// one pool behind many services, one per address and mark, as under keepalived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// An address, a port and a protocol.
    Endpoint(Endpoint),
    /// Packets with a firewall mark.
    Mark(Mark),
    /// `virtual_server group NAME`: only of the file. The tables hold its members.
    Group {
        /// Name of the group.
        name: GroupName,
        /// Protocol of its addresses.
        protocol: Protocol,
    },
}

/// Where packets of a virtual service go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Virtual IP.
    pub vip: IpAddr,
    /// Port; 0 is any port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// A firewall mark; its packets are of one family and of any protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The mark.
    pub mark: u32,
    /// Family of its packets.
    pub family: Family,
}

impl ServiceKey {
    /// The family of its packets; a group has members of both, or of one.
    pub const fn family(&self) -> Option<Family> {
        match self {
            Self::Endpoint(endpoint) => Some(Family::of(endpoint.vip)),
            Self::Mark(mark) => Some(mark.family),
            Self::Group { .. } => None,
        }
    }

    /// The port that all of its packets go to; 0 for any, or for more than one.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Endpoint(endpoint) => endpoint.port,
            Self::Mark(_) | Self::Group { .. } => 0,
        }
    }
}

impl From<Endpoint> for ServiceKey {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl fmt::Display for ServiceKey {
    /// The value of the metric label `service`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Mark(mark) => mark.fmt(f),
            Self::Group { name, protocol } => write!(f, "{}/group:{name}", protocol.name()),
        }
    }
}

impl fmt::Display for Endpoint {
    /// `tcp/192.168.1.200:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.vip, self.port);
        write!(f, "{}/{address}", self.protocol.name())
    }
}

impl fmt::Display for Mark {
    /// `fwmark/1`, `fwmark6/1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::V4 => write!(f, "fwmark/{}", self.mark),
            Family::V6 => write!(f, "fwmark6/{}", self.mark),
        }
    }
}

/// The text is not the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a virtual service")]
pub struct NotAKey;

impl FromStr for ServiceKey {
    type Err = NotAKey;

    /// What [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let (kind, name) = text.split_once('/').ok_or(NotAKey)?;
        let family = match kind {
            "fwmark" => Some(Family::V4),
            "fwmark6" => Some(Family::V6),
            _ => None,
        };
        if let Some(family) = family {
            let mark = name.parse().map_err(|_not_a_number| NotAKey)?;
            return Ok(Self::Mark(Mark { mark, family }));
        }
        let protocol = Protocol::from_name(kind).ok_or(NotAKey)?;
        if let Some(name) = name.strip_prefix("group:") {
            let name = GroupName::new(name).ok_or(NotAKey)?;
            return Ok(Self::Group { name, protocol });
        }
        let address: SocketAddr = name.parse().map_err(|_not_an_address| NotAKey)?;
        Ok(Self::Endpoint(Endpoint {
            vip: address.ip(),
            port: address.port(),
            protocol,
        }))
    }
}

/// The name of a `virtual_server_group`. It is kept once, for as long as the process lives: keys are copied
/// with every map that has them, and a name is no larger than an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(&'static str);

impl GroupName {
    /// Bytes that a name may have.
    pub const LONGEST: usize = 64;
    /// Names that are kept, so that no stream of changing names takes the memory.
    const MOST: usize = 65_536;

    /// `None` if it is too long, or one too many.
    pub fn new(name: &str) -> Option<Self> {
        static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        if name.len() > Self::LONGEST {
            return None;
        }
        // Whoever panicked with it left a set of names all the same.
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(name) {
            return Some(Self(known));
        }
        if kept.len() == Self::MOST {
            return None;
        }
        let name: &'static str = Box::leak(name.into());
        kept.insert(name);
        Some(Self(name))
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_small() {
        assert!(size_of::<ServiceKey>() <= 32);
    }

    fn any_key() -> impl Strategy<Value = ServiceKey> {
        let protocol = prop_oneof![
            Just(Protocol::Tcp),
            Just(Protocol::Udp),
            Just(Protocol::Sctp)
        ];
        let endpoint = (any::<IpAddr>(), any::<u16>(), protocol.clone());
        let endpoint = endpoint.prop_map(|(vip, port, protocol)| {
            ServiceKey::Endpoint(Endpoint {
                vip,
                port,
                protocol,
            })
        });
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        let mark = (any::<u32>(), family)
            .prop_map(|(mark, family)| ServiceKey::Mark(Mark { mark, family }));
        let group = ("[^\n]{0,16}", protocol).prop_map(|(name, protocol)| ServiceKey::Group {
            name: GroupName::new(&name).unwrap(),
            protocol,
        });
        prop_oneof![endpoint, mark, group]
    }

    proptest! {
        #[test]
        fn a_key_is_read_back_from_its_name(key in any_key()) {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn a_name_keeps_its_letters_or_is_too_long(name in "\\PC{0,40}") {
            match GroupName::new(&name) {
                Some(kept) => prop_assert_eq!(kept.as_str(), name),
                None => prop_assert!(name.len() > GroupName::LONGEST),
            }
        }
    }

    #[test]
    fn what_is_no_name_of_a_service_is_refused() {
        for text in [
            "",
            "tcp",
            "tcp/",
            "tcp/1.2.3.4",
            "icmp/1.2.3.4:1",
            "fwmark/",
            "fwmark/x",
        ] {
            assert_eq!(text.parse::<ServiceKey>(), Err(NotAKey), "{text}");
        }
    }
}
