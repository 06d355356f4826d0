//! What comes back to a `UDP_CHECK`: whether a datagram is the reply that was asked for.

use crate::config::model::Reply;

/// Whether `datagram` is such a reply; if not, what came and what was expected.
///
/// # Errors
/// When its length is out of bounds, or it does not begin with the pattern.
pub fn judge(expected: &Reply, datagram: &[u8]) -> Result<(), String> {
    let length = datagram.len();
    let (min, max) = (expected.min_length, expected.max_length);
    if length < usize::from(min) || length > usize::from(max) {
        return Err(format!("reply of {length} bytes, expected {min} to {max}"));
    }
    let differs = expected
        .pattern
        .iter()
        .zip(datagram)
        .position(|(want, byte)| (want.value ^ byte) & want.mask != 0);
    match differs {
        Some(at) => Err(format!("reply differs from the expected one at byte {at}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::MaskedByte;

    fn reply(pattern: &[(u8, u8)]) -> Reply {
        Reply {
            pattern: pattern
                .iter()
                .map(|&(value, mask)| MaskedByte { value, mask })
                .collect(),
            min_length: 2,
            max_length: 4,
        }
    }

    #[test]
    fn lengths_are_bounds() {
        let any = reply(&[]);
        assert!(judge(&any, &[1]).is_err());
        assert!(judge(&any, &[1; 2]).is_ok());
        assert!(judge(&any, &[1; 4]).is_ok());
        assert!(judge(&any, &[1; 5]).is_err());
    }

    #[test]
    fn only_masked_bits_count() {
        let half = reply(&[(0xa0, 0xf0), (0x00, 0x00), (0x7f, 0xff)]);
        assert!(judge(&half, &[0xa5, 0x99, 0x7f]).is_ok());
        assert!(judge(&half, &[0xb5, 0x99, 0x7f]).is_err());
        let error = judge(&half, &[0xa5, 0x99, 0x7e]).unwrap_err();
        assert!(error.ends_with("at byte 2"), "{error}");
    }

    #[test]
    fn a_pattern_counts_as_far_as_the_reply_goes() {
        assert!(judge(&reply(&[(1, 0xff), (2, 0xff), (3, 0xff)]), &[1, 2]).is_ok());
    }
}
