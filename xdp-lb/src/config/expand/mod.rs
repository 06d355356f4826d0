//! Directives that rewrite the file before it is read: `include`, definitions (`$NAME=value`),
//! conditions on the configuration id (`@id`), lines that repeat (`~SEQ`, `~LST`).
//!
//! In: a file. Out: the tokens to parse, with those of the files it includes. Lines without any
//! directive, which are nearly all, go to the lexer as they stand. The others are taken one by one,
//! in keepalived's order: the comment goes, a condition is tested, a definition is noted, a
//! repetition begins, names are replaced, and what is left is split into tokens. A directive may also
//! follow a brace, and reaches from there to the end of its line.
//!
//! What is still to be read is a stack of [`Frame`]s, so nothing here recurses, and whatever a file
//! asks for ends within [`Limits`]. Knowing deviations from keepalived's 2.2 line, all of them where
//! it has an accident:
//!
//! - `${NAME}` without a definition stays one word; there, its braces open and close a block;
//! - a condition that a definition of several lines puts in front of a line is taken off when it holds;
//! - a `~LST` that cannot be read does not spoil the next repetition;
//! - a line that repeats may include files: their names always start from the same directory;
//! - a definition that uses itself is an error; there, it never ends.

mod define;
mod directives;
mod include;
mod names;
mod pattern;
mod repeat;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::define::Definitions;
use self::include::Include;
use self::repeat::{Head, Repeat};
use super::diagnostic::{Code, Collector, Diagnostic, quote};
use super::lexer::{self, Place, Token};
use super::options::Options;
use super::source::{FileId, Source, Sources, Span};
use super::text::Text;

/// How much a configuration may ask for.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Files included, each as often as it is.
    files: usize,
    /// Bytes in them.
    included: usize,
    /// Files that include each other.
    depth: usize,
    /// Definitions and repetitions within each other.
    nested: usize,
    /// What definitions and repetitions make: bytes, [`LINE_COST`] and [`TOKEN_COST`].
    made: usize,
}

const LIMITS: Limits = Limits {
    files: 10_000,
    included: 64 << 20,
    depth: 32,
    nested: 256,
    made: 128 << 20,
};

/// What a token weighs against [`Limits::made`].
const TOKEN_COST: usize = 16;

/// What a line weighs besides its bytes and tokens.
const LINE_COST: usize = 32;

/// Expands the file `main` to its tokens.
pub(super) fn expand(
    main: FileId,
    sources: &mut Sources,
    options: &Options<'_>,
    diagnostics: &mut Collector,
) -> Vec<Token> {
    expand_within(LIMITS, main, sources, options, diagnostics)
}

fn expand_within(
    limits: Limits,
    main: FileId,
    sources: &mut Sources,
    options: &Options<'_>,
    diagnostics: &mut Collector,
) -> Vec<Token> {
    let text = sources.shared_text(main);
    let path = PathBuf::from(sources.file(main).map_or("", Source::name));
    let mut expander = Expander {
        options,
        sources,
        diagnostics,
        tokens: Vec::new(),
        frames: Vec::new(),
        definitions: Definitions::new(options.random_seed),
        loaded: BTreeMap::new(),
        warned: BTreeSet::new(),
        limits,
        left: limits,
        stopped: false,
    };
    expander.push_file(main, text, path, None);
    while !expander.stopped && expander.step() {}
    if expander.stopped {
        // What was made is not what is meant, and whatever is said about it misleads.
        expander.tokens.clear();
    }
    expander.tokens
}

/// Something that lines come from.
enum Frame {
    /// A file.
    File(OpenFile),
    /// Files that are to be read one after the other.
    Files(Include),
    /// The lines of a definition from `next` on.
    Lines {
        lines: Arc<[String]>,
        next: usize,
        span: Span,
    },
    /// A line that repeats.
    Repeat { repeat: Repeat, line: Text },
}

/// A file that is being read.
struct OpenFile {
    file: FileId,
    text: Arc<String>,
    /// First byte that was not read yet.
    at: usize,
    path: PathBuf,
    /// Where it is included; `None` for the main file.
    included_at: Option<Span>,
}

struct Expander<'a> {
    options: &'a Options<'a>,
    sources: &'a mut Sources,
    diagnostics: &'a mut Collector,
    tokens: Vec<Token>,
    /// What lines come from, the nearest last.
    frames: Vec<Frame>,
    definitions: Definitions,
    /// The files that were read, by their full names.
    loaded: BTreeMap<PathBuf, FileId>,
    /// Names that were complained about.
    warned: BTreeSet<Span>,
    limits: Limits,
    /// What is left of the limits.
    left: Limits,
    /// A limit was reached.
    stopped: bool,
}

