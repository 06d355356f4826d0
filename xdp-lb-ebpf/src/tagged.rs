//! VLANs. A tagged frame is balanced as if it had come in untagged, by the interface of its network: its
//! tags are taken off, the program begins anew, and if the packet passes they are put back. A frame that
//! leaves for a network gets that one's tags, whatever it came with: see [`push`].
//!
//! The kernel has no part in it: it hands the program whole frames, unless the network card takes the
//! tags off before.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::limits::{MAX_PORTS, MAX_PROBES};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::stage;
use xdp_lb_common::vlan::{self, TAG_LEN, Tags, VlanSlot};

use crate::maps::{PORTS, STAGES, VLANS};
use crate::packet::Frame;
use crate::parse::ETHERNET;
use crate::{count, decided, service};

/// Where the type of a frame stands.
const ETHERTYPE: usize = 12;
/// What the entry is not there to decide.
const NO_ACTION: u32 = u32::MAX;

/// How a frame begins: what was taken off, or is put on.
#[derive(Clone, Copy)]
struct Taken {
    /// Its MACs: octets 0 to 7, and 8 to 11.
    low: u64,
    high: u32,
    /// Its tags as they stood; the inner one is 0 if there is none.
    outer: u32,
    inner: u32,
}

impl Taken {
    #[inline(always)]
    fn len(&self) -> usize {
        if self.inner == 0 {
            TAG_LEN
        } else {
            2 * TAG_LEN
        }
    }
}

/// Balances a tagged frame; the action.
#[inline(always)]
pub fn balance(ctx: &XdpContext) -> u32 {
    let taken = match take_off(&Frame::new(ctx.ctx)) {
        Ok(taken) => taken,
        Err(reason) => return count::and_act(Err(reason)),
    };
    decided::begin();
    let action = untagged(ctx.ctx);
    decided::note_network(0);
    match action {
        NO_ACTION => {
            put_back(ctx.ctx, &taken);
            count::and_act(Err(Reason::Vlan))
        }
        xdp_action::XDP_PASS => put_back(ctx.ctx, &taken),
        xdp_action::XDP_TX if decided::is_answer() => turn_back(ctx.ctx, &taken),
        sent @ (xdp_action::XDP_TX | xdp_action::XDP_REDIRECT) => {
            keep_priority(&Frame::new(ctx.ctx), &taken);
            sent
        }
        other => other,
    }
}

/// The program from its beginning, on what is left of the frame: the kernel returns here from a tail call
/// of a function. Global, as it would be inlined otherwise.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn untagged(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the program that it leads to takes the context over, and returns it to the caller.
    unsafe { STAGES.tail_call(&XdpContext::new(ctx), stage::ENTRY.index) };
    // The compiler must not see that this function has no other end.
    core::hint::black_box(NO_ACTION)
}

/// Takes the tags off a frame of a network that this director has an interface in. A frame to that one's
/// MAC is then to the MAC of the interface below it, as the rest of the program knows only that.
#[inline(always)]
fn take_off(frame: &Frame) -> Result<Taken, Reason> {
    let (taken, tags) = look(frame)?;
    let mut low = taken.low;
    if tags != Tags::NONE {
        let network = network(vlan::key(frame.ifindex(), tags)).ok_or(Reason::Vlan)?;
        decided::note_network(network.ifindex as u32);
        if low & Mac::MASK == network.mac {
            low = low & !Mac::MASK | service::mac_of(frame.ifindex()) & Mac::MASK;
        }
    }
    // SAFETY: the kernel checks the room; all pointers into the frame are made anew below.
    if unsafe { bpf_xdp_adjust_head(frame.context(), taken.len() as i32) } != 0 {
        return Err(Reason::Truncated);
    }
    let rest = Frame::new(frame.context());
    if !rest.holds(0, ETHERNET) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: checked just now.
    unsafe {
        rest.write(0, low);
        rest.write(8, taken.high);
    }
    Ok(taken)
}

