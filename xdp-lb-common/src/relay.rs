//! ICMP errors about the packets of tunnels, as those are told of them who sent what the tunnel carries.
//!
//! Within one family an error keeps its type and code, as with IPVS; between the two it becomes what comes
//! nearest (RFC 2473 8). Of packets that are too long the MTU is told that is left for what is carried.

/// Types and codes of ICMP (RFC 792, RFC 1191).
mod v4 {
    pub(super) const UNREACHABLE: u8 = 3;
    pub(super) const TIME_EXCEEDED: u8 = 11;
    pub(super) const HOST_UNREACHABLE: u8 = 1;
    pub(super) const FRAGMENTATION_NEEDED: u8 = 4;
}

/// Types and codes of ICMPv6 (RFC 4443).
mod v6 {
    pub(super) const UNREACHABLE: u8 = 1;
    pub(super) const TOO_BIG: u8 = 2;
    pub(super) const TIME_EXCEEDED: u8 = 3;
    pub(super) const ADDRESS_UNREACHABLE: u8 = 3;
}

/// The least MTU of an IPv4 link (RFC 791): nobody has a smaller one.
const LEAST_V4: u32 = 68;
/// The least MTU of an IPv6 link (RFC 8200); an error that tells of less is to be discarded (RFC 8201 4).
const LEAST_V6: u32 = 1_280;
/// What links carry, for routers that do not say it (RFC 1191 7).
const PLATEAUS: [u32; 10] = [68, 296, 508, 1006, 1492, 2002, 4352, 8166, 17914, 32000];

/// Whether an error of this type and code says that a packet is too long.
const fn is_too_big(is_v6: bool, kind: u8, code: u8) -> bool {
    if is_v6 {
        kind == v6::TOO_BIG
    } else {
        kind == v4::UNREACHABLE && code == v4::FRAGMENTATION_NEEDED
    }
}

const fn joined(kind: u8, code: u8) -> u16 {
    kind as u16 | (code as u16) << 8
}

/// Type and, in the upper half, code of the error that a client is told, of an error about the packet of a
/// tunnel; each by whether its family is IPv6. `None` if the client is not told: of what is no error, or of
/// one that is about the director's own header.
pub const fn relayed(outer_v6: bool, inner_v6: bool, kind: u8, code: u8) -> Option<u16> {
    let stays = outer_v6 == inner_v6;
    let (unreachable, exceeded) = if outer_v6 {
        (v6::UNREACHABLE, v6::TIME_EXCEEDED)
    } else {
        (v4::UNREACHABLE, v4::TIME_EXCEEDED)
    };
    if is_too_big(outer_v6, kind, code) {
        Some(if inner_v6 {
            joined(v6::TOO_BIG, 0)
        } else {
            joined(v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED)
        })
    } else if kind != unreachable && kind != exceeded {
        None
    } else if stays {
        Some(joined(kind, code))
    } else if kind == exceeded {
        // Both families say by 0 that a hop count was used up, and by 1 that fragments were missing.
        Some(joined(
            if inner_v6 {
                v6::TIME_EXCEEDED
            } else {
                v4::TIME_EXCEEDED
            },
            code,
        ))
    } else if inner_v6 {
        Some(joined(v6::UNREACHABLE, v6::ADDRESS_UNREACHABLE))
    } else {
        Some(joined(v4::UNREACHABLE, v4::HOST_UNREACHABLE))
    }
}

/// The MTU for what a tunnel carries, of one that a router told of the tunnel's packets, IPv6 ones or not:
/// these have `grows` octets of headers more, of which one carried `len` octets. `None` if the router
/// cannot mean that.
pub const fn inner_mtu(outer_v6: bool, told: u32, len: u32, grows: u32) -> Option<u32> {
    let (least, mtu) = match (outer_v6, told) {
        (true, _) => (LEAST_V6, told),
        // As routers do that are older than RFC 1191.
        (false, 0) => (LEAST_V4, plateau(len.saturating_add(grows))),
        (false, _) => (LEAST_V4, told),
    };
    if mtu < least {
        return None;
    }
    let rest = mtu.saturating_sub(grows);
    Some(if rest < LEAST_V4 { LEAST_V4 } else { rest })
}

