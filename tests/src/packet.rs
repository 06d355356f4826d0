//! Frames: as a suite writes them down, and as a person reads them when one comes out wrong.
//!
//! Whole headers and right checksums come from `etherparse`, so that nothing of what is under test
//! takes part in its own examination. What no library would build is [written over](Packet::over) or
//! [cut](Packet::cut) afterwards.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

use anyhow::{Context, Result};
use etherparse::{
    Ethernet2Header, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder,
    TcpHeader, UdpHeader,
};

/// Length of an Ethernet header, and where the IP header of a [`Packet`] starts.
pub const ETHERNET: usize = 14;

/// Flags of a TCP header, as they stand in its octet 13.
pub mod flags {
    /// The last packet of its sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends a connection at once.
    pub const RST: u8 = 0x04;
    /// Do not hold back.
    pub const PSH: u8 = 0x08;
    /// Confirms what came from the other side.
    pub const ACK: u8 = 0x10;

    /// By name, in the order of their bits.
    pub(super) const NAMES: [(u8, &str); 5] = [
        (FIN, "FIN"),
        (SYN, "SYN"),
        (RST, "RST"),
        (PSH, "PSH"),
        (ACK, "ACK"),
    ];
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with these [`flags`].
    Tcp(u8),
    /// UDP.
    Udp,
    /// An echo request; ports mean nothing.
    Ping,
}

/// An IPv4 packet in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source MAC.
    pub source: [u8; 6],
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source address and port.
    pub from: SocketAddrV4,
    /// Destination address and port.
    pub to: SocketAddrV4,
    /// TCP, UDP or ICMP.
    pub transport: Transport,
    /// Time to live.
    pub ttl: u8,
    /// IP identification.
    pub id: u16,
    /// IP options, a multiple of four octets.
    pub options: Vec<u8>,
    /// Routers must not fragment it.
    pub dont_fragment: bool,
    /// Fragment offset in units of eight octets, and whether more fragments follow.
    pub fragment: (u16, bool),
    /// What the transport carries.
    pub payload: Vec<u8>,
    /// Octets written over the finished frame.
    overs: Vec<(usize, Vec<u8>)>,
    /// Length that the finished frame is cut or zero-filled to.
    length: Option<usize>,
}

impl Packet {
    /// A packet of TTL 64 without payload between two hosts.
    pub const fn new(
        (source, from): ([u8; 6], SocketAddrV4),
        (destination, to): ([u8; 6], SocketAddrV4),
        transport: Transport,
    ) -> Self {
        Self {
            source,
            destination,
            from,
            to,
            transport,
            ttl: 64,
            id: 1,
            options: Vec::new(),
            dont_fragment: true,
            fragment: (0, false),
            payload: Vec::new(),
            overs: Vec::new(),
            length: None,
        }
    }

    /// With these octets from `at` on, counted from the start of the frame. Checksums stay as they
    /// were.
    #[must_use]
    pub fn over(mut self, at: usize, octets: &[u8]) -> Self {
        self.overs.push((at, octets.to_vec()));
        self
    }

    /// Only the first `length` octets of the frame; zeroes follow where it was shorter.
    #[must_use]
    pub const fn cut(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// The frame.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let ip = IpHeaders::Ipv4(self.ip()?, etherparse::Ipv4Extensions::default());
        let packet = PacketBuilder::ethernet2(self.source, self.destination).ip(ip);
        let mut bytes = Vec::new();
        match self.transport {
            Transport::Tcp(flags) => packet
                .tcp_header(self.tcp(flags))
                .write(&mut bytes, &self.payload)?,
            Transport::Udp => packet
                .udp(self.from.port(), self.to.port())
                .write(&mut bytes, &self.payload)?,
            Transport::Ping => packet
                .icmpv4_echo_request(1, 1)
                .write(&mut bytes, &self.payload)?,
        }
        for (at, octets) in &self.overs {
            let place = bytes.get_mut(*at..at + octets.len());
            place
                .context("written beyond the end of the frame")?
                .copy_from_slice(octets);
        }
        if let Some(length) = self.length {
            bytes.resize(length, 0);
        }
        Ok(bytes)
    }

