//! What the director answers itself, as IPVS does: packets that are too long for their way, that have no
//! hop left, or for which there is no real server. The sender gets an ICMP error or a reset, from the
//! address that its packet was for, out of the port that it came in by.
//!
//! The frame becomes the answer: its end is cut off, and headers are put in front. Nobody is told about
//! packets that may not be answered (RFC 1122 3.2.2, RFC 4443 2.4(e)), and few a second at most.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use xdp_lb_common::addr::{Address, ICMP, ICMP_V6, TCP};
use xdp_lb_common::answer::{
    HOPS, LONGEST_V4, LONGEST_V6, TOS, empty_pool, is_host_v4, is_host_v6, reset,
};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::conn::state::tcp;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::Reason;

use crate::family::Family;
use crate::maps::{ANSWERS, DECIDED};
use crate::packet::{Frame, Packet};
use crate::parse::{self, ETHERNET, IPV4_MIN, IPV6_LEN, TCP_MIN};
use crate::settings::{ANSWERS_A_TICK, EMPTY_POOL, now};
use crate::{atomic, count, forward, service, tunnel};

/// Length of the header of ICMP errors.
const ICMP_LEN: usize = 8;
/// Octets in front of what an error quotes, behind Ethernet's header.
const ERROR_V4: usize = IPV4_MIN + ICMP_LEN;
const ERROR_V6: usize = IPV6_LEN + ICMP_LEN;
/// The least MTU of IPv6: nobody need send shorter packets.
const LEAST_V6: u32 = 1_280;
/// "Don't fragment", in its place of a header's second word.
const WHOLE: u32 = (0x4000_u16.to_be() as u32) << 16;

/// What is said.
#[derive(Clone, Copy)]
struct Error {
    /// Type, and code in the upper half.
    kind: u16,
    /// The second word of its header, as it stands.
    rest_be: u32,
    /// How it is counted.
    reason: Reason,
}

/// Answers the packet of a context; the action. In functions of their own, as each family takes its share
/// of the stack.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> u32 {
    if parse::is_v4(&Frame::new(ctx)) {
        answer_v4(ctx)
    } else {
        answer_v6(ctx)
    }
}

/// [`send`] of an IPv4 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_v4(ctx: *mut xdp_md) -> u32 {
    count::and_act(answer::<FlowV4>(&Frame::new(ctx)))
}

/// [`send`] of an IPv6 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_v6(ctx: *mut xdp_md) -> u32 {
    count::and_act(answer::<FlowV6>(&Frame::new(ctx)))
}

/// What differs between the families.
trait Answer: Family {
    /// Of a type and code: port unreachable, time exceeded, too long.
    const KINDS: [u16; 3];
    /// The MTU of an error as it stands there; `None` if it need not be said of a packet of `len`.
    fn mtu(mtu: u32, len: u32) -> Option<u32>;
    /// Whether both are single hosts.
    fn are_hosts(client: Address, source: Address) -> bool;
    /// Whether the packet is a whole one, which has its length in its header.
    fn is_whole(frame: &Frame) -> bool;
    /// Octets of the headers before TCP's.
    fn before_tcp(frame: &Frame) -> Option<usize>;
    /// Makes an ICMP error of the frame.
    fn error(
        frame: &Frame,
        packet: &Packet<Self>,
        source: Address,
        error: Error,
    ) -> Result<(), Reason>
    where
        Self: Sized;
    /// Makes a packet of the frame that carries a TCP header alone.
    fn segment(frame: &Frame, packet: &Packet<Self>, words: &[u32; 5]) -> Result<(), Reason>
    where
        Self: Sized;
}

