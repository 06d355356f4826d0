//! Rules of a firewall, whoever wrote them down: which packets, and what becomes of them.

use std::net::IpAddr;

use crate::config::model::{Endpoint, Family, Protocol};

/// The most endpoints that a rule may stand for.
const MOST: u128 = 4096;

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// As the firewall's tool writes it.
    pub(super) text: String,
    /// Its packets.
    pub(super) packets: Packets,
    /// The first of its conditions that is none of destination address, protocol and port.
    pub(super) unclear: Option<String>,
    /// What it does to the mark.
    pub(super) mark: Option<NewMark>,
    /// Where it goes on.
    pub(super) verdict: Verdict,
}

/// What a rule does to the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewMark {
    /// The mark becomes this.
    Is(u32),
    /// It depends on what it was, or on the packet.
    Depends,
}

/// Where a packet goes on after a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With the next rule.
    #[default]
    Next,
    /// In another chain, and then here.
    Jump(String),
    /// In another chain.
    Goto(String),
    /// Behind the jump that led here.
    Return,
    /// Nowhere: it passed the table.
    Accept,
}

/// Packets by where they go to. What is empty stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packets {
    /// From the first to the last address.
    pub(super) addresses: Ranges<IpAddr>,
    /// Protocols that can be balanced, or not: their numbers.
    pub(super) protocols: Ranges<u8>,
    /// Ports.
    pub(super) ports: Ranges<u16>,
}

/// From a first to a last one, both included; `None` for all.
pub(super) type Ranges<T> = Option<Vec<(T, T)>>;

impl Packets {
    /// Whether it stands for all packets.
    pub(super) fn are_all(&self) -> bool {
        *self == Self::default()
    }

    /// Those that are of both.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            addresses: both(self.addresses.as_ref(), other.addresses.as_ref()),
            protocols: both(self.protocols.as_ref(), other.protocols.as_ref()),
            ports: both(self.ports.as_ref(), other.ports.as_ref()),
        }
    }

    /// Where they go to, or why that cannot be said.
    pub(super) fn endpoints(&self, family: Family) -> Result<Vec<Endpoint>, String> {
        let Some(addresses) = &self.addresses else {
            return Err("it names no destination address".to_owned());
        };
        let protocols = self.balanced()?;
        let ports = match &self.ports {
            None => vec![0..=0],
            Some(ranges) => ranges.iter().map(|range| ports(*range)).collect(),
        };
        let addresses = addresses
            .iter()
            .filter(|(first, _)| Family::of(*first) == family);
        let addresses: Vec<_> = addresses.map(|range| bits(*range)).collect();
        let count = |(first, last): &(u128, u128)| last.saturating_sub(*first).saturating_add(1);
        let hosts = addresses.iter().map(count).fold(0, u128::saturating_add);
        let doors: u128 = ports.iter().map(|range| range.len() as u128).sum();
        if hosts.saturating_mul(doors) > MOST {
            return Err(format!(
                "it stands for more than {MOST} addresses and ports"
            ));
        }
        let vips = addresses.into_iter().flat_map(|(first, last)| first..=last);
        let mut endpoints = Vec::new();
        for vip in vips.map(|bits| address(bits, family)) {
            for protocol in &protocols {
                let of_port = |port| Endpoint {
                    vip,
                    port,
                    protocol: *protocol,
                };
                endpoints.extend(ports.iter().cloned().flatten().map(of_port));
            }
        }
        Ok(endpoints)
    }

    fn balanced(&self) -> Result<Vec<Protocol>, String> {
        const BALANCED: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
        let Some(ranges) = &self.protocols else {
            return if self.ports.is_none() {
                Ok(BALANCED.into())
            } else {
                Err("it names ports and no protocol".to_owned())
            };
        };
        let is_meant = |protocol: &Protocol| {
            let number = protocol.number();
            let mut ranges = ranges.iter();
            ranges.any(|(first, last)| (*first..=*last).contains(&number))
        };
        let meant: Vec<_> = BALANCED.into_iter().filter(is_meant).collect();
        if meant.is_empty() && !ranges.is_empty() {
            return Err("its protocol is neither TCP nor UDP".to_owned());
        }
        Ok(meant)
    }
}

/// The ports of a range; all of them are any port, which is 0.
fn ports((first, last): (u16, u16)) -> std::ops::RangeInclusive<u16> {
    if first <= 1 && last == u16::MAX {
        0..=0
    } else {
        first.max(1)..=last
    }
}

fn bits((first, last): (IpAddr, IpAddr)) -> (u128, u128) {
    let bits = |address| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    (bits(first), bits(last))
}

fn address(bits: u128, family: Family) -> IpAddr {
    match family {
        // They came from an IPv4 address.
        Family::V4 => IpAddr::from(u32::try_from(bits).unwrap_or_default().to_be_bytes()),
        Family::V6 => IpAddr::from(bits.to_be_bytes()),
    }
}

/// The overlaps of two sets of ranges.
fn both<T: Ord + Copy>(one: Option<&Vec<(T, T)>>, other: Option<&Vec<(T, T)>>) -> Ranges<T> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other).cloned(),
    };
    let overlaps = one.iter().flat_map(|(first, last)| {
        let overlap = |(from, to): &(T, T)| (*first.max(from), *last.min(to));
        other.iter().map(overlap)
    });
    Some(overlaps.filter(|(first, last)| first <= last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(addresses: &[(&str, &str)], ports: &[(u16, u16)]) -> Packets {
        let parsed = |(first, last): &(&str, &str)| (first.parse().unwrap(), last.parse().unwrap());
        Packets {
            addresses: Some(addresses.iter().map(parsed).collect()),
            protocols: Some(vec![(6, 6)]),
            ports: Some(ports.to_vec()),
        }
    }

    fn named(packets: &Packets) -> Vec<String> {
        let endpoints = packets.endpoints(Family::V4).unwrap();
        endpoints.iter().map(Endpoint::to_string).collect()
    }

    #[test]
    fn what_both_mean_is_what_their_ranges_share() {
        let wide = packets(&[("10.0.0.1", "10.0.0.9")], &[(80, 90)]);
        let narrow = packets(&[("10.0.0.9", "10.0.0.20")], &[(1, 80), (443, 443)]);
        assert_eq!(named(&wide.and(&narrow)), ["tcp/10.0.0.9:80"]);
        assert_eq!(wide.and(&Packets::default()), wide);
        let apart = packets(&[("10.0.0.10", "10.0.0.10")], &[(80, 80)]);
        assert_eq!(named(&wide.and(&apart)), [""; 0]);
    }

    #[test]
    fn all_ports_are_any_port_and_too_many_are_refused() {
        let any = packets(&[("10.0.0.1", "10.0.0.1")], &[(0, 65535)]);
        assert_eq!(named(&any), ["tcp/10.0.0.1:0"]);
        let many = packets(&[("10.0.0.1", "10.0.0.1")], &[(1024, 65535)]);
        assert!(many.endpoints(Family::V4).unwrap_err().contains("4096"));
        assert!(Packets::default().endpoints(Family::V4).is_err());
    }

    #[test]
    fn without_a_protocol_both_that_are_balanced_are_meant() {
        let mut packets = packets(&[("10.0.0.1", "10.0.0.1")], &[]);
        (packets.protocols, packets.ports) = (None, None);
        assert_eq!(named(&packets), ["tcp/10.0.0.1:0", "udp/10.0.0.1:0"]);
        packets.protocols = Some(vec![(132, 132)]);
        assert!(packets.endpoints(Family::V4).is_err());
    }
}
