//! VLANs: tags off a frame that came in, and onto one that goes out.

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::{Reason, Verdict as Action};
use xdp_lb_common::vlan::{Tags, is_tag};

use super::frame::{number, octets};
use super::{Memory, Verdict};

/// A tag as it stands in a frame.
type Tag = [u8; 4];

/// Most tags that are understood.
const MOST: usize = 2;
/// Octets of both MACs.
const MACS: usize = 12;

/// Decides about a frame as if it had come in without its tags.
pub(super) fn decide(
    memory: &mut Memory,
    frame: &[u8],
    ifindex: u32,
    untagged: impl FnOnce(&mut Memory, &[u8], u32) -> Verdict,
) -> Verdict {
    let taken = tags_of(frame).and_then(|tags| {
        let (inner, network) = take_off(memory, frame, ifindex, &tags)?;
        Ok((tags, inner, network))
    });
    let (tags, inner, network) = match taken {
        Ok(taken) => taken,
        Err(reason) => return passes(frame, reason),
    };
    if tags.is_empty() {
        return untagged(memory, frame, ifindex);
    }
    let mut verdict = untagged(memory, &inner, network);
    if verdict.reason.is_answer() {
        if let Some(sent) = &mut verdict.frame {
            turn_back(sent, frame, &tags);
        }
        return verdict;
    }
    match (verdict.action, &mut verdict.frame) {
        (Action::Pass, sent) => *sent = Some(frame.to_vec()),
        (Action::Tx | Action::Redirect, Some(sent)) => keep_priority(sent, &tags),
        (Action::Tx | Action::Redirect | Action::Drop, _) => {}
    }
    verdict
}

fn passes(frame: &[u8], reason: Reason) -> Verdict {
    Verdict {
        frame: Some(frame.to_vec()),
        ..Verdict::of(reason)
    }
}

/// The tags of a frame, the outer one first.
fn tags_of(frame: &[u8]) -> Result<Vec<Tag>, Reason> {
    octets::<14>(frame, 0)?;
    let mut tags = Vec::new();
    while is_tag(number(frame, MACS + 4 * tags.len())?) {
        if tags.len() == MOST {
            return Err(Reason::Vlan);
        }
        let tag = octets(frame, MACS + 4 * tags.len())?;
        tags.push(tag);
        // The type of what follows belongs to the tag.
        number(frame, MACS + 4 * tags.len())?;
    }
    Ok(tags)
}

/// The frame without its tags, for the interface that carries its network, and the network's own interface.
fn take_off(
    memory: &Memory,
    frame: &[u8],
    ifindex: u32,
    tags: &[Tag],
) -> Result<(Vec<u8>, u32), Reason> {
    let named = tags.iter().try_fold(Tags::NONE, |named, tag| {
        let [a, b, c, d] = *tag;
        named.then(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    });
    let named = named.ok_or(Reason::Vlan)?;
    let mut inner = frame.to_vec();
    inner.drain(MACS..MACS + 4 * tags.len());
    if named == Tags::NONE {
        return Ok((inner, ifindex));
    }
    let mut networks = memory.networks.iter();
    let (network, _) = networks
        .find(|(_, network)| network.parent == ifindex && network.tags == named)
        .ok_or(Reason::Vlan)?;
    let mac = |ifindex| memory.ports.get(ifindex).copied();
    let (own, below) = (mac(network), mac(&ifindex));
    if own == Some(Mac::from_octets(octets(frame, 0)?).0)
        && let (Some(mac), Some(place)) = (below, inner.get_mut(..6))
    {
        place.copy_from_slice(&Mac(mac).octets());
    }
    Ok((inner, *network))
}

/// An answer goes back as the frame came: by its tags, from the MAC that it was for.
fn turn_back(sent: &mut Vec<u8>, came: &[u8], tags: &[Tag]) {
    if let (Some(place), Some([to, from])) =
        (sent.get_mut(..MACS), came.as_chunks::<6>().0.first_chunk())
    {
        place.copy_from_slice(&[*from, *to].concat());
    }
    sent.splice(MACS..MACS, tags.concat());
}

/// A frame that stays in its network keeps its priority.
fn keep_priority(sent: &mut [u8], tags: &[Tag]) {
    for (at, tag) in tags.iter().enumerate() {
        let Some(place) = sent.get_mut(MACS + 4 * at..MACS + 4 * at + 4) else {
            return;
        };
        let without = |tag: &[u8]| match tag {
            [a, b, c, d] => Some((*a, *b, c & 0x0f, *d)),
            _ => None,
        };
        if without(place) != without(tag) {
            return;
        }
        place.copy_from_slice(tag);
    }
}

/// The interface that frames for one leave by, and the frame with the tags that it has there.
pub(super) fn out(memory: &Memory, port: u32, mut frame: Vec<u8>) -> (u32, Vec<u8>) {
    let Some(network) = memory.networks.get(&port) else {
        return (port, frame);
    };
    let tags = [network.tags.outer(), network.tags.inner()];
    let octets: Vec<_> = tags
        .into_iter()
        .filter(|tag| *tag != 0)
        .flat_map(u32::to_ne_bytes)
        .collect();
    frame.splice(MACS..MACS, octets);
    (network.parent, frame)
}
