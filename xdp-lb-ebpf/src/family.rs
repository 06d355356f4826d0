//! What differs between IPv4 and IPv6. The packet path is written once over [`Family`]; the packets
//! of IPv4 take no branch for the other.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::addr::{Address, FAMILY_V4, FAMILY_V6};
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::persist::{masked_v6, template_hash_v4};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::stage::{self, Stage};
use xdp_lb_common::tick::Tick;

use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN};
use crate::service::Words;
use crate::settings::{COEFFICIENTS, coefficients_v6};
use crate::{conn, parse, persist, service};

/// A five-tuple of one address family.
pub trait Family: Copy {
    /// Its number in tables.
    const NUMBER: u8;
    /// Octets of the IP header that forwarding writes to.
    const HEADER: usize;
    /// Where the time to live, or the hop limit, stands in a frame.
    const HOPS: usize;
    /// The program that places packets without a connection.
    const NEW: Stage;
    /// The one before it, for services that know their clients again.
    const PERSIST: Stage;
    /// IP protocol number.
    fn protocol(&self) -> u8;
    /// Client address.
    fn client(&self) -> Address;
    /// Virtual IP.
    fn vip(&self) -> Address;
    /// Ports of client and service, network order.
    fn ports_be(&self) -> (u16, u16);
    /// The keyed hash of the flow.
    fn keyed_hash(&self) -> u64;
    /// The keyed hash of the client's template; `mask` is the service's.
    fn template_hash(&self, service: u32, mask: u32) -> u64;
    /// The client's address as templates name it.
    fn masked_client(&self, mask: u32) -> Address;
    /// See [`persist::template_touch`].
    fn template_touch(&self, service: u32, mask: u32, backend: u32, now: u32);
    /// The same for the packet of a context.
    fn confirm_template(&self, ctx: *mut xdp_md, service: u32, backend: u32, now: u32);
    /// Parses a frame that is no fragment.
    fn parse_whole(frame: &Frame) -> Result<Packet<Self>, Reason>;
    /// Parses a frame, also one with the first fragment of a packet.
    fn parse(frame: &Frame) -> Result<Packet<Self>, Reason>;
    /// Looks the service of a packet up.
    fn service(control: Words, packet: &Packet<Self>) -> Option<service::Found>;
    /// See [`conn::conn_confirm`].
    fn confirm(ctx: *mut xdp_md, when: u64, hash: u64, state: u64, names: u64);
    /// Writes down whose a way of the connection table is; `ctx` is that of a packet of this flow.
    fn describe_conn(&self, ctx: *mut xdp_md, service: u32, index: u32, now: Tick);
    /// Writes down whose a way of the template table is.
    fn describe_template(&self, ctx: *mut xdp_md, service: &service::Found, index: u32, now: Tick);
    /// The flow of a frame that was parsed, which has these [`Self::names`].
    fn named(frame: &Frame, names: u64) -> Result<Self, Reason>;
    /// What it has besides addresses, in one word; see [`xdp_lb_common::decided::Decided::names`].
    #[inline(always)]
    fn names(&self) -> u64 {
        let (client, vip) = self.ports_be();
        client as u64 | (vip as u64) << 16 | (self.protocol() as u64) << 32
    }
    /// See [`service::is_balanced_already`].
    fn is_balanced_already(&self, source: u64, service: u32) -> bool;
    /// Writes the hops left, and a checksum if there is one.
    ///
    /// # Safety
    /// The header lies within the frame.
    unsafe fn lower_hops(frame: &Frame, left: u8);
}

impl Family for FlowV4 {
    const NUMBER: u8 = FAMILY_V4;
    const HEADER: usize = IPV4_MIN;
    const HOPS: usize = ETHERNET + 8;
    const NEW: Stage = stage::NEW;
    const PERSIST: Stage = stage::PERSIST;

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn client(&self) -> Address {
        Address::v4(self.client_be)
    }

    #[inline(always)]
    fn vip(&self) -> Address {
        Address::v4(self.vip_be)
    }

    #[inline(always)]
    fn ports_be(&self) -> (u16, u16) {
        (self.client_port_be, self.vip_port_be)
    }

    #[inline(always)]
    fn keyed_hash(&self) -> u64 {
        self.hash(&COEFFICIENTS.load())
    }

    #[inline(always)]
    fn template_hash(&self, service: u32, mask: u32) -> u64 {
        template_hash_v4(&COEFFICIENTS.load(), service, self.client_be, mask)
    }

    #[inline(always)]
    fn masked_client(&self, mask: u32) -> Address {
        Address::v4(self.client_be & mask)
    }

    #[inline(always)]
    fn template_touch(&self, service: u32, _mask: u32, backend: u32, now: u32) {
        persist::template_touch(self.client_be, service, backend, now);
    }

    #[inline(always)]
    fn confirm_template(&self, _ctx: *mut xdp_md, service: u32, backend: u32, now: u32) {
        persist::template_touch(self.client_be, service, backend, now);
    }

    #[inline(always)]
    fn parse_whole(frame: &Frame) -> Result<Packet<Self>, Reason> {
        parse::ipv4(frame)
    }

    #[inline(always)]
    fn parse(frame: &Frame) -> Result<Packet<Self>, Reason> {
        parse::ipv4_first(frame)
    }

    #[inline(always)]
    fn service(control: Words, packet: &Packet<Self>) -> Option<service::Found> {
        service::find(control, packet)
    }

    #[inline(always)]
    fn confirm(ctx: *mut xdp_md, when: u64, hash: u64, state: u64, names: u64) {
        conn::conn_confirm(ctx, when, hash, state, names);
    }

    #[inline(always)]
    fn describe_conn(&self, ctx: *mut xdp_md, service: u32, index: u32, now: Tick) {
        conn::write_info(&Frame::new(ctx), self, (service, index), now);
    }

