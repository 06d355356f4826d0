//! The secret of a cluster, and what is derived from it.

use std::fmt;

use hmac::digest::KeyInit as _;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use xdp_lb_common::hash::HashKey;

/// Bytes of a digest on the wire: HMAC-SHA256, the first half.
pub const DIGEST: usize = 16;

/// The least that a secret has to be, bytes.
pub const SECRET_MIN: usize = 16;
/// The most.
pub const SECRET_MAX: usize = 256;

/// A secret that all directors of a cluster share. Shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// `None` unless it is [`SECRET_MIN`] to [`SECRET_MAX`] bytes long.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (SECRET_MIN..=SECRET_MAX)
            .contains(&bytes.len())
            .then_some(Self(bytes))
    }

    /// The secret itself, for what prints a configuration that may show secrets.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The keys of a cluster, one for each use, so that none tells of another.
#[derive(Clone)]
pub struct Keys {
    datagrams: Hmac<Sha256>,
    digests: (u64, u64),
    hash: HashKey,
    fingerprint: u64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Derived from the secret. `None` never comes: HMAC takes keys of any length.
    pub fn of(secret: &Secret) -> Option<Self> {
        let derive = |purpose: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
            mac.update(purpose);
            Some(mac.finalize().into_bytes())
        };
        let pair = |purpose: &[u8]| {
            let bytes = derive(purpose)?;
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            let (second, _) = rest.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second)))
        };
        let (k0, k1) = pair(b"xdp-lb flow hash")?;
        let hash = HashKey { k0, k1 };
        Some(Self {
            datagrams: Hmac::<Sha256>::new_from_slice(&derive(b"xdp-lb sync datagrams")?).ok()?,
            digests: pair(b"xdp-lb sync digests")?,
            hash,
            fingerprint: fingerprint(hash),
        })
    }

    /// The digest of a datagram.
    pub(super) fn seal(&self, datagram: &[u8]) -> [u8; DIGEST] {
        let mut mac = self.datagrams.clone();
        mac.update(datagram);
        let full = mac.finalize().into_bytes();
        full.first_chunk().copied().unwrap_or_default()
    }

    /// The two words that key the digests of entries.
    pub(super) const fn digests(&self) -> (u64, u64) {
        self.digests
    }

    /// The key of the connection table's hash, so that directors of a cluster agree on it without
    /// ever sending it.
    pub const fn hash_key(&self) -> HashKey {
        self.hash
    }

    /// A fingerprint of [`Self::hash_key`].
    pub const fn hash_fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// A word that two keys share only if they are equal, and that does not tell the key.
pub fn fingerprint(key: HashKey) -> u64 {
    let halves = [key.k0.to_le_bytes(), key.k1.to_le_bytes()].concat();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&halves) else {
        return 0;
    };
    mac.update(b"xdp-lb hash key");
    let full = mac.finalize().into_bytes();
    full.first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_length_and_is_never_shown() {
        assert!(Secret::new(vec![1; 15]).is_none());
        assert!(Secret::new(vec![1; 257]).is_none());
        let secret = Secret::new(b"correct horse battery".to_vec()).unwrap();
        assert!(!format!("{secret:?}").contains("horse"));
        let keys = Keys::of(&secret).unwrap();
        assert_eq!(format!("{keys:?}"), "Keys(…)");
        assert_eq!(keys.hash_key(), Keys::of(&secret).unwrap().hash_key());
        let other = Keys::of(&Secret::new(vec![7; 32]).unwrap()).unwrap();
        assert_ne!(keys.hash_key(), other.hash_key());
        assert_ne!(keys.hash_fingerprint(), other.hash_fingerprint());
        assert_ne!(keys.seal(b"x"), other.seal(b"x"));
    }
}
