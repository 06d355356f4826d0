//! Bytes that keepalived 2.2.7 sent, both ways, and what is refused of them when they are changed.

use std::net::IpAddr;

use super::super::message::{decode, encode};
use super::super::*;
use crate::vrrp::testing::hex;

const A: &str = "10.9.0.11";
const B: &str = "172.16.12.61";
const PASS: &str = "s3cr3t";

/// What a packet is, and the packet.
type Capture = (
    &'static str,
    Version,
    u8,
    u8,
    u16,
    Option<&'static str>,
    &'static str,
);

/// IPv4 packets: what it is, version, VRID, priority, centiseconds, password, the packet.
#[rustfmt::skip]
const V4: &[Capture] = &[
    ("PASS", Version::V2, 51, 150, 100, Some(PASS), "45c0002800010000ff70d07e0a09000be0000012 2133960101013375 0a090032 7333637233740000"),
    ("PASS, released", Version::V2, 51, 0, 100, Some(PASS), "45c00028000b0000ff70d0740a09000be0000012 213300010101c975 0a090032 7333637233740000"),
    ("no auth", Version::V2, 51, 150, 100, None, "45c0002800010000ff70d07e0a09000be0000012 2133960100013e8f 0a090032 0000000000000000"),
    ("no auth, released", Version::V2, 51, 0, 100, None, "45c00028000b0000ff70d0740a09000be0000012 213300010001d48f 0a090032 0000000000000000"),
    ("two addresses", Version::V2, 51, 150, 100, Some(PASS), "45c0002c00010000ff70d07a0a09000be0000012 2133960201012938 0a090032 0a090033 7333637233740000"),
    ("two addresses, released", Version::V2, 51, 0, 100, Some(PASS), "45c0002c000b0000ff70d0700a09000be0000012 213300020101bf38 0a090032 0a090033 7333637233740000"),
    ("unicast", Version::V2, 51, 150, 100, Some(PASS), "45c0002800010000ff70a67c0a09000b0a09000c 2133960101013375 0a090032 7333637233740000"),
    ("advert_int 2", Version::V2, 51, 150, 200, Some(PASS), "45c0002800010000ff70d07e0a09000be0000012 2133960101023374 0a090032 7333637233740000"),
    ("owner", Version::V2, 51, 255, 100, Some(PASS), "45c0002800010000ff70d07e0a09000be0000012 2133ff010101ca74 0a090032 7333637233740000"),
    ("v3", Version::V3, 51, 150, 100, None, "45c0002000010000ff70d0860a09000be0000012 3133960100644389 0a090032"),
    ("v3, released", Version::V3, 51, 0, 100, None, "45c00020000b0000ff70d07c0a09000be0000012 313300010064d989 0a090032"),
    ("v3, 0.1 s", Version::V3, 51, 150, 10, None, "45c0002000010000ff70d0860a09000be0000012 31339601000a43e3 0a090032"),
    ("v3, 0.1 s, released", Version::V3, 51, 0, 10, None, "45c0002000800000ff70d0070a09000be0000012 31330001000ad9e3 0a090032"),
    ("v3, two addresses", Version::V3, 51, 150, 100, None, "45c0002400010000ff70d0820a09000be0000012 3133960200643948 0a090032 0a090033"),
    ("v3, unicast", Version::V3, 51, 150, 100, None, "45c0002000010000ff70a6840a09000b0a09000c 3133960100641987 0a090032"),
    ("other host, 1111", Version::V2, 51, 100, 100, Some("1111"), "45c0002c00010000ff702241ac100c3de0000012 213364020101a54a ac100cfe ac100cfd 3131313100000000"),
    ("other host, owner", Version::V2, 52, 255, 100, None, "45c0002800010000ff702245ac100c3de0000012 2134ff01000126bc ac100cfc 0000000000000000"),
    ("other host, v3 0.25 s", Version::V3, 54, 200, 25, None, "45c0002000010000ff70224dac100c3de0000012 3136c8010019b4c7 ac100cfa"),
    ("other host, unicast", Version::V2, 59, 200, 100, None, "45c0002800010000ff704a09ac100c3dac100c3e 213bc80100015dbb ac100cf6 0000000000000000"),
];