    #[inline(always)]
    fn describe_template(
        &self,
        _ctx: *mut xdp_md,
        service: &service::Found,
        index: u32,
        now: Tick,
    ) {
        persist::write_info(self, service, index, now);
    }

    #[inline(always)]
    fn named(frame: &Frame, names: u64) -> Result<Self, Reason> {
        if !frame.holds(0, ETHERNET + IPV4_MIN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: within the header.
        let (client_be, vip_be) = unsafe { (frame.read(ETHERNET + 12), frame.read(ETHERNET + 16)) };
        Ok(Self {
            client_be,
            vip_be,
            client_port_be: names as u16,
            vip_port_be: (names >> 16) as u16,
            protocol: (names >> 32) as u8,
        })
    }

    #[inline(always)]
    fn is_balanced_already(&self, source: u64, service: u32) -> bool {
        service::is_balanced_already(source, service, self.client_be) != 0
    }

    /// The checksum follows by RFC 1624.
    #[inline(always)]
    unsafe fn lower_hops(frame: &Frame, left: u8) {
        // SAFETY: within the header, as the caller checked.
        unsafe {
            frame.write(ETHERNET + 8, left);
            let sum = u32::from(frame.read::<u16>(ETHERNET + 10)) + u32::from(0x0100_u16.to_be());
            frame.write(ETHERNET + 10, (sum + u32::from(sum >= 0xffff)) as u16);
        }
    }
}

impl Family for FlowV6 {
    const NUMBER: u8 = FAMILY_V6;
    const HEADER: usize = IPV6_LEN;
    const HOPS: usize = ETHERNET + 7;
    const NEW: Stage = stage::IPV6_NEW;
    const PERSIST: Stage = stage::PERSIST_V6;

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn client(&self) -> Address {
        self.client
    }

    #[inline(always)]
    fn vip(&self) -> Address {
        self.vip
    }

    #[inline(always)]
    fn ports_be(&self) -> (u16, u16) {
        (self.client_port_be, self.vip_port_be)
    }

    #[inline(always)]
    fn keyed_hash(&self) -> u64 {
        self.hash(coefficients_v6())
    }

    #[inline(always)]
    fn template_hash(&self, service: u32, mask: u32) -> u64 {
        let (high, low) = halves(self.client);
        persist::template_hash_of_v6(high, low, service, mask)
    }

    #[inline(always)]
    fn masked_client(&self, mask: u32) -> Address {
        masked_v6(self.client, mask)
    }

    #[inline(always)]
    fn template_touch(&self, service: u32, mask: u32, backend: u32, now: u32) {
        let hash = self.template_hash(service, mask);
        persist::template_touch_v6(hash, service, backend, now);
    }

    /// Reads the address again: it need not be kept till then.
    #[inline(always)]
    fn confirm_template(&self, ctx: *mut xdp_md, service: u32, backend: u32, now: u32) {
        persist::template_confirm_v6(ctx, service, backend, now);
    }

    #[inline(always)]
    fn parse_whole(frame: &Frame) -> Result<Packet<Self>, Reason> {
        parse::ipv6(frame)
    }

    #[inline(always)]
    fn parse(frame: &Frame) -> Result<Packet<Self>, Reason> {
        parse::ipv6_first(frame)
    }

    #[inline(always)]
    fn service(control: Words, packet: &Packet<Self>) -> Option<service::Found> {
        service::find_v6(control, packet)
    }

    #[inline(always)]
    fn confirm(ctx: *mut xdp_md, when: u64, hash: u64, state: u64, names: u64) {
        conn::conn_confirm_v6(ctx, when, hash, state, names);
    }

    #[inline(always)]
    fn describe_conn(&self, ctx: *mut xdp_md, service: u32, index: u32, now: Tick) {
        let described = conn::conn_describe_v6(ctx, service, index, now.0, self.names());
        // A result that nobody looks at is left out, and the verifier misses it.
        core::hint::black_box(described);
    }

    #[inline(always)]
    fn describe_template(&self, ctx: *mut xdp_md, service: &service::Found, index: u32, now: Tick) {
        let names = self.names();
        let described = persist::template_describe_v6(ctx, service.index, index, now.0, names);
        core::hint::black_box(described);
    }

    #[inline(always)]
    fn named(frame: &Frame, names: u64) -> Result<Self, Reason> {
        if !frame.holds(0, ETHERNET + IPV6_LEN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: within the header.
        let (client, vip) = unsafe {
            (
                parse::address(frame, ETHERNET + 8),
                parse::address(frame, ETHERNET + 24),
            )
        };
        Ok(Self {
            client,
            vip,
            client_port_be: names as u16,
            vip_port_be: (names >> 16) as u16,
            protocol: (names >> 32) as u8,
        })
    }

    #[inline(always)]
    fn is_balanced_already(&self, source: u64, service: u32) -> bool {
        let (high, low) = halves(self.client);
        service::is_balanced_already_v6(source, service, high, low) != 0
    }

    #[inline(always)]
    unsafe fn lower_hops(frame: &Frame, left: u8) {
        // SAFETY: within the header, as the caller checked.
        unsafe { frame.write(ETHERNET + 7, left) };
    }
}

/// An address in two words: functions that the verifier checks on their own take numbers alone.
#[inline(always)]
pub fn halves(address: Address) -> (u64, u64) {
    let [a, b, c, d] = address.words_be;
    (a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32)
}

/// The address of two words.
#[inline(always)]
pub fn joined(high: u64, low: u64) -> Address {
    Address {
        words_be: [
            high as u32,
            (high >> 32) as u32,
            low as u32,
            (low >> 32) as u32,
        ],
    }
}
