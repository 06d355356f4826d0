//! Addresses and ports of packets, replaced by others.

use xdp_lb_common::addr::{Address, TCP};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::Reason;

use crate::extensions;
use crate::family::{Family, halves, joined};
use crate::packet::{Frame, Packet};
use crate::parse::ETHERNET;
use crate::settings::{COEFFICIENTS, coefficients_v6};

/// What of a packet is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// What differs between IPv4 and IPv6 in that.
pub trait Translate: Family {
    /// Where the source address stands in a frame.
    const SOURCE: usize;
    /// Where the destination address stands.
    const DESTINATION: usize;
    /// The number that the kernel has for the family.
    const AF: u8;
    /// The connection that a packet from a real server answers: its destination as the client, its
    /// source in place of the service.
    fn turned(&self) -> Self;
    /// The connection as the real server sees it: its address and, if it is not 0, its port in place of
    /// the service's.
    fn at_server(&self, address: Address, port_be: u16) -> Self;
    /// The keyed hash under which a connection as the real server sees it stands in the table.
    fn reply_hash(&self) -> u64;
    /// Octets from Ethernet's header to the transport's, of a whole packet or a first fragment that begins
    /// `base` octets behind the one which came in.
    fn transport(frame: &Frame, base: usize) -> Option<usize>;
    /// Reads an address.
    ///
    /// # Safety
    /// The IP header lies within the frame.
    unsafe fn read_address(frame: &Frame, at: usize) -> Address;
    /// Writes an address over another one, and the header's checksum if there is one.
    ///
    /// # Safety
    /// As [`Self::read_address`].
    unsafe fn replace_address(frame: &Frame, at: usize, old: Address, new: Address);
    /// The flow label and traffic class or type of service, as a route look-up takes them.
    ///
    /// # Safety
    /// As [`Self::read_address`].
    unsafe fn flow_info(frame: &Frame) -> u32;
}

impl Translate for FlowV4 {
    const SOURCE: usize = ETHERNET + 12;
    const DESTINATION: usize = ETHERNET + 16;
    const AF: u8 = 2;

    #[inline(always)]
    fn turned(&self) -> Self {
        Self {
            client_be: self.vip_be,
            vip_be: self.client_be,
            client_port_be: self.vip_port_be,
            vip_port_be: self.client_port_be,
            protocol: self.protocol,
        }
    }

    #[inline(always)]
    fn at_server(&self, address: Address, port_be: u16) -> Self {
        Self {
            vip_be: address.words_be[0],
            vip_port_be: if port_be == 0 {
                self.vip_port_be
            } else {
                port_be
            },
            ..*self
        }
    }

    #[inline(always)]
    fn reply_hash(&self) -> u64 {
        self.hash_of_replies(&COEFFICIENTS.load())
    }

    #[inline(always)]
    fn transport(frame: &Frame, _base: usize) -> Option<usize> {
        if !frame.holds(ETHERNET, 1) {
            return None;
        }
        // SAFETY: checked just now.
        let version_ihl: u8 = unsafe { frame.read(ETHERNET) };
        Some((version_ihl as usize & 0xf) * 4)
    }

    #[inline(always)]
    unsafe fn read_address(frame: &Frame, at: usize) -> Address {
        // SAFETY: within the header, as the caller checked.
        Address::v4(unsafe { frame.read(at) })
    }

    #[inline(always)]
    unsafe fn replace_address(frame: &Frame, at: usize, old: Address, new: Address) {
        let (old, new) = (old.words_be[0], new.words_be[0]);
        // SAFETY: within the header, as the caller checked.
        unsafe {
            let sum = Sum::under(frame.read(ETHERNET + 10)).minus(old).plus(new);
            frame.write(ETHERNET + 10, sum.checksum());
            frame.write(at, new);
        }
    }

    #[inline(always)]
    unsafe fn flow_info(frame: &Frame) -> u32 {
        // SAFETY: within the header, as the caller checked.
        unsafe { frame.read::<u8>(ETHERNET + 1) as u32 }
    }
}

impl Translate for FlowV6 {
    const SOURCE: usize = ETHERNET + 8;
    const DESTINATION: usize = ETHERNET + 24;
    const AF: u8 = 10;

    #[inline(always)]
    fn turned(&self) -> Self {
        Self {
            client: self.vip,
            vip: self.client,
            client_port_be: self.vip_port_be,
            vip_port_be: self.client_port_be,
            protocol: self.protocol,
        }
    }

    #[inline(always)]
    fn at_server(&self, address: Address, port_be: u16) -> Self {
        Self {
            vip: address,
            vip_port_be: if port_be == 0 {
                self.vip_port_be
            } else {
                port_be
            },
            ..*self
        }
    }

