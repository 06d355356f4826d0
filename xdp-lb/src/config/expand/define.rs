//! Definitions, and what stands for them in a line.
//!
//! As keepalived's 2.2 line shows when run: `${NAME}` is replaced wherever it stands, `$NAME` only
//! before white space, `,`, `)` or the end of the line; quotes do not matter. A definition of several
//! lines is replaced only where it ends its line. What is put in is looked at again, so a value may
//! use other definitions, and it means what they are at that time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::repeat::Head;
use crate::config::options::Options;
use crate::config::source::Span;
use crate::config::text::Text;

/// How often a line is looked at again. Values that use values go a few deep; one that uses itself
/// has no end.
pub(super) const MAX_PASSES: usize = 64;

/// Longest line that definitions may make, bytes.
pub(super) const MAX_LENGTH: usize = 1 << 20;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// Its lines; one at least, which may be empty.
    pub(super) lines: Arc<[String]>,
    /// Where it is defined, or the variable that it is of a line that repeats.
    pub(super) span: Option<Span>,
}

/// What the names of a file stand for.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    known: BTreeMap<String, Definition>,
    /// State of the random numbers.
    random: u64,
}

/// The lines behind the first one of a definition that ended its line.
#[derive(Clone, Debug)]
pub(super) struct More {
    /// All lines of the definition.
    pub(super) lines: Arc<[String]>,
    /// Where it is used.
    pub(super) span: Span,
}

/// A line with what its names stand for.
#[derive(Debug, Default)]
pub(super) struct Substituted {
    pub(super) line: Text,
    /// Anything was replaced.
    pub(super) changed: bool,
    /// Lines that follow it, the nearest last.
    pub(super) more: Vec<More>,
    /// Places of use and of definition.
    pub(super) uses: Vec<(Span, Span)>,
}

/// A line that has no end: the name that keeps coming back, or the last one.
#[derive(Debug)]
pub(super) struct Endless {
    pub(super) name: String,
    pub(super) span: Span,
    /// It grew too long before it was looked at too often.
    pub(super) too_long: bool,
}

/// `$NAME` or `${NAME}` in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// All of it.
    pub(super) range: Range<usize>,
    pub(super) name: &'a str,
    /// What stands behind the name in the braces.
    arguments: &'a str,
    /// It has braces, or something behind it that lets it be replaced.
    pub(super) closed: bool,
}

impl Definitions {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            ..Self::default()
        }
    }

    pub(super) fn insert(&mut self, name: String, definition: Definition) {
        self.known.insert(name, definition);
    }

    pub(super) fn get(&self, name: &str) -> Option<&Definition> {
        self.known.get(name)
    }

    /// The names that are defined.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Replaces every name in `line` that can be replaced.
    pub(super) fn substitute(
        &mut self,
        line: Text,
        directory: &Path,
        options: &Options<'_>,
    ) -> Result<Substituted, Endless> {
        let mut done = Substituted {
            line,
            ..Substituted::default()
        };
        let mut last = None;
        for _ in 0..MAX_PASSES {
            match self.pass(&mut done, directory, options) {
                None => return Ok(done),
                Some(replaced) => last = Some(replaced),
            }
            if done.line.as_str().len() > MAX_LENGTH {
                break;
            }
            // What repeats is replaced anew each time.
            if Head::of(done.line.as_str()).is_some() {
                return Ok(done);
            }
        }
        let (name, span) = last.unwrap_or_default();
        Err(Endless {
            name,
            span,
            too_long: done.line.as_str().len() > MAX_LENGTH,
        })
    }

    /// Goes over the line once; the last name that was replaced, and where.
    fn pass(
        &mut self,
        done: &mut Substituted,
        directory: &Path,
        options: &Options<'_>,
    ) -> Option<(String, Span)> {
        let mut made = Text::default();
        let mut copied = 0;
        let mut replaced = None;
        let text = done.line.as_str();
        for reference in references(text) {
            let span = done.line.span(reference.range.clone());
            let value = if let Some(definition) = self.known.get(reference.name) {
                let several = definition.lines.len() > 1;
                let at_end = text
                    .get(reference.range.end..)
                    .is_none_or(|rest| rest.trim().is_empty());
                if !reference.closed || !reference.arguments.is_empty() || several && !at_end {
                    continue;
                }
                if several {
                    let lines = Arc::clone(&definition.lines);
                    done.more.push(More { lines, span });
                }
                done.uses
                    .extend(definition.span.map(|defined| (span, defined)));
                definition.lines.first().cloned().unwrap_or_default()
            } else if let Some(value) = self.built_in(&reference, directory, options) {
                value
            } else {
                continue;
            };
            made.push_part(&done.line, copied..reference.range.start);
            made.push_made(&value, span);
            copied = reference.range.end;
            replaced = Some((reference.name, span));
            if made.as_str().len() > MAX_LENGTH || Head::of(made.as_str()).is_some() {
                break;
            }
        }
        let (name, span) = replaced?;
        let name = name.to_owned();
        made.push_part(&done.line, copied..text.len());
        done.line = made;
        done.changed = true;
        Some((name, span))
    }

    /// What keepalived defines itself.
    fn built_in(
        &mut self,
        reference: &Reference<'_>,
        directory: &Path,
        options: &Options<'_>,
    ) -> Option<String> {
        let arguments = reference.arguments.trim();
        let alone = arguments.is_empty() && reference.closed;
        match reference.name {
            "_PWD" if alone => Some(options.files.full_name(directory).display().to_string()),
            "_INSTANCE" if alone => Some(options.config_id.to_owned()),
            "_HASH" if alone => Some("#".to_owned()),
            "_BANG" if alone => Some("!".to_owned()),
            "_RANDOM" if reference.closed => self.random_between(arguments),
            "_ENV" if !arguments.is_empty() => (options.environment)(arguments),
            _ => None,
        }
    }

    /// A number from MIN to MAX, by default from 0 to 32767; `None` when they are no numbers.
    fn random_between(&mut self, arguments: &str) -> Option<String> {
        let bounds: Result<Vec<u64>, _> = arguments.split_whitespace().map(str::parse).collect();
        let bounds = bounds.ok()?;
        let min = bounds.first().copied().unwrap_or(0);
        let max = bounds.get(1).copied().unwrap_or(32767);
        let (min, max) = (min.min(max), max.max(min));
        let random = self.next_random();
        let number = (max - min)
            .checked_add(1)
            .map_or(random, |span| random % span);
        Some((min + number).to_string())
    }

    /// Splitmix64.
    const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What keepalived defines itself, and `_ENV`, which its later versions do.
