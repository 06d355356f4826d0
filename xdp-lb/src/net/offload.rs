//! Whether an interface takes the VLAN tags off frames before anybody sees them (`rx-vlan-offload`), and
//! whether it has GRO, by the kernel's generic netlink family `ethtool` (Linux 5.7). Answered before the call returns.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_REQUEST, NlaBuffer, NlasIterator,
};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

use super::Error;
use crate::plan::vlans::{Offload, Tagging, tagging};

/// Octets of a netlink header and of the generic one behind it (linux/netlink.h, linux/genetlink.h).
const NETLINK: usize = 16;
const GENERIC: usize = 4;
/// `GENL_ID_CTRL`, the family that names the others.
const CONTROL: u16 = 16;
/// Message types: an error, or the word that there is none.
const ERROR: u16 = 2;
/// Longest answer: the names of all features twice.
const LONGEST_ANSWER: usize = 1 << 16;

/// Commands and attributes of the control family.
mod control {
    pub(super) const GET_FAMILY: u8 = 3;
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
}

/// Commands and attributes of `ethtool` (`linux/ethtool_netlink.h`).
mod ethtool {
    pub(super) const FEATURES_GET: u8 = 11;
    pub(super) const FEATURES_SET: u8 = 12;
    pub(super) const HEADER: u16 = 1;
    pub(super) const HARDWARE: u16 = 2;
    pub(super) const WANTED: u16 = 3;
    pub(super) const ACTIVE: u16 = 4;
    pub(super) const DEVICE_INDEX: u16 = 1;
    pub(super) const BITS: u16 = 3;
    pub(super) const BIT: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const VALUE: u16 = 3;
    /// `NLA_F_NESTED`.
    pub(super) const NESTED: u16 = 1 << 15;
}

/// What the features are called: tags of 802.1Q and of 802.1ad.
const FEATURES: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

/// GRO.
const GRO: &str = "rx-gro";

/// Has an interface leave the tags on frames, if it can be told so.
pub fn keep_tags(ifindex: u32) -> Result<Tagging, Error> {
    let mut asking = Asking::open()?;
    let before = asking.offload(ifindex)?;
    let Tagging::SwitchedOff = tagging(before) else {
        return Ok(tagging(before));
    };
    asking.switch_off(ifindex)?;
    // The kernel may answer that all is well and keep a feature that others need.
    Ok(match tagging(asking.offload(ifindex)?) {
        Tagging::Kept => Tagging::SwitchedOff,
        Tagging::SwitchedOff | Tagging::Fixed => Tagging::Fixed,
    })
}

/// Whether an interface puts packets together before the stack sees them (GRO).
pub(super) fn has_gro(ifindex: u32) -> Result<bool, Error> {
    let mut asking = Asking::open()?;
    let operation = "read generic-receive-offload";
    let answer = asking.ask(ethtool::FEATURES_GET, &[device(ifindex)], 0, operation)?;
    let active = find(&answer, ethtool::ACTIVE).and_then(|set| find(set, ethtool::BITS));
    Ok(active.is_some_and(|bits| has_bit(bits, GRO, ethtool::ACTIVE)))
}

/// A socket, and the number of the family.
struct Asking {
    socket: Socket,
    family: u16,
    sequence: u32,
}

