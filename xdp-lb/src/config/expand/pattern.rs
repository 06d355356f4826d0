//! File names with wildcards and braces, as glob(3) reads them with `GLOB_BRACE`.
//!
//! `{a,b}` stands for each of its parts, also nested; `*`, `?` and `[a-z]` match within one name and
//! not a leading dot; a backslash takes the meaning from the next character. Matches are sorted.

use std::path::{Path, PathBuf};

use crate::config::source::Files;

/// Most names that one pattern can stand for.
const MAX_NAMES: usize = 10_000;

/// Longest pattern, bytes: the kernel's own limit for a path.
const MAX_LENGTH: usize = 4096;

/// A pattern stands for more names than are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Each alternative of the braces in `pattern`; the pattern itself when it has none.
pub(super) fn alternatives(pattern: &str) -> Result<Vec<String>, TooMany> {
    if pattern.len() > MAX_LENGTH {
        return Err(TooMany);
    }
    let mut done = Vec::new();
    // Patterns, and how far each holds no braces; the next one is at the end.
    let mut waiting = vec![(pattern.to_owned(), 0)];
    while let Some((pattern, from)) = waiting.pop() {
        let Some(group) = Group::find(&pattern, from) else {
            done.push(pattern);
            continue;
        };
        if done.len() + waiting.len() + group.parts.len() > MAX_NAMES {
            return Err(TooMany);
        }
        let expanded = group.parts.iter().rev();
        waiting.extend(expanded.map(|part| {
            let whole = format!("{}{part}{}", group.before, group.after);
            (whole, group.before.len())
        }));
    }
    Ok(done)
}

/// `before{part,part}after`
struct Group<'a> {
    before: &'a str,
    parts: Vec<&'a str>,
    after: &'a str,
}

impl<'a> Group<'a> {
    /// The first group behind `from` bytes. A `{` without its `}` is an ordinary character, and so
    /// is `{}`.
    fn find(pattern: &'a str, from: usize) -> Option<Self> {
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut found: Option<(usize, Vec<usize>, usize)> = None;
        let mut escaped = false;
        for (at, c) in pattern.char_indices().filter(|(at, _)| *at >= from) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '{' => open.push((at, Vec::new())),
                ',' => {
                    if let Some((_, commas)) = open.last_mut() {
                        commas.push(at);
                    }
                }
                '}' => {
                    if let Some((start, commas)) = open.pop()
                        && at > start + 1
                        && found.as_ref().is_none_or(|(first, ..)| start < *first)
                    {
                        found = Some((start, commas, at));
                    }
                }
                _ => {}
            }
            if open.is_empty() && found.is_some() {
                break;
            }
        }
        let (start, commas, end) = found?;
        let mut parts = Vec::with_capacity(commas.len() + 1);
        let mut part = start + 1;
        for comma in commas.into_iter().chain([end]) {
            parts.push(pattern.get(part..comma)?);
            part = comma + 1;
        }
        Some(Self {
            before: pattern.get(..start)?,
            parts,
            after: pattern.get(end + 1..)?,
        })
    }
}

/// Whether anything in it may stand for several names.
pub(super) fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The files that a pattern without braces stands for, below `directory` unless it is absolute. A
/// pattern without wildcards stands for one file, whether it exists or not.
pub(super) fn files(
    pattern: &str,
    directory: &Path,
    disk: &dyn Files,
) -> Result<Vec<PathBuf>, TooMany> {
    let mut found = vec![if pattern.starts_with('/') {
        PathBuf::from("/")
    } else {
        directory.to_path_buf()
    }];
    let mut after_wildcard = false;
    for name in pattern.split('/').filter(|name| !name.is_empty()) {
        if !is_wild(name) {
            let name = unescaped(name);
            for path in &mut found {
                path.push(&name);
            }
            if after_wildcard {
                found.retain(|path| disk.exists(path));
            }
            continue;
        }
        after_wildcard = true;
        let wanted: Vec<char> = name.chars().collect();
        let mut next = Vec::new();
        for path in &found {
            let mut names = disk.list(path);
            names.retain(|name| fits(&wanted, name));
            names.sort_unstable();
            next.extend(names.iter().map(|name| path.join(name)));
            if next.len() > MAX_NAMES {
                return Err(TooMany);
            }
        }
        found = next;
    }
    Ok(found)
}

fn unescaped(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            _ => plain.push(c),
        }
    }
    plain
}

/// Whether `name` matches `wanted`.
fn fits(wanted: &[char], name: &str) -> bool {
    if name.starts_with('.') && wanted.first() != Some(&'.') {
        return false;
    }
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut in_name) = (0, 0);
    // Behind the last star, and the character it is taken to end before.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        let here = name.get(in_name).copied();
        if wanted.get(at) == Some(&'*') {
            at += 1;
            star = Some((at, in_name));
        } else if let Some(next) = here.and_then(|c| one(wanted, at, c)) {
            at = next;
            in_name += 1;
        } else if let Some((behind, end)) = star {
            at = behind;
            in_name = end + 1;
            star = Some((behind, end + 1));
        } else {
            return false;
        }
    }
    wanted.iter().skip(at).all(|c| *c == '*')
}

