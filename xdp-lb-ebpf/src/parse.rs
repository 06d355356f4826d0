//! What a frame is: Ethernet, IPv4 with options, TCP or UDP.

use xdp_lb_common::addr::{Mac, TCP, UDP};
use xdp_lb_common::flow::FlowV4;
use xdp_lb_common::reason::Reason;

use crate::packet::{Frame, Packet};

/// Length of an Ethernet header, and where the IP header starts.
pub const ETHERNET: usize = 14;
const IPV4_MIN: usize = 20;
const TCP_MIN: usize = 20;
const UDP_LEN: usize = 8;
/// More-fragments and the fragment offset.
const FRAGMENT_BE: u16 = 0x3fff_u16.to_be();

/// The transport header's fields that matter.
struct Transport {
    client_port_be: u16,
    vip_port_be: u16,
    tcp_flags: u8,
}

/// Parses a frame that can be balanced; otherwise says why it cannot.
#[inline(always)]
pub fn ipv4(frame: &Frame) -> Result<Packet, Reason> {
    if !frame.holds(0, ETHERNET) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the Ethernet header.
    let ethertype = u16::from_be(unsafe { frame.read(12) });
    match ethertype {
        0x0800 => {}
        0x86dd => return Err(Reason::Ipv6),
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
    if ETHERNET + len as usize > frame.len() {
        return Err(Reason::Truncated);
    }
    // SAFETY: as above.
    let fragment: u16 = unsafe { frame.read(ETHERNET + 6) };
    if fragment & FRAGMENT_BE != 0 {
        return Err(Reason::Fragment);
    }
    // SAFETY: as above.
    let protocol: u8 = unsafe { frame.read(ETHERNET + 9) };
    let transport = transport(frame, protocol, header, len as usize)?;
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
    Ok(Packet {
        flow: FlowV4 {
            client_be,
            vip_be,
            client_port_be: transport.client_port_be,
            vip_port_be: transport.vip_port_be,
            protocol,
        },
        tcp_flags: transport.tcp_flags,
        ttl,
        len,
        source: Mac(low >> 48 | (high as u64) << 16),
        destination: Mac(low & Mac::MASK),
    })
}

/// Reads the transport header: at its usual place without a variable offset, which the compiler and
/// the verifier both like better.
#[inline(always)]
fn transport(frame: &Frame, protocol: u8, header: usize, len: usize) -> Result<Transport, Reason> {
    if header == IPV4_MIN {
        ports(frame, protocol, ETHERNET + IPV4_MIN, len - header)
    } else {
        ports(&frame.from(header & 0x3c), protocol, ETHERNET, len - header)
    }
}

#[inline(always)]
fn ports(frame: &Frame, protocol: u8, at: usize, len: usize) -> Result<Transport, Reason> {
    let need = match protocol {
        TCP => TCP_MIN,
        UDP => UDP_LEN,
        _ => return Err(Reason::NotTcpUdp),
    };
    if len < need {
        return Err(Reason::Truncated);
    }
    let tcp_flags = match protocol {
        TCP => {
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
        client_port_be: both as u16,
        vip_port_be: (both >> 16) as u16,
        tcp_flags,
    })
}