impl Asking {
    fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_GENERIC).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(Error::Open)?;
        // The kernel answers while the request is being sent.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))
            .map_err(|errno| Error::Open(errno.into()))?;
        let mut asking = Self {
            socket,
            family: CONTROL,
            sequence: 0,
        };
        let name = DefaultNla::new(control::FAMILY_NAME, b"ethtool\0".to_vec());
        let operation = "find the kernel's ethtool interface";
        let answer = asking.ask(control::GET_FAMILY, &[name], 0, operation)?;
        let id = find(&answer, control::FAMILY_ID).and_then(|id| id.try_into().ok());
        asking.family = u16::from_ne_bytes(id.ok_or_else(|| no_answer(operation))?);
        Ok(asking)
    }

    fn offload(&mut self, ifindex: u32) -> Result<Offload, Error> {
        let operation = "read rx-vlan-offload";
        let answer = self.ask(ethtool::FEATURES_GET, &[device(ifindex)], 0, operation)?;
        Ok(offload(&answer))
    }

    fn switch_off(&mut self, ifindex: u32) -> Result<(), Error> {
        let request = [device(ifindex), off()];
        let operation = "switch rx-vlan-offload off";
        self.ask(ethtool::FEATURES_SET, &request, NLM_F_ACK, operation)
            .map(drop)
    }

    /// The attributes of the answer; none of a mere acknowledgement.
    fn ask(
        &mut self,
        command: u8,
        attributes: &[DefaultNla],
        flags: u16,
        operation: &str,
    ) -> Result<Vec<u8>, Error> {
        self.sequence += 1;
        let message = message(self.family, command, (self.sequence, flags), attributes);
        let refused = |source: io::Error| Error::Refused {
            operation: operation.to_owned(),
            source,
        };
        self.socket.send(&message, 0).map_err(refused)?;
        let mut buffer = vec![0; LONGEST_ANSWER];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(no_answer(operation)),
            };
            let answer = buffer.get(..length).unwrap_or_default();
            match read(answer, self.sequence) {
                Some(Answer::Attributes(attributes)) if flags & NLM_F_ACK == 0 => {
                    return Ok(attributes.to_vec());
                }
                Some(Answer::Done(0)) => return Ok(Vec::new()),
                Some(Answer::Done(code)) => {
                    return Err(refused(io::Error::from_raw_os_error(-code)));
                }
                // A description of what changed, before the acknowledgement; or somebody else's.
                Some(Answer::Attributes(_)) | None => {}
            }
        }
    }
}

fn no_answer(operation: &str) -> Error {
    Error::NoAnswer {
        operation: operation.to_owned(),
    }
}

/// An answer of the kernel.
#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    /// With these attributes.
    Attributes(&'a [u8]),
    /// With this code: 0, or an error, negative.
    Done(i32),
}

/// The answer to request number `sequence`.
fn read(message: &[u8], sequence: u32) -> Option<Answer<'_>> {
    let word = |at: usize| Some(u32::from_ne_bytes(*message.get(at..)?.first_chunk()?));
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    if word(8)? != sequence {
        return None;
    }
    if kind == ERROR {
        return Some(Answer::Done(word(NETLINK)?.cast_signed()));
    }
    let length = usize::try_from(word(0)?).ok()?.min(message.len());
    message
        .get(NETLINK + GENERIC..length)
        .map(Answer::Attributes)
}

/// A request.
fn message(
    family: u16,
    command: u8,
    (sequence, flags): (u32, u16),
    attributes: &[DefaultNla],
) -> Vec<u8> {
    let body = octets(attributes);
    let length = u32::try_from(NETLINK + GENERIC + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend([command, 1, 0, 0]);
    message.extend(body);
    message
}

/// Attributes as they stand in a message.
fn octets(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut octets = vec![0; attributes.buffer_len()];
    attributes.emit(&mut octets);
    octets
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | ethtool::NESTED, octets(attributes))
}

/// Which interface a request is about.
fn device(ifindex: u32) -> DefaultNla {
    let index = DefaultNla::new(ethtool::DEVICE_INDEX, ifindex.to_ne_bytes().to_vec());
    nested(ethtool::HEADER, &[index])
}

/// That the features are not wanted: named, and without a value.
fn off() -> DefaultNla {
    let bits: Vec<_> = FEATURES
        .iter()
        .map(|name| {
            let name = DefaultNla::new(ethtool::NAME, [name.as_bytes(), b"\0"].concat());
            nested(ethtool::BIT, &[name])
        })
        .collect();
    nested(ethtool::WANTED, &[nested(ethtool::BITS, &bits)])
}

/// What an answer says of the features.
fn offload(answer: &[u8]) -> Offload {
    let has = |kind| {
        let bits = find(answer, kind).and_then(|set| find(set, ethtool::BITS));
        FEATURES.map(|feature| bits.is_some_and(|bits| has_bit(bits, feature, kind)))
    };
    let (active, changeable) = (has(ethtool::ACTIVE), has(ethtool::HARDWARE));
    let is_fixed = active
        .iter()
        .zip(changeable)
        .any(|(active, changeable)| *active && !changeable);
    Offload {
        active: active.contains(&true),
        fixed: is_fixed,
    }
}

