//! The seeds with one brace less or one more, in every place.

use super::seeds::folder;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Collector, Diagnostic};
use crate::config::source::{NoFiles, Sources};
use crate::config::{Diagnostics, Options, expand, lexer, parser};

/// A top-level statement with everything in it, as one text; and the line it starts on.
type Top = (String, usize);

/// The top-level statements of `text`, and what was said about braces.
fn read(text: &str) -> (Vec<Top>, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let file = sources.add("f", text.as_bytes());
    let mut collector = Collector::default();
    let options = Options {
        files: &NoFiles,
        ..Options::default()
    };
    let tokens = expand::expand(file, &mut sources, &options, &mut collector);
    let tree = parser::parse(tokens, &sources, &mut collector);
    let tops = tree
        .iter()
        .map(|top| (show(top), sources.line(top.keyword.span)))
        .collect();
    let about_braces = |item: &&Diagnostic| {
        matches!(
            item.code(),
            Code::UnclosedBlock | Code::ExtraBrace | Code::StrayBlock
        )
    };
    let said = collector.items().iter().filter(about_braces).cloned();
    (tops, said.collect())
}

fn show(statement: &Statement) -> String {
    let words: Vec<&str> = std::iter::once(&statement.keyword)
        .chain(&statement.values)
        .map(|word| &*word.text)
        .collect();
    let inner: Vec<String> = statement.body().iter().map(show).collect();
    let block = statement.block.as_ref().map(|_| inner.join("; "));
    format!("{} {block:?}", words.join(" "))
}

fn seeds() -> Vec<(String, String)> {
    let mut seeds: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// How variants came out.
#[derive(Default)]
struct Score {
    variants: usize,
    /// Nothing at all was lost or moved.
    whole: usize,
    /// The top-level blocks other than the one with the mistake are as they were.
    others_kept: usize,
    notes: Vec<String>,
}

impl Score {
    /// `broken` is `text` with a brace changed on `line`.
    fn judge(&mut self, name: &str, text: &str, broken: &str, line: usize) {
        let (before, said_before) = read(text);
        let (after, said) = read(broken);
        // Seed 000 has its own mistakes; one brace more can even be the cure.
        if said_before.is_empty() {
            assert!(!said.is_empty(), "{name}:{line}: nothing said\n{broken}");
        }
        let index = before.iter().rposition(|(_, at)| *at <= line).unwrap_or(0);
        let others: Vec<&String> = before
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index)
            .map(|(_, (shown, _))| shown)
            .collect();
        let found = |other: &&&String| after.iter().any(|(shown, _)| shown == **other);
        let kept = others.iter().filter(found).count() == others.len();
        let whole = before.len() == after.len()
            && before.iter().zip(&after).all(|(one, two)| one.0 == two.0);
        self.variants += 1;
        self.others_kept += usize::from(kept);
        self.whole += usize::from(whole);
        if !whole {
            self.notes.push(format!("{name}:{line} kept={kept}"));
        }
    }

    fn is_at_least(&self, others_percent: usize, whole_percent: usize) {
        let percent = |part: usize| part * 100 / self.variants;
        assert!(
            percent(self.others_kept) >= others_percent && percent(self.whole) >= whole_percent,
            "{} variants, others kept in {} %, all of it in {} %; not so:\n{}",
            self.variants,
            percent(self.others_kept),
            percent(self.whole),
            self.notes.join("\n")
        );
    }
}

#[test]
fn a_seed_without_one_of_its_closing_braces_keeps_its_blocks() {
    let mut score = Score::default();
    for (name, text) in seeds() {
        for (at, _) in text.match_indices('}') {
            let broken = format!("{}{}", &text[..at], &text[at + 1..]);
            let line = text[..at].matches('\n').count() + 1;
            score.judge(&name, &text, &broken, line);
        }
    }
    score.is_at_least(100, 95);
}

#[test]
fn a_seed_with_one_closing_brace_too_many_keeps_its_blocks() {
    let mut as_the_line_before = Score::default();
    let mut at_the_margin = Score::default();
    for (name, text) in seeds() {
        let lines: Vec<&str> = text.lines().collect();
        for at in 1..=lines.len() {
            let above = lines[at - 1];
            let indent = &above[..above.len() - above.trim_start().len()];
            for (score, indent) in [(&mut as_the_line_before, indent), (&mut at_the_margin, "")] {
                let brace = format!("{indent}}}");
                let mut broken = lines.clone();
                broken.insert(at, &brace);
                score.judge(&name, &text, &(broken.join("\n") + "\n"), at);
            }
        }
    }
    as_the_line_before.is_at_least(95, 90);
    at_the_margin.is_at_least(95, 90);
}

#[test]
fn every_message_names_the_line_of_the_block() {
    let (_, text) = seeds().swap_remove(1);
    for (at, _) in text.match_indices('}') {
        let broken = format!("{}{}", &text[..at], &text[at + 1..]);
        for item in read(&broken).1 {
            assert_eq!(item.code(), Code::UnclosedBlock, "{}", item.message());
            assert!(item.message().contains("(line "), "{}", item.message());
        }
    }
}

/// A file, and all that is said about it.
const GOLDENS: [(&str, &str); 3] = [
    (
        "vrrp_instance A {
    interface eth0
    virtual_router_id 51
    track_script {
        chk
}
",
        "warning[unclosed-block]: 'track_script' (line 4) is not closed before the '}' on line 6, which ends 'vrrp_instance A' (line 1)
 --> f:4:5
  |
4 |     track_script {
  |     ^^^^^^^^^^^^ opened here; a '}' is missing
5 |         chk
6 | }
  | - taken to be closed before this
  |
  = note: keepalived takes what follows for a part of it
help: add the missing '}'
  |
6 +     }
  |

",
    ),
    (
        "vrrp_instance A {
    interface eth0
    virtual_ipaddress {
        10.0.0.1
    virtual_router_id 51
}
",
        "warning[unclosed-block]: 'virtual_ipaddress' (line 3) is not closed before 'virtual_router_id', which cannot stand in it
 --> f:3:5
  |
3 |     virtual_ipaddress {
  |     ^^^^^^^^^^^^^^^^^ opened here; a '}' is missing
4 |         10.0.0.1
5 |     virtual_router_id 51
  |     ----------------- taken to be closed before this
  |
  = note: keepalived takes what follows for a part of it
help: add the missing '}'
  |
5 +     }
  |

",
    ),
    (
        "vrrp_instance A {
    interface eth0
    virtual_router_id 51
    }
    virtual_ipaddress {
        10.0.0.1
    }
}
",
        "warning[extra-brace]: this '}' is one too many: 'vrrp_instance A' (line 1) goes on behind it
 --> f:4:5
  |
1 | vrrp_instance A {
  | --------------- keepalived ends this block at it
...
4 |     }
  |     ^ ignored
  |
help: remove it
  |
4 -     }
  |

",
    ),
];

#[test]
fn messages_show_where_the_brace_belongs() {
    for (text, expected) in GOLDENS {
        let mut sources = Sources::default();
        let file = sources.add("f", text.as_bytes());
        let mut collector = Collector::default();
        let tokens = lexer::lex_file(file, sources.text(file), &mut collector);
        parser::parse(tokens, &sources, &mut collector);
        let shown = Diagnostics::new(sources, collector).render(false);
        assert_eq!(shown, expected, "{shown}");
    }
}
