//! ICMP errors about packets that real servers sent: they come to the VIP, from any router on the way to
//! the client, and belong to the real server that has the connection, or path-MTU discovery ends here.
//!
//! The packet that an error quotes went from the VIP to the client, so its addresses and ports name the
//! connection the other way round. Its first eight octets behind the IP header are enough (RFC 792).
//!
//! An error to a real server in a tunnel goes into that, as the packets do; with address translation
//! [`crate::quote`] goes on. Errors about what a real server got come to the client's address, as replies
//! do, and [`crate::reply`] has them. Those about the packets of a tunnel come to the director itself, and
//! [`crate::tunnel_error`] has them.

use aya_ebpf::bindings::xdp_action;
use xdp_lb_common::addr::{Address, ICMP, ICMP_V6, Mac, TCP, UDP};
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::LongTick;

use crate::conn::Target;
use crate::family::{Family, halves};
use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN, OFFSET_BE, address};
use crate::{conn, decided, extensions, forward, service, settings};

/// Length of the header of all errors; the quoted packet follows.
pub const ICMP_LEN: usize = 8;
/// What is needed of the quoted packet behind its IP header.
const QUOTED: usize = 8;

/// Sends an ICMP error after its connection. (What it is about is looked up, and nothing changed.)
#[inline(always)]
pub fn follow(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let (mut packet, client_be) = error(frame)?;
    let control = service::control()?;
    let service = service::find(control, &packet).ok_or(Reason::NoService)?;
    let now = settings::now();
    service::ours(frame, &packet, &service, control, now)?;
    packet.flow.client_be = client_be;
    to_server(frame, &packet, &service, (control, now))
}

/// [`follow`] for ICMPv6.
#[inline(always)]
pub fn follow_v6(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let (mut packet, client) = error_v6(frame)?;
    let control = service::control()?;
    let service = service::find_v6(control, &packet).ok_or(Reason::NoService)?;
    let now = settings::now();
    service::ours(frame, &packet, &service, control, now)?;
    packet.flow.client = client;
    to_server(frame, &packet, &service, (control, now))
}

#[inline(always)]
fn to_server<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    (control, now): (service::Words, LongTick),
) -> Result<(Reason, u32), Reason> {
    let target = Target::of(conn::look_up(packet, service, now.short())?)?;
    let sent = forward::send(frame, packet, service, control, target);
    if let Err(Reason::NoProgram) = sent {
        decided::note_special(packet.flow.protocol().into());
    }
    let (reason, action) = sent?;
    let reason = match action {
        xdp_action::XDP_TX => Reason::TxIcmp,
        xdp_action::XDP_REDIRECT => Reason::RedirectIcmp,
        _ => reason,
    };
    Ok((reason, action))
}

