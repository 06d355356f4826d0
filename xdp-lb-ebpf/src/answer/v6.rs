//! Answers to IPv6 packets.

use xdp_lb_common::addr::{Address, ICMP_V6, TCP};
use xdp_lb_common::answer::{HOPS, LONGEST_V6, is_host_v6};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::FlowV6;
use xdp_lb_common::reason::Reason;

use super::{Answer, Error, ICMP_LEN, close, cut, quote, quoted, turn, write_words};
use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, IPV6_LEN, TCP_MIN};
use crate::{extensions, service, sums};

/// Octets in front of what an error quotes, behind Ethernet's header.
const ERROR_V6: usize = IPV6_LEN + ICMP_LEN;
/// The least MTU of IPv6: nobody need send shorter packets.
const LEAST_V6: u32 = 1_280;

/// Writes an IPv6 header.
///
/// # Safety
/// As [`Frame::write`], for all of it.
#[inline(always)]
unsafe fn write_header_v6(frame: &Frame, protocol: u8, len: u16, (from, to): (Address, Address)) {
    let rest = len.to_be() as u32 | (protocol as u32) << 16 | (HOPS as u32) << 24;
    let [a, b, c, d] = from.words_be;
    // SAFETY: as the caller checked.
    unsafe {
        frame.write(ETHERNET, 0x60_u32);
        write_words(frame, ETHERNET + 4, &[rest, a, b, c, d]);
        let [a, b, c, d] = to.words_be;
        frame.write(ETHERNET + 24, a);
        frame.write(ETHERNET + 28, b);
        frame.write(ETHERNET + 32, c);
        frame.write(ETHERNET + 36, d);
    }
}

impl Answer for FlowV6 {
    const KINDS: [u16; 3] = [1 | 4 << 8, 3, 2];

    #[inline(always)]
    fn mtu(mtu: u32, len: u32) -> Option<u32> {
        let mtu = if mtu < LEAST_V6 { LEAST_V6 } else { mtu };
        (mtu < len).then_some(mtu.to_be())
    }

    #[inline(always)]
    fn are_hosts(client: Address, source: Address) -> bool {
        is_host_v6(client) && is_host_v6(source) && !service::is_same(client, source)
    }

    #[inline(always)]
    fn is_whole(frame: &Frame) -> bool {
        extensions::is_whole(frame)
    }

    #[inline(always)]
    fn before_tcp(frame: &Frame) -> Option<usize> {
        extensions::transport(frame)
    }

    #[inline(always)]
    fn error(
        frame: &Frame,
        packet: &Packet<Self>,
        source: Address,
        error: Error,
    ) -> Result<(), Reason> {
        const AT: usize = ETHERNET + IPV6_LEN;
        let quoted = quoted(frame, packet, LONGEST_V6 as usize - ERROR_V6);
        let len = (ICMP_LEN + quoted) as u16;
        let frame = quote(frame, quoted, ERROR_V6)?;
        if !frame.holds(0, AT + ICMP_LEN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe {
            turn(&frame, packet, 0x86dd);
            write_header_v6(&frame, ICMP_V6, len, (source, packet.flow.client));
            frame.write(AT, error.kind as u32);
            frame.write(AT + 4, error.rest_be);
        }
        match sums::sum_all(frame.context(), IPV6_LEN as u32 + len as u32) {
            sums::NONE => Err(Reason::Inconsistent),
            sum => {
                // Addresses and length are the pseudo header's, too; it has no version, no hops, and the
                // protocol's number elsewhere.
                let others = (HOPS as u32) << 24 | (ICMP_V6 as u32) << 16;
                let sum = Sum(sum).minus(0x60).minus(others);
                close(&frame, AT, sum.plus((ICMP_V6 as u16).to_be() as u32))
            }
        }
    }

    #[inline(always)]
    fn segment(frame: &Frame, packet: &Packet<Self>, words: &[u32; 5]) -> Result<(), Reason> {
        const AT: usize = ETHERNET + IPV6_LEN;
        cut(frame, AT + TCP_MIN)?;
        let frame = Frame::new(frame.context());
        if !frame.holds(0, AT + TCP_MIN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe {
            turn(&frame, packet, 0x86dd);
            let ends = (packet.flow.vip, packet.flow.client);
            write_header_v6(&frame, TCP, TCP_MIN as u16, ends);
            write_words(&frame, AT, words);
        }
        Ok(())
    }
}