    fn ip(&self) -> Result<Ipv4Header> {
        let (offset, more) = self.fragment;
        Ok(Ipv4Header {
            identification: self.id,
            dont_fragment: self.dont_fragment && !more && offset == 0,
            more_fragments: more,
            fragment_offset: IpFragOffset::try_new(offset)?,
            time_to_live: self.ttl,
            source: self.from.ip().octets(),
            destination: self.to.ip().octets(),
            options: Ipv4Options::try_from(self.options.as_slice())?,
            ..Ipv4Header::default()
        })
    }

    fn tcp(&self, flags: u8) -> TcpHeader {
        let has = |flag| flags & flag != 0;
        TcpHeader {
            fin: has(flags::FIN),
            syn: has(flags::SYN),
            rst: has(flags::RST),
            psh: has(flags::PSH),
            ack: has(flags::ACK),
            ..TcpHeader::new(self.from.port(), self.to.port(), 1, 65_535)
        }
    }
}

/// The frame as a router sends it on: other MACs, one hop less to live, the checksum made anew.
///
/// # Errors
/// When it holds no IPv4 header, or has no hop left.
pub fn forwarded(frame: &[u8], source: [u8; 6], destination: [u8; 6]) -> Result<Vec<u8>> {
    let (mut ethernet, rest) = Ethernet2Header::from_slice(frame)?;
    let (mut ip, _) = Ipv4Header::from_slice(rest)?;
    (ethernet.source, ethernet.destination) = (source, destination);
    let left = ip.time_to_live.checked_sub(1).filter(|left| *left > 0);
    ip.time_to_live = left.context("no hop left")?;
    ip.header_checksum = ip.calc_header_checksum();
    let mut bytes = ethernet.to_bytes().to_vec();
    bytes.extend_from_slice(&ip.to_bytes());
    bytes.extend_from_slice(rest.get(ip.header_len()..).unwrap_or_default());
    Ok(bytes)
}

/// A frame in words, as far as it can be read, and in hex.
pub fn show(frame: &[u8]) -> String {
    format!("{}\n{}", words(frame), hex(frame, &[]))
}

/// Two frames that ought to be the same, in words and hex; differing octets are marked in the second.
pub fn compare(expected: &[u8], got: &[u8]) -> String {
    let (wanted, found) = (words(expected), words(got));
    let (left, right) = (hex(expected, &[]), hex(got, expected));
    format!("expected: {wanted}\n{left}\ngot:      {found}\n{right}")
}

fn words(frame: &[u8]) -> String {
    let mut line = format!("{} octets", frame.len());
    let Ok((ethernet, rest)) = Ethernet2Header::from_slice(frame) else {
        return line + ", no Ethernet header";
    };
    let (source, destination) = (mac(ethernet.source), mac(ethernet.destination));
    put(
        &mut line,
        &format!(", {source} > {destination} {:#06x}", ethernet.ether_type.0),
    );
    let (ip, rest) = match Ipv4Header::from_slice(rest) {
        Ok(parsed) => parsed,
        Err(error) => return line + &format!(", no IPv4 header: {error}"),
    };
    put(&mut line, &ip_words(&ip));
    if ip.fragment_offset.value() == 0 {
        put(&mut line, &transport_words(ip.protocol, rest));
    }
    line
}

fn ip_words(ip: &Ipv4Header) -> String {
    let address = |octets: [u8; 4]| std::net::Ipv4Addr::from(octets);
    let mut text = format!(
        ", {} > {} ttl {} id {} length {}",
        address(ip.source),
        address(ip.destination),
        ip.time_to_live,
        ip.identification,
        ip.total_len
    );
    if !ip.options.is_empty() {
        put(&mut text, &format!(" options {}", ip.options.len()));
    }
    if ip.is_fragmenting_payload() {
        let (at, more) = (ip.fragment_offset.value(), ip.more_fragments);
        put(&mut text, &format!(" fragment at {at} more {more}"));
    }
    let (sum, right) = (ip.header_checksum, ip.calc_header_checksum());
    put(&mut text, &format!(" checksum {sum:#06x}"));
    if sum != right {
        put(&mut text, &format!(", should be {right:#06x}"));
    }
    text
}