pub(super) const BUILT_IN: [&str; 6] = ["_PWD", "_INSTANCE", "_RANDOM", "_HASH", "_BANG", "_ENV"];

/// `NAME` and the rest, if `line` is a definition: `$NAME=rest`.
pub(super) fn definition(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix('$')?;
    let (name, behind) = line.split_at_checked(name_length(line))?;
    let value = behind.strip_prefix('=')?;
    (!name.is_empty()).then_some((name, value))
}

/// Every `$NAME` and `${NAME}` in `line`, whether it is defined or not.
pub(super) fn references(line: &str) -> impl Iterator<Item = Reference<'_>> {
    line.match_indices('$')
        .filter_map(|(at, _)| reference(line, at))
}

fn reference(line: &str, at: usize) -> Option<Reference<'_>> {
    let behind = line.get(at + 1..)?;
    let Some(inside) = behind.strip_prefix('{') else {
        let len = name_length(behind);
        let next = behind.get(len..)?.chars().next();
        let closed = next.is_none_or(|c| c.is_ascii_whitespace() || matches!(c, ',' | ')'));
        return (len > 0).then(|| Reference {
            range: at..at + 1 + len,
            name: behind.get(..len).unwrap_or(""),
            arguments: "",
            closed,
        });
    };
    let len = name_length(inside);
    let rest = inside.get(len..)?;
    // Only what is built in takes arguments; a `{` or a second `$` shows that the brace is no name's.
    let end = rest.find(['}', '{', '$', '"'])?;
    let arguments = rest.get(..end)?;
    let shape = arguments.is_empty() || arguments.starts_with(' ');
    let found = len > 0 && shape && rest.get(end..)?.starts_with('}');
    found.then(|| Reference {
        range: at..at + 2 + len + end + 1,
        name: inside.get(..len).unwrap_or(""),
        arguments,
        closed: true,
    })
}

