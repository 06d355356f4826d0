//! Answers to IPv4 packets.

use xdp_lb_common::addr::{Address, ICMP, TCP};
use xdp_lb_common::answer::{HOPS, LONGEST_V4, TOS, is_host_v4};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::flow::FlowV4;
use xdp_lb_common::reason::Reason;

use super::{Answer, Error, ICMP_LEN, close, cut, quote, quoted, turn, write_words};
use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, IPV4_MIN, TCP_MIN};
use crate::sums;

/// Octets in front of what an error quotes, behind Ethernet's header.
const ERROR_V4: usize = IPV4_MIN + ICMP_LEN;
/// "Don't fragment", in its place of a header's second word.
const WHOLE: u32 = (0x4000_u16.to_be() as u32) << 16;

/// An IPv4 header of an answer to a packet, in words.
#[inline(always)]
fn header_v4(len: u32, tos: u8, protocol: u8, source: u32, client: u32) -> [u32; 5] {
    let mut words = [
        0x45 | (tos as u32) << 8 | ((len as u16).to_be() as u32) << 16,
        WHOLE,
        HOPS as u32 | (protocol as u32) << 8,
        source,
        client,
    ];
    let sum = words
        .iter()
        .fold(Sum::default(), |sum, word| sum.plus(*word));
    words[2] |= (sum.checksum() as u32) << 16;
    words
}

impl Answer for FlowV4 {
    const KINDS: [u16; 3] = [3 | 3 << 8, 11, 3 | 4 << 8];

    #[inline(always)]
    fn mtu(mtu: u32, len: u32) -> Option<u32> {
        (mtu < len).then(|| ((mtu as u16).to_be() as u32) << 16)
    }

    #[inline(always)]
    fn are_hosts(client: Address, source: Address) -> bool {
        let (client, source) = (client.words_be[0], source.words_be[0]);
        is_host_v4(client) && is_host_v4(source) && client != source
    }

    #[inline(always)]
    fn is_whole(frame: &Frame) -> bool {
        // SAFETY: checked just before.
        frame.holds(0, ETHERNET + IPV4_MIN)
            && unsafe { frame.read::<u16>(ETHERNET + 6) } & 0x2000_u16.to_be() == 0
    }

    #[inline(always)]
    fn before_tcp(frame: &Frame) -> Option<usize> {
        if !frame.holds(0, ETHERNET + IPV4_MIN) {
            return None;
        }
        // SAFETY: checked just now.
        Some((unsafe { frame.read::<u8>(ETHERNET) } as usize & 0xf) * 4)
    }

    #[inline(always)]
    fn error(
        frame: &Frame,
        packet: &Packet<Self>,
        source: Address,
        error: Error,
    ) -> Result<(), Reason> {
        const AT: usize = ETHERNET + IPV4_MIN;
        let quoted = quoted(frame, packet, LONGEST_V4 as usize - ERROR_V4);
        let len = (ERROR_V4 + quoted) as u32;
        let words = header_v4(len, TOS, ICMP, source.words_be[0], packet.flow.client_be);
        let frame = quote(frame, quoted, ERROR_V4)?;
        if !frame.holds(0, AT + ICMP_LEN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe {
            turn(&frame, packet, 0x0800);
            write_words(&frame, ETHERNET, &words);
            frame.write(AT, error.kind as u32);
            frame.write(AT + 4, error.rest_be);
        }
        match sums::sum_all(frame.context(), len) {
            sums::NONE => Err(Reason::Inconsistent),
            // An IP header comes to nothing, by its own checksum.
            sum => close(&frame, AT, Sum(sum)),
        }
    }

    #[inline(always)]
    fn segment(frame: &Frame, packet: &Packet<Self>, words: &[u32; 5]) -> Result<(), Reason> {
        const AT: usize = ETHERNET + IPV4_MIN;
        let len = (IPV4_MIN + TCP_MIN) as u32;
        let FlowV4 {
            client_be, vip_be, ..
        } = packet.flow;
        let header = header_v4(len, 0, TCP, vip_be, client_be);
        cut(frame, AT + TCP_MIN)?;
        let frame = Frame::new(frame.context());
        if !frame.holds(0, AT + TCP_MIN) {
            return Err(Reason::Inconsistent);
        }
        // SAFETY: checked just now.
        unsafe {
            turn(&frame, packet, 0x0800);
            write_words(&frame, ETHERNET, &header);
            write_words(&frame, AT, words);
        }
        Ok(())
    }
}