impl Expander<'_> {
    /// Reads up to the end of the next line that needs care; false at the end.
    fn step(&mut self) -> bool {
        match self.frames.last_mut() {
            None => return false,
            Some(Frame::File(_)) => self.read_file(),
            Some(Frame::Files(include)) => match include.next() {
                Some(path) => {
                    let (span, checks) = (include.span, include.checks);
                    self.open(path, span, checks);
                }
                None => drop(self.frames.pop()),
            },
            Some(Frame::Lines { lines, next, span }) => match lines.get(*next) {
                Some(line) => {
                    *next += 1;
                    let line = Text::made(line, *span);
                    self.process(line, false);
                }
                None => drop(self.frames.pop()),
            },
            Some(Frame::Repeat { repeat, line }) => match repeat.next() {
                Some(values) => {
                    let line = line.clone();
                    self.set(values);
                    self.process(line, false);
                }
                None => drop(self.frames.pop()),
            },
        }
        true
    }

    fn push(&mut self, frame: Frame, span: Span) {
        if self.frames.len() >= self.limits.nested {
            let what = format!(
                "definitions and repetitions are nested deeper than {} levels",
                self.limits.nested
            );
            self.stop(what, span, "look for definitions that use each other");
        }
        self.frames.push(frame);
    }

    fn push_file(&mut self, file: FileId, text: Arc<String>, path: PathBuf, at: Option<Span>) {
        let start = lexer::byte_order_mark(file, &text, self.diagnostics);
        self.frames.push(Frame::File(OpenFile {
            file,
            text,
            at: start,
            path,
            included_at: at,
        }));
    }

    /// Takes the lines of the file up to the next directive, and that.
    fn read_file(&mut self) {
        let Some(Frame::File(open)) = self.frames.last_mut() else {
            return;
        };
        let (file, text, from) = (open.file, Arc::clone(&open.text), open.at);
        let care = next_careful_line(&text, from);
        let plain = from..care.as_ref().map_or(text.len(), |line| line.start);
        open.at = care.as_ref().map_or(text.len(), |line| line.end + 1);
        if let Some(plain_text) = text.get(plain).filter(|text| !text.is_empty()) {
            let place = Place::File(file, from);
            lexer::lex(place, plain_text, &mut self.tokens, self.diagnostics);
        }
        if let Some(range) = care {
            let (start, end) = (range.start, range.end);
            let line = text.get(range).unwrap_or("");
            self.process(Text::written(line, Span { file, start, end }), true);
        } else {
            self.tokens.push(Token::LineEnd);
            self.frames.pop();
        }
    }

    /// Takes one line. One that stands in a file may go on in the next lines.
    fn process(&mut self, mut line: Text, in_file: bool) {
        if !in_file && !self.charge(line.as_str().len() + LINE_COST, line.whole()) {
            return;
        }
        let backslash = line.as_str().trim_end().ends_with('\\');
        line.truncate(lexer::layout(line.as_str()).len);
        let Some(mut line) = self.conditional(line.trimmed()) else {
            return;
        };
        if define::definition(line.as_str()).is_some() {
            self.define(&line, in_file && backslash);
        } else if let Some(head) = Head::of(line.as_str()) {
            self.repeat(&line, head);
        } else {
            if backslash {
                line = joined(line);
            }
            self.substitute(line, in_file);
        }
    }

    /// The line without its condition; `None` when that does not hold.
    fn conditional(&self, line: Text) -> Option<Text> {
        let Some(condition) = condition(line.as_str()) else {
            return Some(line);
        };
        let rest = condition.len()..line.as_str().len();
        self.holds(condition).then(|| line.part(rest).trimmed())
    }

    /// Whether `@id` or `@^id` fits.
    fn holds(&self, condition: &str) -> bool {
        let id = condition.strip_prefix('@').unwrap_or(condition);
        match id.strip_prefix('^') {
            Some(id) => id != self.options.config_id,
            None => id == self.options.config_id,
        }
    }

    /// Replaces the names in a line and takes what comes of it.
    fn substitute(&mut self, line: Text, in_file: bool) {
        let before = line.as_str().len();
        let Some(done) = self.substituted(line) else {
            return;
        };
        let growth = done.line.as_str().len().saturating_sub(before);
        if !self.charge(growth, done.line.whole()) {
            return;
        }
        for (place, definition) in done.uses {
            self.sources.note_use(place, definition);
        }
        for more in done.more {
            let (lines, span) = (more.lines, more.span);
            let next = 1;
            self.push(Frame::Lines { lines, next, span }, span);
        }
        self.take(done.line, done.changed, in_file);
    }

    fn substituted(&mut self, line: Text) -> Option<define::Substituted> {
        let directory = self.directory();
        match self.definitions.substitute(line, &directory, self.options) {
            Ok(done) => Some(done),
            Err(endless) => {
                let name = quote(&format!("${}", endless.name));
                let what = if endless.too_long {
                    let limit = define::MAX_LENGTH >> 20;
                    format!("{name} makes a line longer than {limit} MiB")
                } else {
                    format!("{name} has no end: its value leads back to itself")
                };
                self.stop(what, endless.span, "correct the definition");
                None
            }
        }
    }

    /// Splits a line into tokens, up to the directive that follows a brace, and carries that out.
    fn take(&mut self, mut line: Text, changed: bool, in_file: bool) {
        let layout = lexer::layout(line.as_str());
        let mut cut = layout.len;
        let mut directive = false;
        for start in layout.starts {
            let Some(rest) = line.as_str().get(start..layout.len) else {
                break;
            };
            let mut at = start + rest.len() - rest.trim_start().len();
            // At the start a condition was tested; keepalived does so again when names were replaced.
            if (start > 0 || changed)
                && let Some(condition) = condition(rest.trim_start())
            {
                let end = at + condition.len();
                if !self.holds(condition) {
                    cut = at;
                    break;
                }
                line.blank(at..end);
                at = end;
            }
            let rest = line.as_str().get(at..layout.len).unwrap_or("");
            at += rest.len() - rest.trim_start().len();
            if is_directive(rest.trim_start()) {
                (cut, directive) = (at, true);
                break;
            }
        }
        self.split(&line.part(0..cut), in_file);
        if directive {
            self.carry_out(&line.part(cut..layout.len));
        }
    }

    fn carry_out(&mut self, line: &Text) {
        if define::definition(line.as_str()).is_some() {
            self.define(line, false);
        } else if let Some(head) = Head::of(line.as_str()) {
            self.repeat(line, head);
        } else {
            self.include(line);
        }
    }

    fn split(&mut self, line: &Text, in_file: bool) {
        self.warn_of_names(line);
        let before = self.tokens.len();
        let place = Place::Pieces(line);
        lexer::lex(place, line.as_str(), &mut self.tokens, self.diagnostics);
        self.tokens.push(Token::LineEnd);
        if !in_file {
            let made = self.tokens.len() - before;
            self.charge(made * TOKEN_COST, line.whole());
        }
    }

    /// Directory of the file that is being read.
    fn directory(&self) -> PathBuf {
        let open = self.open_files().next_back();
        let path = open.and_then(|open| open.path.parent());
        path.map(Path::to_path_buf).unwrap_or_default()
    }

    /// The files that include each other down to the one being read.
    fn open_files(&self) -> impl DoubleEndedIterator<Item = &OpenFile> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::File(open) => Some(open),
            Frame::Files(_) | Frame::Lines { .. } | Frame::Repeat { .. } => None,
        })
    }

    /// Takes from what may be made; false when there is nothing left.
    fn charge(&mut self, cost: usize, span: Span) -> bool {
        if let Some(left) = self.left.made.checked_sub(cost) {
            self.left.made = left;
        } else {
            let limit = self.limits.made >> 20;
            let what = format!("definitions and repeated lines make more than {limit} MiB");
            self.stop(
                what,
                span,
                "look for a repetition or a definition that grows",
            );
        }
        !self.stopped
    }

    /// Ends it all with one error.
    fn stop(&mut self, what: String, span: Span, help: &str) {
        if !self.stopped {
            self.stopped = true;
            self.diagnostics.push(
                Diagnostic::error(Code::ExpansionTooLarge, what)
                    .at(span, "the rest of the configuration is not read")
                    .help(help),
            );
        }
    }
}

/// The next line of `text` behind `from` that may hold a directive, without its line feed.
fn next_careful_line(text: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let mut start = from;
    for line in text.get(from..)?.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        if needs_care(bare) {
            return Some(start..start + bare.len());
        }
        start += line.len();
    }
    None
}

fn needs_care(line: &str) -> bool {
    line.bytes().any(|byte| matches!(byte, b'$' | b'@' | b'~'))
        || line.trim_end().ends_with('\\')
        || line.contains("include")
}

/// `@id` at the start of `text`.
fn condition(text: &str) -> Option<&str> {
    text.starts_with('@')
        .then(|| text.split_whitespace().next())
        .flatten()
}

fn is_directive(text: &str) -> bool {
    define::definition(text).is_some() || Head::of(text).is_some() || include::is_include(text)
}

/// Outside of definitions a backslash at the end of a line belongs to the word before it.
fn joined(line: Text) -> Text {
    let Some(before) = line.as_str().strip_suffix('\\') else {
        return line;
    };
    let (end, len) = (before.trim_end().len(), before.len());
    let mut joined = line.part(0..end);
    joined.push_part(&line, len..len + 1);
    joined
}

#[cfg(test)]
mod tests;
