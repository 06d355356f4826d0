//! What a `track_file` says. Pure.

use std::collections::BTreeMap;

use crate::sys::number::Content;

/// A file was looked at: this is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Its number is another.
    pub value: Option<i32>,
    /// People should know: it is no number, or none that can be used.
    pub complaint: Option<Content>,
}

/// What is known of each file.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<String, Known>);

#[derive(Clone, Debug)]
struct Known {
    value: i32,
    complained: bool,
}

impl Files {
    /// Forgets all but these, so that they are told anew should they come back.
    pub fn retain(&mut self, mut stays: impl FnMut(&str) -> bool) {
        self.0.retain(|name, _| stays(name));
    }

    /// A file was read. `None`: it is not there, and counts as 0.
    pub fn read(&mut self, name: &str, content: Option<Content>) -> News {
        let last = self.0.get(name);
        let (value, is_wrong) = match content {
            None | Some(Content::Nothing) => (0, None),
            Some(Content::Number(value)) => (value, None),
            Some(wrong @ Content::NoNumber) => (0, Some(wrong)),
            Some(wrong @ Content::OutOfRange) => (last.map_or(0, |last| last.value), Some(wrong)),
        };
        let news = News {
            value: Some(value).filter(|value| last.is_none_or(|last| last.value != *value)),
            complaint: is_wrong.filter(|_| last.is_none_or(|last| !last.complained)),
        };
        let complained = is_wrong.is_some();
        self.0.insert(name.to_owned(), Known { value, complained });
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_and_what_is_wrong_is_said_once() {
        let mut files = Files::default();
        let mut read = |text: Option<&str>| {
            let news = files.read("f", text.map(Content::of));
            (news.value, news.complaint.is_some())
        };
        assert_eq!(read(Some("12")), (Some(12), false));
        assert_eq!(read(Some("12\n")), (None, false));
        assert_eq!(read(Some("99999999999")), (None, true), "12 stands");
        assert_eq!(read(Some("99999999999")), (None, false));
        assert_eq!(read(Some("a")), (Some(0), false));
        assert_eq!(read(Some("1")), (Some(1), false));
        assert_eq!(read(Some("a")), (Some(0), true));
        assert_eq!(read(Some("-3")), (Some(-3), false));
        assert_eq!(read(None), (Some(0), false));
        files.retain(|_| false);
        assert_eq!(files.read("f", None).value, Some(0), "it is new again");
    }
}
