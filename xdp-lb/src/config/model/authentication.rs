//! Secrets of adverts. Nothing here shows them but the print of a configuration.

use std::collections::BTreeMap;
use std::fmt;

/// `authentication` of version 2, `auth_type PASS`: a password in plain text.
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    /// Not empty; its last character starts within the bytes that count.
    text: String,
}

impl Authentication {
    /// Bytes that an advert has room for (RFC 2338, 5.3.10).
    pub const LENGTH: usize = 8;

    /// What is beyond eight bytes is not used. `None`: there is nothing.
    pub fn new(password: &str) -> Option<Self> {
        let counts = password
            .char_indices()
            .take_while(|(at, _)| *at < Self::LENGTH);
        let text: String = counts.map(|(_, c)| c).collect();
        (!text.is_empty()).then_some(Self { text })
    }

    /// The password as it goes on the wire, padded with zeros.
    pub fn bytes(&self) -> [u8; Self::LENGTH] {
        let mut padded = [0; Self::LENGTH];
        for (to, from) in padded.iter_mut().zip(self.text.bytes()) {
            *to = from;
        }
        padded
    }

    /// The password, to be shown to nobody but whoever reads the file it stands in.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authentication(…)")
    }
}

/// `auth_hmac`: signed adverts (draft-cassen-vrrp-auth-hmac).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacKeys {
    /// `mode`, enforce by default.
    pub mode: HmacMode,
    /// `send_key`: the one of `keys` that adverts are signed with, by default the first in the file.
    pub send_key: u8,
    /// `key`: all that are accepted; one at least.
    pub keys: BTreeMap<u8, HmacSecret>,
}

/// How far `auth_hmac` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacMode {
    /// `receive-only`: sends no signature and verifies those that come.
    ReceiveOnly,
    /// `permissive`: sends, and accepts adverts without.
    Permissive,
    /// `enforce`: sends, and refuses adverts without.
    Enforce,
}

impl HmacMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::ReceiveOnly, Self::Permissive, Self::Enforce];

    /// As files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReceiveOnly => "receive-only",
            Self::Permissive => "permissive",
            Self::Enforce => "enforce",
        }
    }
}

/// A secret of 32 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacSecret(Vec<u8>);

impl HmacSecret {
    /// From 64 to 128 hexadecimal digits, two for a byte.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let valid = digits.len().is_multiple_of(2) && (64..=128).contains(&digits.len());
        let nibble = |digit: char| digit.to_digit(16).and_then(|n| u8::try_from(n).ok());
        let nibbles: Option<Vec<u8>> = digits.chars().map(nibble).collect();
        let bytes = |pair: &[u8]| match pair {
            [high, low] => high << 4 | low,
            _ => 0,
        };
        let nibbles = nibbles.filter(|_| valid)?;
        Some(Self(nibbles.chunks(2).map(bytes).collect()))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HmacSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacSecret(…)")
    }
}