fn transport_words(protocol: IpNumber, rest: &[u8]) -> String {
    match protocol {
        IpNumber::TCP => TcpHeader::from_slice(rest).map_or_else(
            |error| format!(", no TCP header: {error}"),
            |(tcp, _)| {
                let bits = rest.get(13).copied().unwrap_or_default();
                let set = flags::NAMES.iter().filter(|(bit, _)| bits & bit != 0);
                let names: Vec<_> = set.map(|(_, name)| *name).collect();
                let (from, to) = (tcp.source_port, tcp.destination_port);
                format!(", tcp {from} > {to} [{}]", names.join(" "))
            },
        ),
        IpNumber::UDP => UdpHeader::from_slice(rest).map_or_else(
            |error| format!(", no UDP header: {error}"),
            |(udp, _)| format!(", udp {} > {}", udp.source_port, udp.destination_port),
        ),
        other => format!(", {other:?}"),
    }
}

fn put(text: &mut String, more: &str) {
    text.push_str(more);
}

/// A MAC as people write it.
pub fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Sixteen octets a line. Octets that differ from `other`, if there is one, are in brackets.
fn hex(frame: &[u8], other: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in frame.chunks(16).enumerate() {
        let start = line * 16;
        // Writing to a string cannot fail.
        let _never = write!(text, "    {start:04x} ");
        for (at, octet) in (start..).zip(chunk) {
            let differs = !other.is_empty() && other.get(at) != Some(octet);
            let _never = if differs {
                write!(text, "[{octet:02x}]")
            } else {
                write!(text, " {octet:02x} ")
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(transport: Transport) -> Packet {
        let from = ([2, 0, 0, 0, 0, 1], "10.1.0.1:40000".parse().unwrap());
        let to = ([2, 0, 0, 0, 0, 2], "10.2.0.1:80".parse().unwrap());
        Packet::new(from, to, transport)
    }

    #[test]
    fn a_frame_reads_as_it_was_written() {
        let frame = packet(Transport::Tcp(flags::SYN | flags::ACK))
            .bytes()
            .unwrap();
        let shown = words(&frame);
        assert_eq!(frame.len(), 54);
        assert!(
            shown.contains("02:00:00:00:00:01 > 02:00:00:00:00:02"),
            "{shown}"
        );
        assert!(
            shown.contains("10.1.0.1 > 10.2.0.1 ttl 64 id 1 length 40 checksum"),
            "{shown}"
        );
        assert!(shown.ends_with("tcp 40000 > 80 [SYN ACK]"), "{shown}");
        assert!(!shown.contains("should be"), "{shown}");
    }

    #[test]
    fn a_forwarded_frame_differs_in_macs_ttl_and_checksum_alone() {
        let frame = packet(Transport::Udp).bytes().unwrap();
        let sent = forwarded(&frame, [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4]).unwrap();
        let differing: Vec<_> = (0..frame.len())
            .filter(|at| frame[*at] != sent[*at])
            .collect();
        assert_eq!(differing, [5, 11, 22, 24]);
        let shown = compare(&frame, &sent);
        assert!(
            shown.contains("ttl 63") && shown.contains("[3f]"),
            "{shown}"
        );
        assert!(!shown.contains("should be"), "{shown}");
    }

    #[test]
    fn what_no_library_builds_is_written_over_and_cut() {
        let broken = packet(Transport::Udp).over(ETHERNET, &[0x65]).cut(20);
        let frame = broken.bytes().unwrap();
        assert_eq!((frame.len(), frame[ETHERNET]), (20, 0x65));
        assert!(packet(Transport::Udp).over(42, &[1]).bytes().is_err());
        assert!(words(&frame).contains("no IPv4 header"));
        assert!(words(&[0; 3]).contains("no Ethernet header"));
    }
}
