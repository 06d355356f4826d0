//! The regular expressions of `HTTP_GET` and `SSL_GET`: compiled, and held against a page.
//!
//! In: a [`Pattern`]. Out: a [`Matcher`], or why there is none; then bytes, and whether they are as
//! they should be. The language is that of PCRE2, by PCRE2 itself.

use pcre2::bytes::{Regex, RegexBuilder};

use super::model::Pattern;

/// A pattern that can be held against pages.
#[derive(Clone, Debug)]
pub struct Matcher {
    regex: Regex,
    first_line: bool,
    no_match: bool,
    min_offset: usize,
    max_offset: Option<usize>,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a regular expression, or too large a one.
    #[error("{0}")]
    Pattern(String),
    /// It asks for what `regex_options` forbids.
    #[error("it uses {used}, which '{option}' forbids")]
    Forbidden {
        /// What it uses.
        used: &'static str,
        /// The option.
        option: &'static str,
    },
    /// An option without an equivalent inside of patterns.
    #[error("the option '{0}' does not exist in this version")]
    Option(&'static str),
}

/// Compiles a pattern with its options.
pub fn compile(pattern: &Pattern) -> Result<Matcher, Error> {
    let (verbs, rest) = split_verbs(&pattern.text);
    let mut builder = RegexBuilder::new();
    let (mut more_verbs, mut letters) = (String::new(), String::new());
    let mut first_line = false;
    for option in pattern.options.iter().copied() {
        match option {
            "caseless" => drop(builder.caseless(true)),
            "dotall" => drop(builder.dotall(true)),
            "extended" => drop(builder.extended(true)),
            "multiline" => drop(builder.multi_line(true)),
            "ucp" => drop(builder.ucp(true)),
            "utf" => drop(builder.utf(true)),
            // What PCRE2 also takes inside of a pattern.
            "dupnames" => letters.push('J'),
            "no_auto_capture" => letters.push('n'),
            "ungreedy" => letters.push('U'),
            "no_auto_possess" => more_verbs.push_str("(*NO_AUTO_POSSESS)"),
            "no_dotstar_anchor" => more_verbs.push_str("(*NO_DOTSTAR_ANCHOR)"),
            "no_start_optimize" => more_verbs.push_str("(*NO_START_OPT)"),
            "firstline" => first_line = true,
            "never_ucp" | "never_utf" | "never_backslash_c" => {
                forbid(option, pattern, verbs)?;
            }
            // Nothing is called out to, and `max_offset` is kept in any case.
            "auto_callout" | "use_offset_limit" => {}
            other => return Err(Error::Option(other)),
        }
    }
    if !letters.is_empty() {
        letters = format!("(?{letters})");
    }
    let prefix = more_verbs.len() + letters.len();
    let text = format!("{more_verbs}{verbs}{letters}{rest}");
    let regex = builder
        .build(&text)
        .map_err(|error| Error::Pattern(describe(&error, verbs.len(), prefix)))?;
    let offset = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    Ok(Matcher {
        regex,
        first_line,
        no_match: pattern.no_match,
        min_offset: offset(pattern.min_offset),
        max_offset: pattern.max_offset.map(offset),
    })
}

/// The `(*VERB)`s that a pattern begins with, and the rest: options of ours go between the two, for
/// verbs that set options must come first.
fn split_verbs(text: &str) -> (&str, &str) {
    let mut rest = text;
    while let Some(inner) = rest.strip_prefix("(*") {
        let is_name =
            |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | '=');
        let after = inner.trim_start_matches(is_name);
        let Some(after) = after.strip_prefix(')') else {
            break;
        };
        rest = after;
    }
    text.split_at(text.len() - rest.len())
}

fn forbid(option: &'static str, pattern: &Pattern, verbs: &str) -> Result<(), Error> {
    let has = |name: &str| pattern.options.contains(&name);
    let used = match option {
        "never_utf" if has("utf") || verbs.contains("(*UTF") => "UTF",
        "never_ucp" if has("ucp") || verbs.contains("(*UCP)") => "UCP",
        "never_backslash_c" if has_escape(&pattern.text, 'C') => "\\C",
        _ => return Ok(()),
    };
    Err(Error::Forbidden { used, option })
}

/// Whether `\` and `letter` stand in a pattern; `\\` is a backslash.
fn has_escape(text: &str, letter: char) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && characters.next() == Some(letter) {
            return true;
        }
    }
    false
}

/// PCRE2's words, with the offset as the author of the pattern counts it.
fn describe(error: &pcre2::Error, verbs: usize, prefix: usize) -> String {
    let words = error.to_string();
    let reason = match words.split_once(": ") {
        Some(("PCRE2", rest)) => rest.rsplit_once(": ").map_or(rest, |(_, reason)| reason),
        _ => &words,
    };
    match error.offset() {
        Some(offset) => {
            let offset = offset.saturating_sub(prefix).max(offset.min(verbs));
            format!("{reason}, at byte {offset}")
        }
        None => reason.to_owned(),
    }
}

impl Matcher {
    /// Whether an answer, from its status line on, is as it should be. Offsets count from there, as
    /// in keepalived.
    ///
    /// # Errors
    /// When the matcher gives up: the pattern needs more steps than PCRE2 allows.
    pub fn accepts(&self, answer: &[u8]) -> Result<bool, Error> {
        Ok(self.finds(answer)? != self.no_match)
    }