/// Matches one character with what stands at `at`; what stands behind that.
fn one(wanted: &[char], at: usize, c: char) -> Option<usize> {
    match wanted.get(at)? {
        '?' => Some(at + 1),
        '[' => match class(wanted, at + 1, c) {
            Some((matches, behind)) => matches.then_some(behind),
            None => (c == '[').then_some(at + 1),
        },
        '\\' => (*wanted.get(at + 1)? == c).then_some(at + 2),
        plain => (*plain == c).then_some(at + 1),
    }
}

/// Whether the class that begins at `from` has `c`, and what stands behind its `]`; `None` when it
/// has none, so that the `[` is an ordinary character.
fn class(wanted: &[char], from: usize, c: char) -> Option<(bool, usize)> {
    let negated = matches!(wanted.get(from)?, '!' | '^');
    let first = from + usize::from(negated);
    let mut at = first;
    let mut has = false;
    loop {
        let mut low = *wanted.get(at)?;
        if low == ']' && at > first {
            return Some((has != negated, at + 1));
        }
        if low == '\\' {
            at += 1;
            low = *wanted.get(at)?;
        }
        let high = wanted.get(at + 2).filter(|high| **high != ']');
        if wanted.get(at + 1) == Some(&'-')
            && let Some(high) = high
        {
            has |= (low..=*high).contains(&c);
            at += 3;
        } else {
            has |= low == c;
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn braces_stand_for_each_of_their_parts() {
        let cases: [(&str, &[&str]); 9] = [
            ("a", &["a"]),
            ("{a,b}.conf", &["a.conf", "b.conf"]),
            ("f{3,{4,5}}x", &["f3x", "f4x", "f5x"]),
            (
                "{foo/{,cat,dog},bar}",
                &["foo/", "foo/cat", "foo/dog", "bar"],
            ),
            ("{6}", &["6"]),
            ("f6}", &["f6}"]),
            ("{}", &["{}"]),
            ("{f1,{a,b}", &["{f1,a", "{f1,b"]),
            ("\\{a,b}", &["\\{a,b}"]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(alternatives(pattern).unwrap(), expected, "{pattern}");
        }
        assert_eq!(alternatives(&"{a,b}".repeat(40)), Err(TooMany));
        assert_eq!(alternatives(&"{".repeat(MAX_LENGTH + 1)), Err(TooMany));
    }

    #[test]
    fn wildcards_match_within_a_name() {
        let cases = [
            ("*", "a.conf", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.confx", false),
            ("a*b*c", "aXbYbc", true),
            ("?.conf", "ab.conf", false),
            ("f[1-3]", "f2", true),
            ("f[1-3]", "f4", false),
            ("f[!1-3]", "f4", true),
            ("f[^1-3]", "f3", false),
            ("f[]x]", "f]", true),
            ("f[a-]", "f-", true),
            ("f[1-2.conf", "f[1-2.conf", true),
            ("f[1-2.conf", "f1.conf", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a", false),
        ];
        for (pattern, name, expected) in cases {
            let wanted: Vec<char> = pattern.chars().collect();
            assert_eq!(fits(&wanted, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_sorted_and_from_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/x.conf", "a/x.conf", "a/y.conf", "c/z"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            files(pattern, folder.path(), &crate::config::source::Disk)
                .unwrap()
                .iter()
                .map(|path| {
                    let below = path.strip_prefix(folder.path()).unwrap();
                    below.display().to_string()
                })
                .collect()
        };
        assert_eq!(found("*/x.conf"), ["a/x.conf", "b/x.conf"]);
        assert_eq!(found("a//*"), ["a/x.conf", "a/y.conf"]);
        assert_eq!(found("\\a/missing"), ["a/missing"]);
        assert_eq!(found("missing/*"), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_pattern_is_read(pattern in "[]ab*?{},\\\\!^-]{0,40}|[\\[a*!-]{0,40}", name in "[]\\[ab*-]{0,40}") {
            let wanted: Vec<char> = pattern.chars().collect();
            fits(&wanted, &name);
            if let Ok(found) = alternatives(&pattern) {
                prop_assert!(!found.is_empty());
            }
        }

        #[test]
        fn a_name_without_wildcards_matches_itself_only(name in "[a-c.]{1,8}", other in "[a-c.]{1,8}") {
            let wanted: Vec<char> = name.chars().collect();
            prop_assert!(fits(&wanted, &name));
            prop_assert_eq!(fits(&wanted, &other), name == other);
        }
    }
}