    #[inline(always)]
    fn reply_hash(&self) -> u64 {
        self.hash_of_replies(coefficients_v6())
    }

    #[inline(always)]
    fn transport(frame: &Frame, base: usize) -> Option<usize> {
        extensions::transport_at(frame, base)
    }

    #[inline(always)]
    unsafe fn read_address(frame: &Frame, at: usize) -> Address {
        // SAFETY: within the header, as the caller checked.
        unsafe { joined(frame.read(at), frame.read(at + 8)) }
    }

    #[inline(always)]
    unsafe fn replace_address(frame: &Frame, at: usize, _old: Address, new: Address) {
        let (high, low) = halves(new);
        // SAFETY: within the header, as the caller checked.
        unsafe {
            frame.write(at, high);
            frame.write(at + 8, low);
        }
    }

    #[inline(always)]
    unsafe fn flow_info(frame: &Frame) -> u32 {
        // SAFETY: within the header, as the caller checked.
        unsafe { frame.read::<u32>(ETHERNET) & 0x0fff_ffff_u32.to_be() }
    }
}

/// Replaces an address and, if the new one is not 0, the port beside it, and spends a hop.
#[inline(always)]
pub fn translate<F: Translate>(
    frame: &Frame,
    packet: &Packet<F>,
    side: Side,
    (address, port_be): (Address, u16),
) -> Result<(), Reason> {
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    let at = place::<F>(side);
    // SAFETY: the header lies within the frame, checked above.
    let old = unsafe { F::read_address(frame, at) };
    let transport = F::transport(frame, 0).ok_or(Reason::Inconsistent)?;
    let rest = frame.from(transport & 0x3fff);
    let changes = Changes {
        old,
        address,
        port_be,
        port_at: match side {
            Side::Source => ETHERNET,
            Side::Destination => ETHERNET + 2,
        },
    };
    if packet.flow.protocol() == TCP {
        changes.tcp(&rest)?;
    } else {
        changes.udp(&rest)?;
    }
    // SAFETY: as above.
    unsafe {
        F::replace_address(frame, at, old, address);
        F::lower_hops(frame, packet.ttl - 1);
    }
    Ok(())
}

/// Replaces the address of a later fragment, which has neither ports nor a checksum over it, and spends a
/// hop.
#[inline(always)]
pub fn translate_later<F: Translate>(
    frame: &Frame,
    side: Side,
    address: Address,
) -> Result<(), Reason> {
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    let at = place::<F>(side);
    // SAFETY: the header lies within the frame, checked above.
    unsafe {
        let hops: u8 = frame.read(F::HOPS);
        if hops <= 1 {
            return Err(Reason::TtlExpired);
        }
        let old = F::read_address(frame, at);
        F::replace_address(frame, at, old, address);
        F::lower_hops(frame, hops - 1);
    }
    Ok(())
}

/// Where the address of a side stands.
#[inline(always)]
const fn place<F: Translate>(side: Side) -> usize {
    match side {
        Side::Source => F::SOURCE,
        Side::Destination => F::DESTINATION,
    }
}

/// What changes in what a transport checksum covers.
struct Changes {
    old: Address,
    address: Address,
    port_be: u16,
    port_at: usize,
}

impl Changes {
    #[inline(always)]
    fn tcp(&self, frame: &Frame) -> Result<(), Reason> {
        const CHECKSUM: usize = ETHERNET + 16;
        if !frame.holds(ETHERNET, 18) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe {
            let sum = self.port(frame, Sum::under(frame.read(CHECKSUM)));
            frame.write(CHECKSUM, sum.checksum());
        }
        Ok(())
    }

    /// A datagram without a checksum stays without.
    #[inline(always)]
    fn udp(&self, frame: &Frame) -> Result<(), Reason> {
        const CHECKSUM: usize = ETHERNET + 6;
        if !frame.holds(ETHERNET, 8) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe {
            let had: u16 = frame.read(CHECKSUM);
            let sum = self.port(frame, Sum::under(had));
            if had != 0 {
                frame.write(CHECKSUM, sum.checksum_udp());
            }
        }
        Ok(())
    }

    /// Writes the port, and follows with a sum what it and the address change.
    ///
    /// # Safety
    /// Both ports lie within the frame.
    #[inline(always)]
    unsafe fn port(&self, frame: &Frame, sum: Sum) -> Sum {
        let sum = sum.minus_address(self.old).plus_address(self.address);
        if self.port_be == 0 {
            return sum;
        }
        // SAFETY: as the caller checked.
        let old: u16 = unsafe { frame.read(self.port_at) };
        // SAFETY: as above.
        unsafe { frame.write(self.port_at, self.port_be) };
        sum.minus(old as u32).plus(self.port_be as u32)
    }
}
