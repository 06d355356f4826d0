//! What a frame is: Ethernet, IPv4 with options or IPv6 with extension headers, TCP or UDP.

use xdp_lb_common::addr::{Address, ICMP, ICMP_V6, Mac, TCP, UDP};
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::opaque::blurred;
use xdp_lb_common::reason::Reason;
use xdp_lb_common::vlan;

use crate::extensions::{self, FRAGMENT};
use crate::family::joined;
use crate::packet::{Frame, Packet};

/// Length of an Ethernet header, and where the IP header starts.
pub const ETHERNET: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_MIN: usize = 20;
/// Length of an IPv6 header.
pub const IPV6_LEN: usize = 40;
/// Length of a TCP header without options.
pub const TCP_MIN: usize = 20;
/// What is needed of a TCP header to know its ports; no fragment that another follows has less.
const PORTS: usize = 8;
const UDP_LEN: usize = 8;
/// More-fragments and the fragment offset.
pub const FRAGMENT_BE: u16 = 0x3fff_u16.to_be();
/// The fragment offset of an IPv4 header.
pub const OFFSET_BE: u16 = 0x1fff_u16.to_be();

/// Which frames a parser takes: whole packets alone,
const WHOLE: u8 = 0;
/// also the first fragment of one,
const FIRST: u8 = 1;
/// also all others.
const ANY: u8 = 2;

/// The bits of an IPv4 header that a frame must not have set.
#[inline(always)]
const fn refused(taken: u8) -> u16 {
    match taken {
        WHOLE => FRAGMENT_BE,
        FIRST => OFFSET_BE,
        _ => 0,
    }
}

/// The transport header's fields that matter.
struct Transport {
    /// Both ports as they stand, the client's in the low half: a word, which stays aligned on the stack.
    ports_be: u32,
    tcp_flags: u8,
}

/// What later fragments have of it.
const NO_TRANSPORT: Transport = Transport {
    ports_be: 0,
    tcp_flags: 0,
};

/// Parses a frame that can be balanced; otherwise says why it cannot.
#[inline(always)]
pub fn ipv4(frame: &Frame) -> Result<Packet, Reason> {
    ipv4_of::<WHOLE>(frame)
}

/// [`ipv4`], also for the first fragment of a datagram, which is like a whole one but that its TCP header
/// may be cut: then there are ports and no flags. Whatever comes to look at a frame again takes this.
#[inline(always)]
pub fn ipv4_first(frame: &Frame) -> Result<Packet, Reason> {
    ipv4_of::<FIRST>(frame)
}

/// [`ipv4_first`], also for later fragments, which have no ports.
#[inline(always)]
pub fn ipv4_any(frame: &Frame) -> Result<Packet, Reason> {
    ipv4_of::<ANY>(frame)
}

