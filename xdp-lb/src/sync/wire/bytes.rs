//! Numbers and addresses, one after the other, in network order.

use std::net::{IpAddr, SocketAddr};

use crate::config::model::{Endpoint, Family, Mark, Protocol};
use crate::sync::record::ServiceName;

/// Added to the family of a service: it is one by mark.
const BY_MARK: u8 = 16;

/// Takes values off the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(left: &'a [u8]) -> Self {
        Self { left }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.left.split_first_chunk()?;
        self.left = rest;
        Some(*first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(super) fn ip(&mut self, family: Family) -> Option<IpAddr> {
        Some(match family {
            Family::V4 => IpAddr::from(self.array::<4>()?),
            Family::V6 => IpAddr::from(self.array::<16>()?),
        })
    }

    pub(super) fn socket(&mut self, family: Family) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip(family)?, self.u16()?))
    }

    pub(super) fn family(&mut self) -> Option<Family> {
        family(self.u8()?)
    }

    /// A short text, behind its length.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u8()?);
        let text = self.left.split_off(..length)?;
        std::str::from_utf8(text).ok()
    }

    pub(super) fn protocol(&mut self) -> Option<Protocol> {
        Protocol::from_number(self.u8()?)
    }

    /// Protocol, address and port.
    pub(super) fn endpoint(&mut self, family: Family) -> Option<Endpoint> {
        Some(Endpoint {
            protocol: self.protocol()?,
            vip: self.ip(family)?,
            port: self.u16()?,
        })
    }

    pub(super) fn mark(&mut self, family: Family) -> Option<Mark> {
        let mark = self.u32()?;
        Some(Mark { mark, family })
    }

    pub(super) fn service(&mut self) -> Option<ServiceName> {
        let kind = self.u8()?;
        if let Some(family) = family(kind) {
            return self.endpoint(family).map(ServiceName::Endpoint);
        }
        let family = kind.checked_sub(BY_MARK).and_then(family)?;
        self.mark(family).map(ServiceName::Mark)
    }
}

const fn family(number_of: u8) -> Option<Family> {
    match number_of {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        _ => None,
    }
}

const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// Puts values one behind the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    pub(super) fn written(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Overwrites what was written at a place.
    pub(super) fn patch(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u128(&mut self, value: u128) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.bytes(&ip.octets()),
            IpAddr::V6(ip) => self.bytes(&ip.octets()),
        }
    }

    pub(super) fn socket(&mut self, socket: SocketAddr) {
        self.ip(socket.ip());
        self.u16(socket.port());
    }

    pub(super) fn family(&mut self, ip: IpAddr) {
        self.u8(number(Family::of(ip)));
    }

    /// A text of at most 255 bytes; what is longer is cut.
    pub(super) fn text(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.u8(length);
        self.bytes(text.as_bytes().get(..length.into()).unwrap_or_default());
    }

    /// Protocol, address and port.
    pub(super) fn endpoint(&mut self, endpoint: &Endpoint) {
        self.u8(endpoint.protocol.number());
        self.ip(endpoint.vip);
        self.u16(endpoint.port);
    }

    pub(super) fn service(&mut self, service: &ServiceName) {
        match service {
            ServiceName::Endpoint(endpoint) => {
                self.family(endpoint.vip);
                self.endpoint(endpoint);
            }
            ServiceName::Mark(mark) => {
                self.u8(BY_MARK + number(mark.family));
                self.u32(mark.mark);
            }
        }
    }
}