#[inline(always)]
fn answer<F: Answer>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let Some(decided) = DECIDED.get_ptr_mut(0) else {
        return Err(Reason::Inconsistent);
    };
    // SAFETY: this CPU's own copy, as below.
    let (why, mtu, has_source) = unsafe { ((*decided).why, (*decided).mtu, (*decided).has_source) };
    let unsaid = unsaid(why);
    // Later fragments and ICMP are refused here.
    let packet = F::parse(frame).map_err(|_| unsaid)?;
    let source = if has_source != 0 {
        // SAFETY: as above.
        unsafe { (*decided).source }
    } else {
        packet.flow.vip()
    };
    let is_to_one = packet.destination.0 & 1 == 0 && packet.source.0 & 1 == 0;
    if !is_to_one || !F::are_hosts(packet.flow.client(), source) {
        return Err(unsaid);
    }
    let error = match unsaid {
        Reason::TtlExpired => error(F::KINDS[1], 0, Reason::TxTimeExceeded),
        Reason::TooBig => {
            let rest_be = F::mtu(mtu as u32, packet.len).ok_or(unsaid)?;
            error(F::KINDS[2], rest_be, Reason::TxTooBig)
        }
        _ => {
            if is_reset(frame, &packet)? {
                return refuse(frame, &packet);
            }
            error(F::KINDS[0], 0, Reason::TxUnreachable)
        }
    };
    spend()?;
    F::error(frame, &packet, source, error)?;
    Ok(sent(error.reason))
}

/// Why the packet goes nowhere, if its sender is not told.
#[inline(always)]
fn unsaid(why: u32) -> Reason {
    if why == Reason::TtlExpired as u32 {
        Reason::TtlExpired
    } else if why == Reason::TooBig as u32 {
        Reason::TooBig
    } else {
        Reason::NoRealServer
    }
}

#[inline(always)]
const fn error(kind: u16, rest_be: u32, reason: Reason) -> Error {
    Error {
        kind,
        rest_be,
        reason,
    }
}

/// Whether a packet without a real server is refused by a reset, else by an ICMP error. In the middle of a
/// connection an error means nothing to TCP: the kernel resets those.
#[inline(always)]
fn is_reset<F: Answer>(frame: &Frame, packet: &Packet<F>) -> Result<bool, Reason> {
    let policy = EMPTY_POOL.load();
    if policy == empty_pool::SILENT {
        return Err(Reason::NoRealServer);
    }
    if packet.flow.protocol() != TCP {
        return Ok(false);
    }
    if packet.tcp_flags & (tcp::SYN | tcp::RST) != tcp::SYN {
        return Err(Reason::NoConnection);
    }
    Ok(policy == empty_pool::RESET && F::is_whole(frame))
}

/// Whether this CPU may answer one more; that is counted.
#[inline(always)]
fn spend() -> Result<(), Reason> {
    let bucket = ANSWERS.get_ptr_mut(0).ok_or(Reason::Inconsistent)?;
    // SAFETY: this CPU's own copy, and nothing interrupts the program with another of its kind.
    let spent = unsafe { (*bucket).spend(now().0, ANSWERS_A_TICK.load()) };
    let spent = spent.ok_or(Reason::AnswerLimited)?;
    // SAFETY: as above.
    unsafe { atomic::store(bucket, spent) };
    Ok(())
}

/// What leaves is an answer.
#[inline(always)]
fn sent(reason: Reason) -> (Reason, u32) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { (*decided).answered = 1 };
    }
    (reason, xdp_action::XDP_TX)
}

/// Answers a segment by a reset.
#[inline(always)]
fn refuse<F: Answer>(frame: &Frame, packet: &Packet<F>) -> Result<(Reason, u32), Reason> {
    let before = F::before_tcp(frame).ok_or(Reason::Inconsistent)?;
    let rest = frame.from(before & 0x3fff);
    if !rest.holds(ETHERNET, TCP_MIN) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: within the TCP header.
    let (sequence, acknowledgement, words) = unsafe {
        (
            u32::from_be(rest.read(ETHERNET + 4)),
            u32::from_be(rest.read(ETHERNET + 8)),
            rest.read::<u8>(ETHERNET + 12) >> 4,
        )
    };
    let octets = packet
        .len
        .checked_sub(before as u32 + words as u32 * 4)
        .ok_or(Reason::NoRealServer)?;
    let reset =
        reset(packet.tcp_flags, sequence, acknowledgement, octets).ok_or(Reason::NoRealServer)?;
    spend()?;
    let (client, vip) = packet.flow.ports_be();
    let mut header = [
        vip as u32 | (client as u32) << 16,
        reset.sequence.to_be(),
        reset.acknowledgement.to_be(),
        0x50 | (reset.flags as u32) << 8,
        0,
    ];
    let sum = header
        .iter()
        .fold(Sum::default(), |sum, word| sum.plus(*word));
    let sum = sum
        .plus_address(packet.flow.client())
        .plus_address(packet.flow.vip())
        .plus((TCP as u16).to_be() as u32 | ((TCP_MIN as u16).to_be() as u32) << 16);
    header[4] = sum.checksum() as u32;
    F::segment(frame, packet, &header)?;
    Ok(sent(Reason::TxReset))
}

