//! Real servers by chance: their kinds of forwarding, and where they are.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};
use xdp_lb::config::model::{Checksum, ConnectionLimit, Tunnel};
use xdp_lb::plan::desired::{Method, Reach, Server};
use xdp_lb_common::addr::Mac;

use crate::case::Style;
use crate::dice::Dice;
use crate::frames::{FAR, NEAR, NETWORKS, ROUTER, host_mac, port_mac};
use crate::world::{VIPS, Virtual, chance, host_ip, one_of};

/// A real server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Real {
    pub n: u8,
    pub weight: u32,
    /// Upper and lower limit.
    pub limit: Option<(u16, u32)>,
    pub serving: bool,
    pub releases: bool,
    pub way: Way,
    #[serde(default, skip_serializing_if = "is_direct")]
    pub kind: Kind,
}

/// How to get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Near,
    Far,
    Router,
    Local,
    Unknown,
}

/// What is changed in packets to a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    #[default]
    Direct,
    /// In a tunnel.
    Tunnel {
        around: Around,
        /// The server's address is of the other family.
        mixed: bool,
    },
    /// With its own address, and a port of its own or the service's.
    Nat { own_port: bool },
}

/// What stands in front of a packet in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Around {
    Ipip,
    /// With a checksum or without, as below.
    Gue(bool),
    Gre(bool),
}

/// Where real servers take GUE.
const GUE: NonZeroU16 = NonZeroU16::new(6080).unwrap();

/// The director's own address in the family of a real server.
const fn own_ip(of: IpAddr) -> IpAddr {
    host_ip(of, 250)
}

impl Real {
    pub(crate) fn random(dice: &mut Dice, style: Style, n: u8) -> Self {
        let is_calm = style == Style::Scheduling;
        Self {
            n,
            weight: weight(dice),
            limit: limit(dice),
            serving: is_calm || chance(dice, 90),
            releases: chance(dice, 5),
            way: if is_calm { Way::Near } else { way(dice) },
            kind: Kind::random(dice),
        }
    }

    /// The interface of one that is far: two of three are in a VLAN.
    pub(crate) fn far_port(&self) -> Option<u32> {
        let ports = [NETWORKS[1].0, NETWORKS[2].0, FAR];
        (self.way == Way::Far).then_some(ports[usize::from(self.n % 3)])
    }

    /// Address and port.
    pub(crate) fn address(&self, of: &Virtual) -> SocketAddr {
        let port = match (self.kind, of.port) {
            (Kind::Nat { own_port: true }, 1..) => 8000 + u16::from(self.n),
            _ => of.port,
        };
        SocketAddr::new(host_ip(self.kind.family(of.vip), self.n), port)
    }

    pub(crate) fn server(&self, of: &Virtual) -> Server {
        let direct = |port, mac, on_link| {
            Some(Reach::Direct {
                ifindex: port,
                source_mac: Mac::from_octets(port_mac(port)),
                mac: Mac::from_octets(mac),
                on_link,
            })
        };
        Server {
            address: self.address(of),
            weight: self.weight,
            limit: self.limit.map(|(upper, lower)| ConnectionLimit {
                upper: NonZeroU32::from(NonZeroU16::new(upper).unwrap()),
                lower,
            }),
            serving: self.serving,
            releases_clients: self.releases && !of.plays(),
            method: match self.kind {
                // Of what is dropped nobody sees whom chance picked.
                Kind::Nat { .. } if of.plays() => Method::Direct,
                kind => kind.method(self.address(of).ip()),
            },
            reach: match self.way {
                Way::Router | Way::Local if of.plays() => direct(NEAR, host_mac(self.n), true),
                Way::Near => direct(NEAR, host_mac(self.n), true),
                Way::Far => direct(self.far_port().unwrap(), host_mac(self.n), true),
                Way::Router => direct(NEAR, ROUTER, false),
                Way::Local => Some(Reach::Local),
                Way::Unknown => None,
            },
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_direct(kind: &Kind) -> bool {
    matches!(kind, Kind::Direct)
}

pub(crate) fn weight(dice: &mut Dice) -> u32 {
    one_of(dice, &[0, 1, 1, 1, 1, 2, 2, 3, 4, 6, 9, 20, 100])
}

pub(crate) fn limit(dice: &mut Dice) -> Option<(u16, u32)> {
    chance(dice, 15).then(|| some_limit(dice))
}

pub(crate) fn some_limit(dice: &mut Dice) -> (u16, u32) {
    let upper = 1 + dice.roll(8);
    let lower = dice.roll(upper);
    (u16::try_from(upper).unwrap(), u32::try_from(lower).unwrap())
}

pub(crate) fn way(dice: &mut Dice) -> Way {
    match dice.roll(20) {
        0 | 1 => Way::Far,
        2 | 3 => Way::Router,
        4 => Way::Local,
        5 => Way::Unknown,
        _ => Way::Near,
    }
}

impl Kind {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        match dice.roll(10) {
            0..4 => return Self::Direct,
            4..8 => {
                let own_port = chance(dice, 60);
                return Self::Nat { own_port };
            }
            _ => {}
        }
        let checksum = chance(dice, 50);
        let around = [Around::Ipip, Around::Gue(checksum), Around::Gre(checksum)];
        Self::Tunnel {
            around: one_of(dice, &around),
            mixed: chance(dice, 30),
        }
    }

    /// An address of the family that the server's is of.
    fn family(self, vip: IpAddr) -> IpAddr {
        match self {
            Self::Tunnel { mixed: true, .. } if vip.is_ipv4() => VIPS[2],
            Self::Tunnel { mixed: true, .. } => VIPS[0],
            Self::Direct | Self::Nat { .. } | Self::Tunnel { mixed: false, .. } => vip,
        }
    }

    const fn method(self, server: IpAddr) -> Method {
        let around = match self {
            Self::Direct => return Method::Direct,
            Self::Nat { .. } => return Method::Nat,
            Self::Tunnel { around, .. } => around,
        };
        let tunnel = match around {
            Around::Ipip => Tunnel::Ipip,
            Around::Gue(checksum) => Tunnel::Gue {
                port: GUE,
                checksum: if checksum {
                    Checksum::Full
                } else {
                    Checksum::None
                },
            },
            Around::Gre(checksum) => Tunnel::Gre { checksum },
        };
        Method::Tunnel(tunnel, own_ip(server))
    }
}