/// IPv6 messages from `fe80::ff:fe00:1` to `ff02::12`.
const V6: &[(u8, &str)] = &[
    (
        150,
        "3133960200643f0c fe800000000000000000000000000050 fd000009000000000000000000000050",
    ),
    (
        0,
        "313300020064d50c fe800000000000000000000000000050 fd000009000000000000000000000050",
    ),
];

fn v6(message: Vec<u8>) -> Datagram {
    Datagram {
        source: "fe80::ff:fe00:1".parse().unwrap(),
        destination: "ff02::12".parse().unwrap(),
        hops: HOPS,
        message,
    }
}

fn sum_again(message: &mut [u8]) {
    message[6..8].fill(0);
    let sum = checksum::plain(message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn what_keepalived_sends_is_read_and_written_again_byte_for_byte() {
    for &(what, version, vrid, priority, centis, password, packet) in V4 {
        let packet = hex(packet);
        let datagram = ip::parse(&packet).unwrap_or_else(|e| panic!("{what}: {e}"));
        let got = decode(&datagram)
            .unwrap_or_else(|e| panic!("{what}: {e}"))
            .advert;
        assert_eq!(got.version, version, "{what}");
        assert_eq!(got.vrid.get(), vrid, "{what}");
        assert_eq!(got.priority.get(), priority, "{what}");
        assert_eq!(got.interval.centis(), centis, "{what}");
        let auth = password.map_or(Auth::None, |text| Auth::password(text.as_bytes()));
        assert_eq!(got.auth, auth, "{what}");
        let (IpAddr::V4(from), IpAddr::V4(to)) = (datagram.source, datagram.destination) else {
            panic!("{what}: {datagram:?}");
        };
        assert!(
            [A, B].contains(&from.to_string().as_str()),
            "{what}: {from}"
        );
        let message = encode(&got, datagram.source, datagram.destination, false);
        let id = u16::from_be_bytes([packet[4], packet[5]]);
        assert_eq!(ip::wrap(from, to, HOPS, id, &message), packet, "{what}");
    }
}

#[test]
fn what_keepalived_sends_on_ipv6_is_read_and_written_again_byte_for_byte() {
    for &(priority, message) in V6 {
        let datagram = v6(hex(message));
        let got = decode(&datagram).unwrap().advert;
        assert_eq!(got.priority.get(), priority);
        assert_eq!(
            got.addresses,
            ["fe80::50", "fd00:9::50"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        let again = encode(&got, datagram.source, datagram.destination, false);
        assert_eq!(again, datagram.message);
    }
    // The other capture does not say which link-local address it came from; the sum tells.
    let other =
        hex("3137c80200327e57 fe800000000000000000000000001234 20010db8000000000000000000000001");
    assert_eq!(decode(&v6(other)).unwrap_err(), Refusal::Checksum);
}

#[test]
fn a_version_3_checksum_without_pseudo_header_is_accepted_and_can_be_sent() {
    let packet = hex(V4[9].6);
    let mut datagram = ip::parse(&packet).unwrap();
    let advert = decode(&datagram).unwrap().advert;
    datagram.message = encode(&advert, datagram.source, datagram.destination, true);
    // The value that the capture's notes give for the same advert.
    assert_eq!(datagram.message[6..8], [0x2e, 0x2c]);
    assert_eq!(decode(&datagram).unwrap().advert, advert);
}

#[test]
fn ah_is_refused_by_name_with_its_vrid() {
    let packet = hex(
        "45c0004000010000ff33226aac100c3de0000012 70040000ac100c3d0000000163144d54c867519137815000 2135960102018dbc ac100cfb 0000000000000000",
    );
    let refused = ip::parse(&packet).unwrap_err();
    assert_eq!(refused.reason, Refusal::AuthHeader);
    assert_eq!(refused.vrid.map(Vrid::get), Some(53));
    assert_eq!(refused.sender, Some(IpAddr::from([172, 16, 12, 61])));
}

#[test]
fn padding_of_the_link_and_ip_options_are_no_part_of_the_message() {
    let mut packet = hex(V4[9].6);
    let datagram = ip::parse(&packet).unwrap();
    packet.extend_from_slice(&[0; 14]);
    assert_eq!(ip::parse(&packet).unwrap(), datagram);
    // Router alert: IHL 6, four more bytes, header summed again.
    let mut with_option = packet[..20].to_vec();
    with_option.extend_from_slice(&[0x94, 4, 0, 0]);
    with_option.extend_from_slice(&packet[20..32]);
    with_option[0] = 0x46;
    with_option[3] += 4;
    with_option[10..12].fill(0);
    let sum = checksum::plain(&with_option[..24]);
    with_option[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(ip::parse(&with_option).unwrap(), datagram);
}

#[test]
fn a_damaged_header_is_refused() {
    let packet = hex(V4[0].6);
    for (at, value, reason) in [
        (0, 0x55, Refusal::Header),
        (0, 0x44, Refusal::Header),
        (0, 0x4f, Refusal::Header),
        (3, 0xff, Refusal::Header),
        (3, 10, Refusal::Header),
        (8, 254, Refusal::Header), // the header's sum is wrong then
    ] {
        let mut packet = packet.clone();
        packet[at] = value;
        assert_eq!(
            ip::parse(&packet).unwrap_err().reason,
            reason,
            "byte {at} = {value}"
        );
    }
    for (at, value, reason) in [
        (6, 0x20, Refusal::Fragment),
        (9, 17, Refusal::Protocol { protocol: 17 }),
    ] {
        let mut packet = packet.clone();
        packet[at] = value;
        packet[10..12].fill(0);
        let sum = checksum::plain(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(
            ip::parse(&packet).unwrap_err().reason,
            reason,
            "byte {at} = {value}"
        );
    }
}

type Change = fn(&mut Vec<u8>);

#[test]
fn every_fault_of_a_message_has_its_own_reason() {
    let datagram = ip::parse(&hex(V4[0].6)).unwrap();
    let length = |got, want| Refusal::Length { got, want };
    let cases: &[(&str, Change, Refusal)] = &[
        (
            "version 4",
            |m| m[0] = 0x41,
            Refusal::Version { got: 4, want: None },
        ),
        ("type 2", |m| m[0] = 0x22, Refusal::Type { got: 2 }),
        ("truncated by 4", |m| m.truncate(16), length(16, 20)),
        ("no auth bytes", |m| m.truncate(12), length(12, 20)),
        ("no header", |m| m.truncate(7), length(7, 8)),
        ("4 trailing bytes", |m| m.extend([0; 4]), length(24, 20)),
        ("count 255", |m| m[3] = 255, length(20, 1036)),
        ("bad checksum", |m| m[6] ^= 1, Refusal::Checksum),
        ("damaged address", |m| m[9] ^= 1, Refusal::Checksum),
        (
            "VRID 0",
            |m| {
                m[1] = 0;
                sum_again(m);
            },
            Refusal::Vrid { got: 0 },
        ),
        (
            "interval 0",
            |m| {
                m[5] = 0;
                sum_again(m);
            },
            Refusal::Interval,
        ),
    ];
    for (what, change, reason) in cases {
        let mut datagram = datagram.clone();
        change(&mut datagram.message);
        assert_eq!(decode(&datagram).unwrap_err(), *reason, "{what}");
    }
    let mut v2_on_v6 = v6(hex(V6[0].1));
    v2_on_v6.message[0] = 0x21;
    let want = Some(Version::V3);
    assert_eq!(
        decode(&v2_on_v6).unwrap_err(),
        Refusal::Version { got: 2, want }
    );
}

#[test]
fn reserved_bits_of_version_3_are_ignored() {
    let mut datagram = ip::parse(&hex(V4[9].6)).unwrap();
    datagram.message[4] |= 0xf0;
    sum_again(&mut datagram.message);
    assert_eq!(decode(&datagram).unwrap().advert.interval.centis(), 100);
}
