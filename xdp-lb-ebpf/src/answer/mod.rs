//! What the director answers itself, as IPVS does: packets that are too long for their way, that have no
//! hop left, or for which there is no real server. The sender gets an ICMP error or a reset, from the
//! address that its packet was for, out of the port that it came in by.
//!
//! The frame becomes the answer: its end is cut off, and headers are put in front. Nobody is told about
//! packets that may not be answered (RFC 1122 3.2.2, RFC 4443 2.4(e)), and few a second at most.

mod v4;
mod v6;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use xdp_lb_common::addr::{Address, TCP};
use xdp_lb_common::answer::{empty_pool, reset};
use xdp_lb_common::checksum::Sum;
use xdp_lb_common::conn::state::tcp;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::Reason;

use crate::family::Family;
use crate::maps::{ANSWERS, DECIDED};
use crate::packet::{Frame, Packet};
use crate::parse::{self, ETHERNET, TCP_MIN};
use crate::settings::{ANSWERS_A_TICK, EMPTY_POOL, now};
use crate::{atomic, count, forward};

/// Length of the header of ICMP errors.
const ICMP_LEN: usize = 8;

/// What is said.
#[derive(Clone, Copy)]
pub struct Error {
    /// Type, and code in the upper half.
    pub kind: u16,
    /// The second word of its header, as it stands.
    pub rest_be: u32,
    /// How it is counted.
    pub reason: Reason,
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
pub trait Answer: Family {
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
    /// Makes an ICMP error of the frame, which is for the MAC that the packet came from.
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
pub fn spend() -> Result<(), Reason> {
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