/// Cuts a frame to so many octets; pointers into it are void then.
#[inline(always)]
fn cut(frame: &Frame, len: usize) -> Result<(), Reason> {
    let more = len as i64 - frame.whole_len() as i64;
    // SAFETY: the kernel checks what it cuts; callers make all pointers into the frame anew.
    if unsafe { bpf_xdp_adjust_tail(frame.context(), more as i32) } != 0 {
        return Err(Reason::Inconsistent);
    }
    Ok(())
}

/// Cuts a frame so that `quoted` octets of its packet are left, and makes room for `headers` octets before
/// them.
#[inline(always)]
fn quote(frame: &Frame, quoted: usize, headers: usize) -> Result<Frame, Reason> {
    let ctx = frame.context();
    cut(frame, ETHERNET + quoted)?;
    // SAFETY: the kernel checks the room; pointers into the frame are made anew below.
    if unsafe { bpf_xdp_adjust_head(ctx, -(headers as i32)) } != 0 {
        return Err(Reason::NoHeadroom);
    }
    Ok(Frame::new(ctx))
}

/// How much of a packet is quoted: what is in the first buffer, up to a limit.
#[inline(always)]
fn quoted<F>(frame: &Frame, packet: &Packet<F>, limit: usize) -> usize {
    let there = frame.first_len().saturating_sub(ETHERNET);
    let len = packet.len as usize;
    let quoted = if len < there { len } else { there };
    if quoted < limit { quoted } else { limit }
}

/// Writes Ethernet's header of an answer.
///
/// # Safety
/// As [`Frame::write`], for all of it.
#[inline(always)]
unsafe fn turn<F>(frame: &Frame, packet: &Packet<F>, ethertype: u16) {
    // SAFETY: as the caller checked.
    unsafe {
        forward::write_macs(frame, packet.source, packet.destination);
        frame.write(12, ethertype.to_be());
    }
}

/// Writes an ICMP header's checksum, given the sum over the message.
#[inline(always)]
fn close(frame: &Frame, at: usize, sum: Sum) -> Result<(), Reason> {
    if !frame.holds(at, ICMP_LEN) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: checked just now.
    unsafe { frame.write(at + 2, sum.checksum()) };
    Ok(())
}

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
        match tunnel::sum_all(frame.context(), len) {
            tunnel::NONE => Err(Reason::Inconsistent),
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

/// Writes five words.
///
/// # Safety
/// As [`Frame::write`], for all of them.
#[inline(always)]
unsafe fn write_words(frame: &Frame, at: usize, words: &[u32; 5]) {
    // SAFETY: as the caller checked.
    unsafe {
        frame.write(at, words[0]);
        frame.write(at + 4, words[1]);
        frame.write(at + 8, words[2]);
        frame.write(at + 12, words[3]);
        frame.write(at + 16, words[4]);
    }
}

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
        parse::extensions_len(frame).is_some()
    }

    #[inline(always)]
    fn before_tcp(frame: &Frame) -> Option<usize> {
        Some(IPV6_LEN + parse::extensions_len(frame)?)
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
        match tunnel::sum_all(frame.context(), IPV6_LEN as u32 + len as u32) {
            tunnel::NONE => Err(Reason::Inconsistent),
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