    /// Whether the answer must not contain the pattern.
    pub const fn is_inverted(&self) -> bool {
        self.no_match
    }

    fn finds(&self, answer: &[u8]) -> Result<bool, Error> {
        if self.min_offset > answer.len() {
            return Ok(false);
        }
        // The leftmost match is found first, so a later one need not be looked for.
        let found = self.regex.find_at(answer, self.min_offset);
        let Some(found) = found.map_err(|error| Error::Pattern(describe(&error, 0, 0)))? else {
            return Ok(false);
        };
        let start = found.start();
        let before = answer.get(self.min_offset..start).unwrap_or_default();
        let in_time = self.max_offset.is_none_or(|max| start <= max);
        Ok(in_time && !(self.first_line && before.contains(&b'\n')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer that real keepalived was given for what is expected here.
    const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nhello world\nline two\n";

    fn pattern(text: &str, options: &[&'static str]) -> Pattern {
        Pattern {
            text: text.to_owned(),
            options: options.to_vec(),
            no_match: false,
            min_offset: 0,
            max_offset: None,
        }
    }

    fn accepts(pattern: &Pattern) -> bool {
        compile(pattern).unwrap().accepts(ANSWER).unwrap()
    }

    #[test]
    fn patterns_and_offsets_are_judged_as_by_keepalived() {
        let cases = [
            ("wor.d", "", 0, None, true),
            ("WORLD", "caseless", 0, None, true),
            ("WORLD", "", 0, None, false),
            ("nope", "", 0, None, false),
            // The head belongs to it.
            ("200 OK", "", 0, None, true),
            ("hello", "", 1, None, true),
            ("world", "", 19, None, true),
            ("world", "", 99, None, false),
            ("world", "", 0, Some(3), false),
            ("world", "", 0, Some(7), false),
            ("world", "", 0, Some(99), true),
            ("world", "use_offset_limit", 0, Some(6), false),
            ("(?<=hello )world", "", 6, None, true),
            ("world", "use_offset_limit", 7, None, true),
        ];
        for (text, option, min_offset, max_offset, expected) in cases {
            let options: Vec<_> = Some(option)
                .filter(|option| !option.is_empty())
                .into_iter()
                .collect();
            let mut pattern = pattern(text, &options);
            (pattern.min_offset, pattern.max_offset) = (min_offset, max_offset);
            assert_eq!(accepts(&pattern), expected, "{pattern:?}");
            pattern.no_match = true;
            assert_eq!(accepts(&pattern), !expected, "{pattern:?}");
        }
    }

    #[test]
    fn options_reach_the_matcher() {
        assert!(accepts(&pattern("OK.*two", &["dotall"])));
        assert!(!accepts(&pattern("OK.*two", &[])));
        assert!(accepts(&pattern("^line", &["multiline"])));
        assert!(!accepts(&pattern("^line", &[])));
        assert!(accepts(&pattern(
            "hello # greets\n [ ] world",
            &["extended"]
        )));
        assert!(accepts(&pattern("200", &["firstline"])));
        assert!(!accepts(&pattern("world", &["firstline"])));
        assert!(accepts(&pattern("(?<a>hello)|(?<a>x)", &["dupnames"])));
        compile(&pattern("(?<a>hello)|(?<a>x)", &[])).unwrap_err();
        assert!(accepts(&pattern("(h)ello", &["no_auto_capture"])));
        // Without captures there is nothing to refer to.
        compile(&pattern("(l)\\1", &["no_auto_capture"])).unwrap_err();
        let all = "(*UTF)(*NO_JIT)w.*";
        assert!(accepts(&pattern(
            all,
            &["ungreedy", "no_start_optimize", "no_auto_possess"]
        )));
    }

    #[test]
    fn every_option_is_one_or_says_that_it_is_none() {
        let lacking: Vec<_> = Pattern::OPTIONS
            .into_iter()
            .filter(|option| compile(&pattern("a", &[option])).is_err())
            .collect();
        let expected = [
            "allow_empty_class",
            "alt_bsux",
            "dollar_endonly",
            "match_unset_backref",
        ];
        assert_eq!(lacking, expected);
        for (text, option) in [
            ("(*UTF)a", "never_utf"),
            ("(*UCP)a", "never_ucp"),
            ("a\\Cb", "never_backslash_c"),
        ] {
            let error = compile(&pattern(text, &[option])).unwrap_err();
            assert!(error.to_string().contains("forbids"), "{error}");
        }
        compile(&pattern("a\\\\C", &["never_backslash_c"])).unwrap();
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for options in [&[][..], &["ungreedy"], &["no_start_optimize", "ungreedy"]] {
            let error = compile(&pattern("ab(", options)).unwrap_err().to_string();
            assert_eq!(error, "missing closing parenthesis, at byte 3");
        }
    }

    #[test]
    fn a_pattern_that_takes_for_ever_is_given_up() {
        let matcher = compile(&pattern("(a+)+$", &["no_auto_possess"])).unwrap();
        let mut page = vec![b'a'; 64];
        page.push(b'b');
        let error = matcher.accepts(&page).unwrap_err().to_string();
        assert!(error.contains("limit"), "{error}");
    }
}