/// What links carry that do not carry `len` octets; 0 if there are none.
const fn plateau(len: u32) -> u32 {
    let (mut at, mut below) = (0, 0);
    while at < PLATEAUS.len() {
        if PLATEAUS[at] < len {
            below = PLATEAUS[at];
        }
        at += 1;
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_become_what_comes_nearest() {
        let told = |(outer_v6, kind, code), inner_v6, wanted: Option<(u8, u8)>| {
            let got = relayed(outer_v6, inner_v6, kind, code);
            let wanted = wanted.map(|(kind, code)| joined(kind, code));
            assert_eq!(got, wanted, "{outer_v6} {kind} {code} to {inner_v6}");
        };
        for code in (0..=255).filter(|code| *code != 4) {
            told((false, 3, code), false, Some((3, code)));
            told((false, 3, code), true, Some((1, 3)));
            told((false, 11, code), false, Some((11, code)));
            told((false, 11, code), true, Some((3, code)));
        }
        told((false, 3, 4), false, Some((3, 4)));
        told((false, 3, 4), true, Some((2, 0)));
        for code in 0..=255 {
            told((true, 1, code), true, Some((1, code)));
            told((true, 1, code), false, Some((3, 1)));
            told((true, 2, code), true, Some((2, 0)));
            told((true, 2, code), false, Some((3, 4)));
            told((true, 3, code), true, Some((3, code)));
            told((true, 3, code), false, Some((11, code)));
        }
        for inner_v6 in [false, true] {
            for kind in (0..=255).filter(|kind| ![3, 11].contains(kind)) {
                told((false, kind, 0), inner_v6, None);
            }
            for kind in (0..=255).filter(|kind| ![1, 2, 3].contains(kind)) {
                told((true, kind, 0), inner_v6, None);
            }
        }
    }

    #[test]
    fn an_mtu_loses_the_headers() {
        let cases = [
            ((false, 1400, 1480, 20), Some(1380)),
            ((false, 1400, 1400, 32), Some(1368)),
            ((false, 88, 1480, 20), Some(68)),
            ((false, 87, 1480, 20), Some(68)),
            ((false, 68, 1480, 20), Some(68)),
            ((false, 67, 1480, 20), None),
            ((false, 1, 1480, 20), None),
            ((false, 0, 1480, 20), Some(1472)),
            ((false, 0, 1473, 20), Some(1472)),
            ((false, 0, 1472, 20), Some(986)),
            ((false, 0, 60, 20), Some(68)),
            ((false, 0, 48, 20), None),
            ((false, 0, u32::MAX, 20), Some(31_980)),
            ((true, 1400, 1460, 40), Some(1360)),
            ((true, 1280, 1460, 52), Some(1228)),
            ((true, 1279, 1460, 40), None),
            ((true, 0, 1460, 40), None),
            ((true, u32::MAX, 1460, 40), Some(u32::MAX - 40)),
        ];
        for ((outer_v6, told, len, grows), wanted) in cases {
            assert_eq!(inner_mtu(outer_v6, told, len, grows), wanted, "{told}");
        }
    }

    proptest! {
        /// Whatever a router says: packets that obey fit what it says, or are as short as packets get.
        #[test]
        fn what_is_told_fits(outer_v6: bool, told in 1_u32..70_000, len in 28_u32..70_000, grows in 20_u32..60) {
            if let Some(mtu) = inner_mtu(outer_v6, told, len, grows) {
                prop_assert!(mtu + grows <= told || mtu == LEAST_V4);
                prop_assert!(mtu >= LEAST_V4);
            }
        }
    }
}
