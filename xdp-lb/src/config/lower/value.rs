//! Values: numbers, times, addresses, with keepalived's effect where they are wrong.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::context::Context;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Kind};

/// Longest interface name, the kernel's IFNAMSIZ without the terminating NUL.
const LONGEST_DEVICE: usize = 15;

/// A value that was complained about and has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// What keepalived makes of a number with something behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// It takes the number (and 0 when there is none).
    Dropped,
    /// It refuses the value.
    Refused,
}

impl Context<'_> {
    /// The first value as a whole number; when it is none, says so and that `instead` holds.
    pub(super) fn number(
        &mut self,
        statement: &Statement,
        range: RangeInclusive<u32>,
        tail: Tail,
        instead: &str,
    ) -> Option<u32> {
        let word = statement.values.first()?;
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let (digits, rest) = split_number(&word.text, |c| c.is_ascii_digit());
        let in_range = |digits: &str| {
            let value = if digits.is_empty() {
                Some(0)
            } else {
                digits.parse().ok()
            };
            value.filter(|value| range.contains(value))
        };
        if rest.is_empty() && !digits.is_empty() {
            return in_range(digits).or_else(|| self.refuse(statement, word, &expected, instead));
        }
        if tail == Tail::Dropped
            && !rest.starts_with('-')
            && let Some(value) = in_range(digits)
        {
            self.take_leading(statement, word, &expected, value);
            return Some(value);
        }
        self.refuse(statement, word, &expected, instead)
    }

    /// The first value as seconds, fractions allowed to the microsecond; when it is none, says so
    /// and that `instead` holds.
    pub(super) fn seconds(
        &mut self,
        statement: &Statement,
        range: RangeInclusive<Duration>,
        tail: Tail,
        instead: &str,
    ) -> Option<Duration> {
        let word = statement.values.first()?;
        let expected = if range.start().is_zero() {
            format!("seconds from 0 to {}", range.end().as_secs())
        } else {
            format!("seconds above 0, up to {}", range.end().as_secs())
        };
        let mut dots = 0;
        let (number, rest) = split_number(&word.text, |c| {
            dots += usize::from(c == '.');
            c.is_ascii_digit() || (c == '.' && dots == 1)
        });
        let value = micros(number)
            .map(Duration::from_micros)
            .filter(|value| range.contains(value));
        let whole = rest.is_empty() && number.contains(|c: char| c.is_ascii_digit());
        match value {
            Some(value) if whole => Some(value),
            Some(value) if tail == Tail::Dropped && !rest.starts_with('-') => {
                self.take_leading(statement, word, &expected, value.as_secs_f64());
                Some(value)
            }
            _ => self.refuse(statement, word, &expected, instead),
        }
    }

    /// Whether a switch is on: bare it is, and one that takes no value is on whatever stands behind it.
    /// `None` for any other word, which is said.
    pub(super) fn boolean(&mut self, keyword: &Keyword, statement: &Statement) -> Option<bool> {
        let value = statement.values.first();
        let Some(word) = value.filter(|_| keyword.values.kind == Kind::Boolean) else {
            return Some(true);
        };
        match word.text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" => Some(true),
            "false" | "off" | "no" => Some(false),
            _ => {
                let expected = "on, off, true, false, yes, no, or nothing";
                self.refuse(statement, word, expected, "ignored, as keepalived does")
            }
        }
    }

    /// The first value as an address; when it is none, says so and that `instead` holds.
    pub(super) fn address(&mut self, statement: &Statement, instead: &str) -> Option<IpAddr> {
        let word = statement.values.first()?;
        let address = word.text.parse().ok();
        address.or_else(|| self.refuse(statement, word, "an IP address", instead))
    }

    /// The first value as the name of an interface; an error when no interface can have it.
    pub(super) fn device(&mut self, word: &Word) -> Option<String> {
        if is_device(&word.text) {
            return Some(word.text.clone());
        }
        self.push(
            Diagnostic::error(
                Code::BadValue,
                format!("{} cannot be the name of an interface", quote(&word.text)),
            )
            .at(
                word.span,
                format!("expected 1 to {LONGEST_DEVICE} characters without '/' and ':'"),
            ),
        );
        None
    }

    /// Says that a value is none of what is `expected` and what holds `instead`.
    pub(super) fn refuse<T>(
        &mut self,
        statement: &Statement,
        word: &Word,
        expected: &str,
        instead: &str,
    ) -> Option<T> {
        self.push(
            Diagnostic::warning(
                Code::BadValue,
                format!(
                    "{} is not a value of '{}': {instead}",
                    quote(&word.text),
                    statement.keyword.text
                ),
            )
            .at(word.span, format!("expected {expected}")),
        );
        None
    }

    fn take_leading(
        &mut self,
        statement: &Statement,
        word: &Word,
        expected: &str,
        value: impl Display,
    ) {
        self.push(
            Diagnostic::warning(
                Code::BadValue,
                format!(
                    "{} is not a value of '{}': taken as {value}, as keepalived does",
                    quote(&word.text),
                    statement.keyword.text
                ),
            )
            .at(word.span, format!("expected {expected}")),
        );
    }
}

/// `12.5` as a time.
pub(super) fn seconds_of(text: &str) -> Option<Duration> {
    let digits = text.contains(|c: char| c.is_ascii_digit());
    let valid = digits && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    micros(text).filter(|_| valid).map(Duration::from_micros)
}

/// Whether an interface can have this name.
pub(super) fn is_device(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_DEVICE
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// The number at the start and what is behind it. A plus sign may stand before it.
fn split_number(text: &str, belongs: impl FnMut(char) -> bool) -> (&str, &str) {
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut belongs = belongs;
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// `12.5` as microseconds; digits behind the sixth are cut. Nothing at all is 0.
fn micros(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(6)
        .filter_map(|digit| digit.to_digit(10))
        .fold(0, |sum, digit| sum * 10 + u64::from(digit));
    whole.checked_mul(1_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact_to_the_microsecond() {
        let cases = [
            ("0", Some(0)),
            ("", Some(0)),
            ("3", Some(3_000_000)),
            ("0.5", Some(500_000)),
            (".25", Some(250_000)),
            ("1.0000019", Some(1_000_001)),
            ("18446744073709551616", None),
            ("18446744073710", None),
        ];
        for (text, expected) in cases {
            assert_eq!(micros(text), expected, "{text}");
        }
    }

    #[test]
    fn device_names_follow_the_kernel() {
        for good in ["eth0", "ens34.100", "eno16777736", "a"] {
            assert!(is_device(good), "{good}");
        }
        for bad in ["", ".", "..", "eth0:0", "a/b", "a b", "sixteencharacter"] {
            assert!(!is_device(bad), "{bad}");
        }
    }
}
