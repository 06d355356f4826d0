//! What holds of all adverts and all bytes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::super::hmac::Mode;
use super::super::message::{decode, encode};
use super::super::*;
use super::trailer::{authenticator, verify};
use crate::vrrp::Wall;

prop_compose! {
    fn any_advert()(
        v6: bool, v2: bool, vrid in 1_u8..=255, priority: u8, seconds in 1_u16..=40, centis in 1_u16..=4095,
        password: Option<[u8; 8]>, addresses in prop::collection::vec(any::<u128>(), 0..20),
    ) -> Advert {
        let version = if v2 && !v6 { Version::V2 } else { Version::V3 };
        let (centis, auth) = match version {
            Version::V2 => (seconds * 100, password.map_or(Auth::None, Auth::Pass)),
            Version::V3 => (centis, Auth::None),
        };
        let address = |bits: u128| if v6 {
            IpAddr::from(bits.to_be_bytes())
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap()))
        };
        Advert {
            version,
            vrid: Vrid::new(vrid).unwrap(),
            priority: Priority::from_wire(priority),
            interval: Interval::from_centis(centis).unwrap(),
            auth,
            addresses: addresses.into_iter().map(address).collect(),
        }
    }
}

fn datagram_of(advert: &Advert, v6: bool, plain: bool) -> Datagram {
    let (source, destination): (IpAddr, IpAddr) = if v6 {
        ("fe80::1".parse().unwrap(), "ff02::12".parse().unwrap())
    } else {
        (IpAddr::from([10, 0, 0, 1]), IpAddr::from([224, 0, 0, 18]))
    };
    Datagram {
        source,
        destination,
        hops: HOPS,
        message: encode(advert, source, destination, plain),
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_fail(
        bytes in prop::collection::vec(any::<u8>(), 0..120), source: [u8; 16], v6: bool
    ) {
        if let Ok(datagram) = ip::parse(&bytes) {
            prop_assert!(decode(&datagram).is_err() || datagram.message.len() >= 8);
        }
        let source = if v6 { IpAddr::from(source) } else { IpAddr::from([10, 0, 0, 1]) };
        let datagram = Datagram { source, destination: source, hops: HOPS, message: bytes };
        if let Ok(decoded) = decode(&datagram) {
            prop_assert!(decoded.advert.version == Version::V3 || !v6);
        }
    }

    #[test]
    fn what_is_written_is_read_again(advert in any_advert(), plain: bool) {
        let v6 = advert.addresses.first().is_some_and(IpAddr::is_ipv6);
        let decoded = decode(&datagram_of(&advert, v6, plain)).unwrap();
        prop_assert_eq!(&decoded.advert, &advert);
        prop_assert_eq!(decoded.auth_type, advert.auth.number());
    }

    #[test]
    fn a_flipped_bit_never_goes_unnoticed(advert in any_advert(), at: prop::sample::Index, bit in 0_u8..8) {
        let v6 = advert.addresses.first().is_some_and(IpAddr::is_ipv6);
        let mut datagram = datagram_of(&advert, v6, false);
        let at = at.index(datagram.message.len());
        datagram.message[at] ^= 1 << bit;
        prop_assert!(decode(&datagram).is_err());
    }

    #[test]
    fn a_sealed_advert_is_verified_once(advert in any_advert(), seconds in 0_u64..0xffff_ffff, nanos in 0_u32..1_000_000_000) {
        let v6 = advert.addresses.first().is_some_and(IpAddr::is_ipv6);
        let mut datagram = datagram_of(&advert, v6, false);
        let wall = Wall(Duration::new(seconds, nanos));
        authenticator(Mode::Enforce).seal(&mut datagram.message, datagram.source, wall);
        let mut receiver = authenticator(Mode::Enforce);
        prop_assert_eq!(verify(&mut receiver, &datagram, wall), Ok(()));
        prop_assert_eq!(verify(&mut receiver, &datagram, wall), Err(Refusal::HmacReplay));
    }
}