/// Reads MACs and tags.
#[inline(always)]
fn look(frame: &Frame) -> Result<(Taken, Tags), Reason> {
    if !frame.holds(0, ETHERNET + TAG_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the two headers.
    let (low, high, outer, next_be) = unsafe {
        (
            frame.read::<u64>(0),
            frame.read::<u32>(8),
            frame.read::<u32>(ETHERTYPE),
            frame.read::<u16>(ETHERTYPE + TAG_LEN),
        )
    };
    let taken = |inner| Taken {
        low,
        high,
        outer,
        inner,
    };
    let tags = then(Tags::NONE, outer).ok_or(Reason::Vlan)?;
    if !vlan::is_tag(u16::from_be(next_be)) {
        return Ok((taken(0), tags));
    }
    if !frame.holds(0, ETHERNET + 2 * TAG_LEN) {
        return Err(Reason::Truncated);
    }
    // SAFETY: within the three headers.
    let (inner, next_be) = unsafe {
        (
            frame.read::<u32>(ETHERTYPE + TAG_LEN),
            frame.read::<u16>(ETHERTYPE + 2 * TAG_LEN),
        )
    };
    if vlan::is_tag(u16::from_be(next_be)) {
        return Err(Reason::Vlan);
    }
    Ok((taken(inner), then(tags, inner).ok_or(Reason::Vlan)?))
}

/// [`Tags::then`] by the octets of a tag.
#[inline(always)]
fn then(tags: Tags, octets: u32) -> Option<Tags> {
    let (ethertype, tci) = (octets as u16, (octets >> 16) as u16);
    tags.then(u16::from_be(ethertype), u16::from_be(tci))
}

/// The network of a key.
#[inline(always)]
fn network(key: u64) -> Option<&'static VlanSlot> {
    let start = vlan::start(key);
    for step in 0..MAX_PROBES {
        let slot = VLANS.get((start + step) & (MAX_PORTS - 1))?;
        if slot.key == key {
            return Some(slot);
        }
    }
    None
}

/// Puts MACs and tags back as they were; the action.
#[inline(always)]
fn put_back(ctx: *mut xdp_md, taken: &Taken) -> u32 {
    // SAFETY: the kernel checks the room, which was there a moment ago.
    if unsafe { bpf_xdp_adjust_head(ctx, -(taken.len() as i32)) } != 0 {
        return xdp_action::XDP_DROP;
    }
    if write(&Frame::new(ctx), taken) {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

/// Gives an answer the tags that the frame had which it answers, and the MACs of that the other way round:
/// the one that it was for may be the network's own; the action.
#[inline(always)]
fn turn_back(ctx: *mut xdp_md, taken: &Taken) -> u32 {
    let (to, from) = (
        taken.low & Mac::MASK,
        taken.low >> 48 | (taken.high as u64) << 16,
    );
    let turned = Taken {
        low: from | to << 48,
        high: (to >> 16) as u32,
        ..*taken
    };
    match put_back(ctx, &turned) {
        xdp_action::XDP_PASS => xdp_action::XDP_TX,
        other => other,
    }
}

/// A frame that stays in its network keeps its priority.
#[inline(always)]
fn keep_priority(frame: &Frame, taken: &Taken) {
    if !frame.holds(0, ETHERNET + 2 * TAG_LEN) {
        return;
    }
    // SAFETY: checked just now, as the others.
    let (outer, inner) = unsafe {
        (
            frame.read::<u32>(ETHERTYPE),
            frame.read::<u32>(ETHERTYPE + TAG_LEN),
        )
    };
    if !vlan::is_same(outer, taken.outer) {
        return;
    }
    // SAFETY: as above.
    unsafe { frame.write(ETHERTYPE, taken.outer) };
    if taken.inner != 0 && vlan::is_same(inner, taken.inner) {
        // SAFETY: as above.
        unsafe { frame.write(ETHERTYPE + TAG_LEN, taken.inner) };
    }
}

/// The key of the network that an interface is, 0 if it is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vlan_of(ifindex: u32) -> u64 {
    for step in 0..MAX_PROBES {
        let Some(port) = PORTS.get((ifindex + step) & (MAX_PORTS - 1)) else {
            return 0;
        };
        if port.ifindex == ifindex as u64 {
            return port.vlan;
        }
    }
    0
}

/// Gives a frame the tags of a network; 1 if there was room for them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn push(ctx: *mut xdp_md, key: u64) -> u32 {
    let (outer, inner) = (vlan::tags(key).outer(), vlan::tags(key).inner());
    let len = if inner == 0 { TAG_LEN } else { 2 * TAG_LEN };
    let before = Frame::new(ctx);
    if !before.holds(0, ETHERNET) {
        return 0;
    }
    // SAFETY: checked just now.
    let (low, high) = unsafe { (before.read::<u64>(0), before.read::<u32>(8)) };
    // SAFETY: the kernel checks the room; all pointers into the frame are made anew below.
    if unsafe { bpf_xdp_adjust_head(ctx, -(len as i32)) } != 0 {
        return 0;
    }
    let start = Taken {
        low,
        high,
        outer,
        inner,
    };
    write(&Frame::new(ctx), &start) as u32
}

/// Writes MACs and tags; whether the frame has room for them.
#[inline(always)]
fn write(frame: &Frame, start: &Taken) -> bool {
    if !frame.holds(0, ETHERNET + TAG_LEN) {
        return false;
    }
    // SAFETY: checked just now.
    unsafe {
        frame.write(0, start.low);
        frame.write(8, start.high);
        frame.write(ETHERTYPE, start.outer);
    }
    if start.inner == 0 {
        return true;
    }
    if !frame.holds(0, ETHERNET + 2 * TAG_LEN) {
        return false;
    }
    // SAFETY: checked just now.
    unsafe { frame.write(ETHERTYPE + TAG_LEN, start.inner) };
    true
}
