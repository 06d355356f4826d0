//! The number in a file that is tracked, by `track_file` or by a `FILE_CHECK`.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc::O_NONBLOCK;

/// Bytes of a file that are looked at: more than any number has.
const LONGEST: u64 = 128;

/// What stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A number; what follows it is nobody's concern, as under keepalived.
    Number(i32),
    /// Nothing at all: 0. A file that is just being written looks like this, too.
    Nothing,
    /// Something else: 0.
    NoNumber,
    /// A number that is out of range: the last one stands.
    OutOfRange,
}

impl Content {
    /// Of the text of a file, or of its beginning.
    pub fn of(text: &str) -> Self {
        let text = text.trim_ascii_start();
        let sign = usize::from(text.starts_with(['-', '+']));
        let digits = text.bytes().skip(sign).take_while(u8::is_ascii_digit);
        let digits = digits.count();
        match (text.is_empty(), digits, text.get(..sign + digits)) {
            (true, ..) => Self::Nothing,
            (false, 0, _) | (.., None) => Self::NoNumber,
            (.., Some(number)) => match number.parse() {
                Ok(number) => Self::Number(number),
                Err(_) => Self::OutOfRange,
            },
        }
    }
}

/// What stands in a file; `None` if there is none. It may take the time of a disk.
pub fn read(path: &Path) -> io::Result<Option<Content>> {
    // A pipe or a device would be waited for.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            };
        }
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(Some(Content::of(&String::from_utf8_lossy(&text))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_may_stand_between_blanks_and_before_anything() {
        use Content::{NoNumber, Nothing, Number, OutOfRange};
        for (text, content) in [
            ("5\n", Number(5)),
            ("  12 ", Number(12)),
            ("3 4", Number(3)),
            ("-7", Number(-7)),
            ("+7", Number(7)),
            ("8abc", Number(8)),
            ("", Nothing),
            ("\n", Nothing),
            ("garbage", NoNumber),
            ("-", NoNumber),
            ("--1", NoNumber),
            ("é", NoNumber),
            ("99999999999999", OutOfRange),
            ("2147483648", OutOfRange),
            ("-2147483648", Number(i32::MIN)),
        ] {
            assert_eq!(Content::of(text), content, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_is_read_back_whatever_stands_around_it(
            number in any::<i32>(),
            before in "[ \t\n]{0,3}",
            after in "([^0-9].*)?",
        ) {
            let text = format!("{before}{number}{after}");
            prop_assert_eq!(Content::of(&text), Content::Number(number));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            Content::of(&text);
        }
    }
}