/// An ICMP error with the connection it is about, and apart from it the client. In the client's place
/// stands the sender of the error: whether another director balanced the frame already shows by who
/// sent it.
#[inline(always)]
pub fn error(frame: &Frame) -> Result<(Packet, u32), Reason> {
    // The entry looked at the header, and at the length of the packet; the verifier does not know.
    if !frame.holds(0, ETHERNET + IPV4_MIN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within both headers, all of them.
    let (version_ihl, len_be, ttl, protocol, sender_be, receiver_be, low, high) = unsafe {
        (
            frame.read::<u8>(ETHERNET),
            frame.read::<u16>(ETHERNET + 2),
            frame.read::<u8>(ETHERNET + 8),
            frame.read::<u8>(ETHERNET + 9),
            frame.read::<u32>(ETHERNET + 12),
            frame.read::<u32>(ETHERNET + 16),
            frame.read::<u64>(0),
            frame.read::<u32>(8),
        )
    };
    if protocol != ICMP {
        return Err(Reason::NotTcpUdp);
    }
    let (len, header) = (u16::from_be(len_be) as usize, header_len(version_ihl));
    let message = frame.from(header & 0x3c);
    if len < header + ICMP_LEN || !message.holds(ETHERNET, ICMP_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the ICMP header.
    let kind: u8 = unsafe { message.read(ETHERNET) };
    // Destination unreachable, time exceeded, parameter problem.
    if kind != 3 && kind != 11 && kind != 12 {
        return Err(Reason::Icmp);
    }
    let quote = quoted(&message, len - header - ICMP_LEN)?;
    if quote.vip_be != receiver_be {
        return Err(Reason::IcmpUnknown);
    }
    let packet = Packet {
        flow: FlowV4 {
            client_be: sender_be,
            ..quote
        },
        tcp_flags: 0,
        ttl,
        len: len as u32,
        source: Mac(low >> 48 | (high as u64) << 16),
        destination: Mac(low & Mac::MASK),
        ctx: frame.context(),
    };
    Ok((packet, quote.client_be))
}

#[inline(always)]
fn header_len(version_ihl: u8) -> usize {
    (version_ihl as usize & 0xf) * 4
}

/// The connection of the packet that is quoted behind an ICMP header, of which `len` octets are there.
#[inline(always)]
pub fn quoted(message: &Frame, len: usize) -> Result<FlowV4, Reason> {
    const AT: usize = ETHERNET + ICMP_LEN;
    if len < IPV4_MIN || !message.holds(AT, IPV4_MIN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the quoted header.
    let (version_ihl, fragment, protocol, vip_be, client_be) = unsafe {
        (
            message.read::<u8>(AT),
            message.read::<u16>(AT + 6),
            message.read::<u8>(AT + 9),
            message.read::<u32>(AT + 12),
            message.read::<u32>(AT + 16),
        )
    };
    let header = header_len(version_ihl);
    if version_ihl >> 4 != 4 || header < IPV4_MIN {
        return Err(Reason::Malformed);
    }
    if fragment & OFFSET_BE != 0 {
        // Its ports are in the first fragment, which is not quoted.
        return Err(Reason::IcmpUnknown);
    }
    let ports_be = ports(&message.from(header & 0x3c), AT, protocol, (header, len))?;
    Ok(FlowV4 {
        client_be,
        vip_be,
        client_port_be: (ports_be >> 16) as u16,
        vip_port_be: ports_be as u16,
        protocol,
    })
}

/// Both ports of a quoted packet as they stand, behind `passed` of `len` octets: the VIP's in the lower
/// half.
#[inline(always)]
fn ports(
    rest: &Frame,
    at: usize,
    protocol: u8,
    (passed, len): (usize, usize),
) -> Result<u32, Reason> {
    if protocol != TCP && protocol != UDP {
        return Err(Reason::IcmpUnknown);
    }
    if len < passed + QUOTED || !rest.holds(at, QUOTED) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the octets checked above.
    Ok(unsafe { rest.read(at) })
}

/// [`error`] for ICMPv6.
#[inline(always)]
pub fn error_v6(frame: &Frame) -> Result<(Packet<FlowV6>, Address), Reason> {
    const AT: usize = ETHERNET + IPV6_LEN;
    if !frame.holds(0, AT) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within both headers, all of them.
    let (payload_be, ttl, sender, receiver, low, high) = unsafe {
        (
            frame.read::<u16>(ETHERNET + 4),
            frame.read::<u8>(ETHERNET + 7),
            address(frame, ETHERNET + 8),
            address(frame, ETHERNET + 24),
            frame.read::<u64>(0),
            frame.read::<u32>(8),
        )
    };
    let payload = u16::from_be(payload_be) as usize;
    let behind = extensions::of(frame, payload)?;
    if behind.protocol() != ICMP_V6 || behind.is_fragment() {
        return Err(Reason::NotTcpUdp);
    }
    let passed = behind.passed();
    let message = frame.from(passed & 0x3fff);
    if payload < passed + ICMP_LEN || !message.holds(AT, ICMP_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the ICMPv6 header.
    let kind: u8 = unsafe { message.read(AT) };
    // Destination unreachable, packet too big, time exceeded, parameter problem.
    if kind == 0 || kind > 4 {
        return Err(Reason::Icmp);
    }
    // The quoted header then lies where an IPv6 header lies in a frame.
    let base = passed + IPV6_LEN + ICMP_LEN;
    let quote = quoted_v6(
        &message.from(IPV6_LEN + ICMP_LEN),
        base,
        payload - passed - ICMP_LEN,
    )?;
    let ((high_half, low_half), vip) = (halves(receiver), halves(quote.vip));
    if (high_half ^ vip.0) | (low_half ^ vip.1) != 0 {
        return Err(Reason::IcmpUnknown);
    }
    let packet = Packet {
        flow: FlowV6 {
            client: sender,
            ..quote
        },
        tcp_flags: 0,
        ttl,
        len: (IPV6_LEN + payload) as u32,
        source: Mac(low >> 48 | (high as u64) << 16),
        destination: Mac(low & Mac::MASK),
        ctx: frame.context(),
    };
    Ok((packet, quote.client))
}

/// [`quoted`] for IPv6; the quoted header stands where a frame has its own, `base` octets behind that of
/// the error.
#[inline(always)]
pub fn quoted_v6(quote: &Frame, base: usize, len: usize) -> Result<FlowV6, Reason> {
    const AT: usize = ETHERNET + IPV6_LEN;
    if len < IPV6_LEN || !quote.holds(ETHERNET, IPV6_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the quoted header.
    let (version, vip, client) = unsafe {
        (
            quote.read::<u8>(ETHERNET) >> 4,
            address(quote, ETHERNET + 8),
            address(quote, ETHERNET + 24),
        )
    };
    if version != 6 {
        return Err(Reason::Malformed);
    }
    let len = len - IPV6_LEN;
    let behind = extensions::at(quote, base, len)?;
    if behind.is_later() {
        return Err(Reason::IcmpUnknown);
    }
    let (protocol, passed) = (behind.protocol(), behind.passed());
    let ports_be = ports(&quote.from(passed & 0x3fff), AT, protocol, (passed, len))?;
    Ok(FlowV6 {
        client,
        vip,
        client_port_be: (ports_be >> 16) as u16,
        vip_port_be: ports_be as u16,
        protocol,
    })
}