/// Whether a bit is set. The list of what is active names only what is; that of what the hardware can
/// change names all, and those that it can have a value.
fn has_bit(bits: &[u8], feature: &str, list: u16) -> bool {
    let mut all = attributes(bits).filter(|bit| bit.kind() == ethtool::BIT);
    all.any(|bit| {
        let name = find(bit.value(), ethtool::NAME);
        let is_named =
            name.is_some_and(|name| name.strip_suffix(b"\0") == Some(feature.as_bytes()));
        is_named && (list == ethtool::ACTIVE || find(bit.value(), ethtool::VALUE).is_some())
    })
}

fn attributes(octets: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(octets).map_while(Result::ok)
}

/// The value of an attribute.
fn find(octets: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = octets;
    // By hand, as the iterator's values do not outlive it.
    loop {
        let [a, b, c, d, ..] = *rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let found = u16::from_ne_bytes([c, d]) & 0x3fff;
        let value = rest.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bit of a list of features, as the kernel tells it.
    fn bit(index: u32, name: &str, has_value: bool) -> DefaultNla {
        let mut inner = vec![
            DefaultNla::new(1, index.to_ne_bytes().to_vec()),
            DefaultNla::new(ethtool::NAME, [name.as_bytes(), b"\0"].concat()),
        ];
        if has_value {
            inner.push(DefaultNla::new(ethtool::VALUE, Vec::new()));
        }
        nested(ethtool::BIT, &inner)
    }

    /// Features of a card: what can be changed, and what is on.
    fn answer(changeable: &[&str], active: &[&str]) -> Vec<u8> {
        let names = ["tx-checksum-ipv4", FEATURES[0], FEATURES[1]];
        let all: Vec<_> = (0..)
            .zip(names)
            .map(|(index, name)| bit(index, name, changeable.contains(&name)))
            .collect();
        let on: Vec<_> = (0..)
            .zip(active)
            .map(|(index, name)| bit(index, name, false))
            .collect();
        let size = DefaultNla::new(2, 64_u32.to_ne_bytes().to_vec());
        octets(&[
            device(3),
            nested(
                ethtool::HARDWARE,
                &[size.clone(), nested(ethtool::BITS, &all)],
            ),
            nested(ethtool::ACTIVE, &[size, nested(ethtool::BITS, &on)]),
        ])
    }

    #[test]
    fn what_a_card_does_with_tags_is_read_from_its_features() {
        let cases: [(&[&str], &[&str], bool, bool); 5] = [
            (&FEATURES, &["tx-checksum-ipv4"], false, false),
            (&FEATURES, &["tx-checksum-ipv4", FEATURES[0]], true, false),
            (&FEATURES, &[FEATURES[1]], true, false),
            (&["tx-checksum-ipv4"], &[FEATURES[0]], true, true),
            (&[FEATURES[0]], &FEATURES, true, true),
        ];
        for (changeable, on, active, fixed) in cases {
            let found = offload(&answer(changeable, on));
            assert_eq!(found, Offload { active, fixed }, "{changeable:?} {on:?}");
        }
        assert_eq!(offload(&[]), Offload::default());
        assert_eq!(offload(&[0; 7]), Offload::default());
    }

    #[test]
    fn answers_are_told_from_each_other() {
        let request = message(20, ethtool::FEATURES_GET, (7, NLM_F_ACK), &[device(3)]);
        assert_eq!(request.len(), 32);
        let of = |sequence| read(&request, sequence);
        assert_eq!(of(8), None);
        assert!(matches!(of(7), Some(Answer::Attributes(rest)) if rest.len() == 12));
        let mut error = message(ERROR, 0, (7, 0), &[]);
        error[16..20].copy_from_slice(&(-95_i32).to_ne_bytes());
        assert_eq!(read(&error, 7), Some(Answer::Done(-95)));
        for length in 0..20 {
            assert_eq!(read(&error[..length], 7), None, "{length}");
        }
    }
}