/// Bytes of the name that `text` begins with: letters, digits and `_`, no digit first.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn substituted(definitions: &[(&str, &str)], line: &str) -> String {
        let mut known = Definitions::new(7);
        for (name, value) in definitions {
            let definition = Definition {
                lines: value.split('\n').map(str::to_owned).collect(),
                span: None,
            };
            known.insert((*name).to_owned(), definition);
        }
        let options = Options {
            config_id: "main",
            environment: &|name| (name == "HOME").then(|| "/home/web".to_owned()),
            files: &crate::config::source::NoFiles,
            ..Options::default()
        };
        let line = Text::written(line, Span::default());
        match known.substitute(line, Path::new("/etc"), &options) {
            Ok(done) => {
                let more: Vec<String> = done
                    .more
                    .iter()
                    .rev()
                    .flat_map(|more| more.lines[1..].to_vec())
                    .collect();
                [vec![done.line.as_str().to_owned()], more]
                    .concat()
                    .join("|")
            }
            Err(endless) => format!("endless {}", endless.name),
        }
    }

    #[test]
    fn names_are_replaced_where_keepalived_replaces_them() {
        for (line, expected) in CASES {
            assert_eq!(substituted(KNOWN, line), *expected, "{line}");
        }
    }

    const KNOWN: &[(&str, &str)] = &[
        ("A", "1"),
        ("B", "${A}2"),
        ("C", "A"),
        ("E", ""),
        ("M", "m1\nm2"),
        ("N", "n1 $M\nn2"),
        ("S", "$S"),
        ("T", "x${T} $U"),
        ("_HASH", "mine"),
    ];
    const CASES: &[(&str, &str)] = &[
        ("x$A", "x1"),
        ("x$A y", "x1 y"),
        ("x${A}y", "x1y"),
        ("x$A,y", "x1,y"),
        ("x$A)", "x1)"),
        ("x$A.", "x$A."),
        ("x$A/24", "x$A/24"),
        ("x$Ab", "x$Ab"),
        ("x$A-", "x$A-"),
        ("x$A\"", "x$A\""),
        ("x${A}\"", "x1\""),
        ("x$A}", "x$A}"),
        ("x$A{", "x$A{"),
        ("x$A$A", "x$A1"),
        ("x$$A", "x$1"),
        ("x\\$A", "x\\1"),
        ("x${A", "x${A"),
        ("x${A }", "x${A }"),
        ("x${ A}", "x${ A}"),
        ("${} $ ${", "${} $ ${"),
        ("\"$A ${A}\"", "\"1 1\""),
        ("${B} $B", "12 12"),
        ("$$C", "1"),
        ("${${C}}", "1"),
        ("${$C}", "${$C}"),
        ("a${E}b $E", "ab "),
        ("$U ${U}", "$U ${U}"),
        // Several lines are put in at the end only.
        ("$M", "m1|m2"),
        ("x $M ", "x m1 |m2"),
        ("$M w", "$M w"),
        ("${M}w", "${M}w"),
        ("$M $M", "$M m1|m2"),
        ("$N", "n1 m1|m2|n2"),
        ("$S", "endless S"),
        ("$T", "endless T"),
        ("${_PWD}/x", "/etc/x"),
        ("${_INSTANCE}$_INSTANCE", "mainmain"),
        ("${_HASH}${_BANG}", "mine!"),
        ("${_PWD a}", "${_PWD a}"),
        ("${_RANDOM 5 5}${_RANDOM  6 6}", "56"),
        (
            "${_RANDOM a} ${_RANDOM -3 5}",
            "${_RANDOM a} ${_RANDOM -3 5}",
        ),
        ("${_ENV HOME}/x", "/home/web/x"),
        ("${_ENV NOPE}", "${_ENV NOPE}"),
        ("${_ENV} $_ENV", "${_ENV} $_ENV"),
    ];

    #[test]
    fn random_numbers_stay_within_their_bounds_and_follow_the_seed() {
        let numbers = |seed| {
            let mut known = Definitions::new(seed);
            let mut next = |arguments| known.random_between(arguments).unwrap().parse().unwrap();
            (0..200)
                .map(|_| (next(""), next("32760"), next("3 5"), next("5 3")))
                .collect::<Vec<(u64, u64, u64, u64)>>()
        };
        for (plain, from, between, swapped) in numbers(1) {
            assert!(plain <= 32767 && (32760..=32767).contains(&from));
            assert!((3..=5).contains(&between) && (3..=5).contains(&swapped));
        }
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }

    #[test]
    fn a_definition_is_a_name_and_an_equals_sign() {
        let cases = [
            ("$A=1", Some(("A", "1"))),
            ("$_a1= b ", Some(("_a1", " b "))),
            ("$A=", Some(("A", ""))),
            ("$A =1", None),
            ("$1=2", None),
            ("$a-b=3", None),
            ("$=3", None),
            ("${A}=3", None),
            ("$A", None),
            ("A=3", None),
        ];
        for (line, expected) in cases {
            assert_eq!(definition(line), expected, "{line}");
        }
    }
}