#[inline(always)]
fn ipv4_of<const TAKEN: u8>(frame: &Frame) -> Result<Packet, Reason> {
    if !frame.holds(0, ETHERNET) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the Ethernet header.
    let ethertype = u16::from_be(unsafe { frame.read(12) });
    match ethertype {
        0x0800 => {}
        0x86dd => return Err(Reason::Ipv6),
        vlan::CUSTOMER | vlan::SERVICE => return Err(Reason::Vlan),
        _ => return Err(Reason::NotIp),
    }
    if !frame.holds(ETHERNET, IPV4_MIN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the IP header, as are the reads of it below.
    let version_ihl: u8 = unsafe { frame.read(ETHERNET) };
    let header = (version_ihl as usize & 0xf) * 4;
    // SAFETY: as above.
    let len = u16::from_be(unsafe { frame.read(ETHERNET + 2) });
    if version_ihl >> 4 != 4 || header < IPV4_MIN || (len as usize) < header {
        return Err(Reason::Malformed);
    }
    if !frame.has(ETHERNET + len as usize) {
        return Err(Reason::Truncated);
    }
    // SAFETY: as above.
    let fragment: u16 = unsafe { frame.read(ETHERNET + 6) };
    // SAFETY: as above.
    let protocol: u8 = unsafe { frame.read(ETHERNET + 9) };
    if fragment & refused(TAKEN) != 0 {
        return Err(fragment_of(protocol, ICMP));
    }
    let transport = if fragment & OFFSET_BE & !refused(TAKEN) != 0 {
        NO_TRANSPORT
    } else {
        transport::<TAKEN>(frame, protocol, header, len as usize)?
    };
    // SAFETY: within both headers, all of them.
    let (ttl, client_be, vip_be, low, high) = unsafe {
        (
            frame.read::<u8>(ETHERNET + 8),
            frame.read::<u32>(ETHERNET + 12),
            frame.read::<u32>(ETHERNET + 16),
            frame.read::<u64>(0),
            frame.read::<u32>(8),
        )
    };
    // What follows is the same for TCP and UDP, in the eyes of the verifier.
    let protocol = blurred(protocol.into(), client_be.into()) as u8;
    let tcp_flags = blurred(transport.tcp_flags.into(), client_be.into()) as u8;
    Ok(Packet {
        flow: FlowV4 {
            client_be,
            vip_be,
            client_port_be: transport.ports_be as u16,
            vip_port_be: (transport.ports_be >> 16) as u16,
            protocol,
        },
        tcp_flags,
        ttl,
        len: len.into(),
        source: Mac(low >> 48 | (high as u64) << 16),
        destination: Mac(low & Mac::MASK),
        ctx: frame.context(),
    })
}

/// Parses a frame that [`ipv4`] found to be IPv6.
#[inline(always)]
pub fn ipv6(frame: &Frame) -> Result<Packet<FlowV6>, Reason> {
    ipv6_of::<WHOLE>(frame)
}

/// [`ipv6`], also for the first fragment of a packet, as [`ipv4_first`] is.
#[inline(always)]
pub fn ipv6_first(frame: &Frame) -> Result<Packet<FlowV6>, Reason> {
    ipv6_of::<FIRST>(frame)
}

/// [`ipv6_first`], also for later fragments, which have no ports.
#[inline(always)]
pub fn ipv6_any(frame: &Frame) -> Result<Packet<FlowV6>, Reason> {
    ipv6_of::<ANY>(frame)
}

#[inline(always)]
fn ipv6_of<const TAKEN: u8>(frame: &Frame) -> Result<Packet<FlowV6>, Reason> {
    if !frame.holds(0, ETHERNET + IPV6_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the two headers, all of them.
    let (version, payload, next, ttl, client, vip, low, high) = unsafe {
        (
            frame.read::<u8>(ETHERNET) >> 4,
            u16::from_be(frame.read(ETHERNET + 4)),
            frame.read::<u8>(ETHERNET + 6),
            frame.read::<u8>(ETHERNET + 7),
            address(frame, ETHERNET + 8),
            address(frame, ETHERNET + 24),
            frame.read::<u64>(0),
            frame.read::<u32>(8),
        )
    };
    if version != 6 {
        return Err(Reason::Malformed);
    }
    let payload = payload as usize;
    if !frame.has(ETHERNET + IPV6_LEN + payload) {
        return Err(Reason::Truncated);
    }
    let (protocol, passed, is_later) = if next == TCP || next == UDP {
        (next, 0, false)
    } else {
        behind_extensions::<TAKEN>(frame, payload)?
    };
    let rest = frame.from(passed & 0x3fff);
    let transport = if TAKEN == ANY && is_later {
        NO_TRANSPORT
    } else {
        ports::<TAKEN>(&rest, protocol, ETHERNET + IPV6_LEN, payload - passed)?
    };
    let unknown = client.words_be[3].into();
    let protocol = blurred(protocol.into(), unknown) as u8;
    let tcp_flags = blurred(transport.tcp_flags.into(), unknown) as u8;
    Ok(Packet {
        flow: FlowV6 {
            client,
            vip,
            client_port_be: transport.ports_be as u16,
            vip_port_be: (transport.ports_be >> 16) as u16,
            protocol,
        },
        tcp_flags,
        ttl,
        len: (IPV6_LEN + payload) as u32,
        source: Mac(low >> 48 | (high as u64) << 16),
        destination: Mac(low & Mac::MASK),
        ctx: frame.context(),
    })
}

/// Whether a frame that was parsed carries IPv4.
#[inline(always)]
pub fn is_v4(frame: &Frame) -> bool {
    // SAFETY: checked just before.
    frame.holds(0, ETHERNET) && unsafe { frame.read::<u16>(12) } == 0x0800_u16.to_be()
}

/// Reads an address in words: the compiler of BPF programs breaks on copies of unaligned arrays.
///
/// # Safety
/// As [`Frame::read`], for 16 octets.
#[inline(always)]
pub unsafe fn address(frame: &Frame, at: usize) -> Address {
    // SAFETY: as the caller checked.
    unsafe { joined(frame.read(at), frame.read(at + 8)) }
}

/// What stands behind extension headers, their octets, and whether it is a later fragment's. What a first
/// fragment has behind its header only the real server looks at.
#[inline(always)]
fn behind_extensions<const TAKEN: u8>(
    frame: &Frame,
    payload: usize,
) -> Result<(u8, usize, bool), Reason> {
    let behind = extensions::of(frame, payload)?;
    if behind.is_fragment() && (TAKEN == WHOLE || (TAKEN == FIRST && behind.is_later())) {
        return Err(fragment_of(behind.protocol(), ICMP_V6));
    }
    if behind.is_later() {
        return Ok((behind.protocol(), behind.passed(), true));
    }
    match behind.protocol() {
        TCP | UDP => {}
        // A fragment of a fragment: nobody makes them.
        FRAGMENT => return Err(Reason::Fragment),
        _ => return Err(Reason::NotTcpUdp),
    }
    if behind.passed() > payload {
        return Err(Reason::Truncated);
    }
    Ok((behind.protocol(), behind.passed(), false))
}

/// Why a fragment is not balanced.
#[inline(always)]
fn fragment_of(protocol: u8, icmp: u8) -> Reason {
    if protocol == icmp {
        Reason::IcmpFragment
    } else {
        Reason::Fragment
    }
}

/// Reads the transport header: at its usual place without a variable offset, which the compiler and
/// the verifier both like better.
#[inline(always)]
fn transport<const TAKEN: u8>(
    frame: &Frame,
    protocol: u8,
    header: usize,
    len: usize,
) -> Result<Transport, Reason> {
    if header == IPV4_MIN {
        ports::<TAKEN>(frame, protocol, ETHERNET + IPV4_MIN, len - header)
    } else {
        ports::<TAKEN>(&frame.from(header & 0x3c), protocol, ETHERNET, len - header)
    }
}

#[inline(always)]
fn ports<const TAKEN: u8>(
    frame: &Frame,
    protocol: u8,
    at: usize,
    len: usize,
) -> Result<Transport, Reason> {
    let need = match protocol {
        TCP if TAKEN != WHOLE => PORTS,
        TCP => TCP_MIN,
        UDP => UDP_LEN,
        _ => return Err(Reason::NotTcpUdp),
    };
    if len < need {
        return Err(Reason::Truncated);
    }
    let tcp_flags = match protocol {
        TCP if TAKEN == WHOLE || len >= TCP_MIN => {
            if !frame.holds(at, TCP_MIN) {
                return Err(Reason::Truncated);
            }
            // SAFETY: within the TCP header.
            unsafe { frame.read::<u8>(at + 13) }
        }
        _ => 0,
    };
    if !frame.holds(at, UDP_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the first eight octets, checked above.
    let both: u32 = unsafe { frame.read(at) };
    Ok(Transport {
        ports_be: both,
        tcp_flags,
    })
}
