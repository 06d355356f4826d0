//! What goes over a connection: heartbeats of a fixed length, each answered by its number and the name
//! of the server.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Bytes of a heartbeat: its number, big endian.
pub(super) const HEARTBEAT: usize = 4;

/// Bytes of an answer: the number as it came, then the name, padded with zeros.
pub(super) const ANSWER: usize = HEARTBEAT + NAME;

/// The longest name.
const NAME: usize = 12;

/// The name of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name([u8; NAME]);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut name = [0; NAME];
        match name.get_mut(..text.len()) {
            Some(place) if printable && !text.is_empty() => place.copy_from_slice(text.as_bytes()),
            _ => {
                return Err(format!(
                    "`{text}` is no name of a server: 1 to {NAME} printable ASCII characters"
                ));
            }
        }
        Ok(Self(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(text))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a server says to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The heartbeat's number.
    pub(super) number: u32,
    /// Who answers.
    pub(super) name: Name,
}

/// The bytes of a heartbeat.
pub(super) const fn heartbeat(number: u32) -> [u8; HEARTBEAT] {
    number.to_be_bytes()
}

impl Answer {
    /// What a server sends to a heartbeat.
    pub(super) fn to_bytes(self) -> [u8; ANSWER] {
        let mut bytes = [0; ANSWER];
        let (number, name) = bytes.split_at_mut(HEARTBEAT);
        number.copy_from_slice(&heartbeat(self.number));
        name.copy_from_slice(&self.name.0);
        bytes
    }

    /// What a client got.
    pub(super) fn from_bytes(bytes: [u8; ANSWER]) -> Self {
        let (mut number, mut name) = ([0; HEARTBEAT], [0; NAME]);
        let (front, back) = bytes.split_at(HEARTBEAT);
        number.copy_from_slice(front);
        name.copy_from_slice(back);
        Self {
            number: u32::from_be_bytes(number),
            name: Name(name),
        }
    }
}

/// Puts the pieces in which a stream arrives together to frames of `N` bytes.
#[derive(Clone, Debug)]
pub(super) struct Frames<const N: usize> {
    held: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Frames<N> {
    fn default() -> Self {
        Self {
            held: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> Frames<N> {
    /// Takes a piece and hands out each frame that it completes.
    pub(super) fn push(&mut self, piece: &[u8], mut whole: impl FnMut([u8; N])) {
        for byte in piece {
            if let Some(place) = self.held.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
            if self.length >= N {
                self.length = 0;
                whole(self.held);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_however_the_stream_is_cut() {
        let answers = ["rs1", "a-long-name1"].map(|name| Answer {
            number: 0x0102_0304,
            name: name.parse().unwrap(),
        });
        let stream: Vec<u8> = answers
            .iter()
            .flat_map(|answer| answer.to_bytes())
            .collect();
        for size in 1..=stream.len() {
            let mut frames = Frames::<ANSWER>::default();
            let mut got = Vec::new();
            for piece in stream.chunks(size) {
                frames.push(piece, |frame| got.push(Answer::from_bytes(frame)));
            }
            assert_eq!(got, answers, "in pieces of {size}");
        }
    }

    #[test]
    fn names_are_short_and_printable() {
        assert_eq!("rs1".parse::<Name>().unwrap().to_string(), "rs1");
        for wrong in ["", "thirteen-long", "a b", "ä"] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }
}
