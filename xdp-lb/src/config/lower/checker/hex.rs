//! Bytes in hexadecimal, written as freely as `UDP_CHECK` takes them.

use crate::config::ast::Word;
use crate::config::model::MaskedByte;

/// The bytes of `words`. Digits come in pairs; where a word has an odd one at its end, that is a byte
/// by itself. With `wild`, `x` stands for four bits that do not count. `None` for anything else, and
/// for nothing at all.
pub(super) fn bytes(words: &[Word], wild: bool) -> Option<Vec<MaskedByte>> {
    let mut bytes = Vec::new();
    for word in words.iter().flat_map(|word| word.text.split_whitespace()) {
        let digits: Option<Vec<MaskedByte>> = word.chars().map(|c| digit(c, wild)).collect();
        for pair in digits?.chunks(2) {
            bytes.push(match pair {
                [high, low] => MaskedByte {
                    value: high.value << 4 | low.value,
                    mask: high.mask << 4 | low.mask,
                },
                [low] => MaskedByte {
                    value: low.value,
                    mask: 0xf0 | low.mask,
                },
                _ => return None,
            });
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// Four bits.
fn digit(c: char, wild: bool) -> Option<MaskedByte> {
    if wild && matches!(c, 'x' | 'X') {
        return Some(MaskedByte { value: 0, mask: 0 });
    }
    let value = c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())?;
    Some(MaskedByte { value, mask: 0xf })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Span;

    #[test]
    fn digits_are_grouped_as_keepalived_does() {
        let cases: [(&str, bool, Option<&[u8]>); 6] = [
            (
                "Ab12f 3 456 546443123",
                false,
                Some(&[0xab, 0x12, 0x0f, 3, 0x45, 6, 0x54, 0x64, 0x43, 0x12, 3]),
            ),
            ("0102", true, Some(&[1, 2])),
            ("1X", true, Some(&[0x10])),
            ("1X", false, None),
            ("0x01", false, None),
            ("", false, None),
        ];
        for (text, wild, expected) in cases {
            let words = [Word {
                text: text.to_owned(),
                quoted: false,
                span: Span::default(),
            }];
            let found = bytes(&words, wild);
            let found = found.map(|bytes| bytes.iter().map(|b| b.value).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
