//! The frames that are sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xdp_lb_tests::generator::{ACK, By, Frame, SYN};

use super::director::{MAC, VIP, VIP_V6};

/// Addresses that are no VIP.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// In the middle of a connection to the VIP.
pub(crate) const fn ack(by: By) -> Frame {
    to(by, (VIP, VIP_V6), ACK)
}

/// Opens a connection to the VIP.
pub(crate) const fn syn(by: By) -> Frame {
    to(by, (VIP, VIP_V6), SYN)
}

/// To an address that is no VIP.
pub(crate) const fn elsewhere(by: By) -> Frame {
    to(by, (OTHER, OTHER_V6), ACK)
}

const fn to(by: By, (v4, v6): (Ipv4Addr, Ipv6Addr), flags: u8) -> Frame {
    let to = match by {
        By::Generate | By::Whole => IpAddr::V4(v4),
        By::V6 => IpAddr::V6(v6),
    };
    Frame {
        by,
        mac: MAC,
        to,
        flags,
        first: 0,
    }
}
