//! docs/config.md, written from the table of keywords.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use xdp_lb::config::keywords::{DEVIATIONS, Keyword, Line, Scope, Status};

const INTRODUCTION: &str = include_str!("config.intro.md");

const DEVIATIONS_HEAD: &str = "\
## Differences from keepalived

xdp-lb and keepalived 2.2.7 call the same words unknown; a test runs both on a valid and an invalid
sample of every keyword. These are the exceptions. First keywords that keepalived 2.2.7 does not know;
they are known here because files of users have them:
";

/// What docs/config.md must hold.
pub(crate) fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    for scope in Scope::ALL {
        section(&mut out, scope);
    }
    writeln!(out, "\n{DEVIATIONS_HEAD}").unwrap();
    for (program, keywords) in only() {
        let keywords = keywords.join(", ");
        let place = match program {
            "xdp-lb" => "Only here".to_owned(),
            other => format!("Here and in {other}"),
        };
        writeln!(out, "- {place}: {keywords}.").unwrap();
    }
    for deviation in DEVIATIONS {
        let (first, rest) = deviation.what.split_at(1);
        let what = first.to_uppercase() + rest;
        let why = deviation.why;
        writeln!(out, "\n**{what}**: {why}.\n").unwrap();
        for line in deviation.sample.lines() {
            let indent = if line.is_empty() { "" } else { "    " };
            writeln!(out, "{indent}{line}").unwrap();
        }
    }
    out
}

fn section(out: &mut String, scope: Scope) {
    let title = match scope {
        Scope::Root => "The top level".to_owned(),
        Scope::HttpGet => "`HTTP_GET` and `SSL_GET`".to_owned(),
        inner => format!("`{}`", inner.name()),
    };
    writeln!(out, "\n## {title}\n").unwrap();
    let outer = holders(scope);
    if !outer.is_empty() {
        writeln!(out, "In {}.\n", outer.join(", ")).unwrap();
    }
    out.push_str("| keyword | works | meaning |\n|---|---|---|\n");
    for keyword in scope.keywords() {
        let synopsis = cell(&keyword.synopsis());
        let meaning = cell(keyword.doc);
        writeln!(out, "| `{synopsis}` | {} | {meaning} |", works(keyword)).unwrap();
    }
    for (lines, keywords) in lists(scope) {
        writeln!(out, "\nLines of {}:\n", keywords.join(", ")).unwrap();
        out.push_str("| line | meaning |\n|---|---|\n");
        for line in lines {
            writeln!(out, "| `{}` | {} |", cell(line.form), cell(line.doc)).unwrap();
        }
    }
}

/// The blocks that hold such a block.
fn holders(scope: Scope) -> Vec<String> {
    let holds = |outer: &Scope| {
        let mut rows = outer.keywords().iter();
        rows.any(|row| row.block == Some(scope))
    };
    let outer = Scope::ALL.into_iter().filter(holds);
    let outer = outer.filter(|outer| *outer != Scope::Root);
    outer.map(|outer| format!("`{}`", outer.name())).collect()
}

/// Whether it works, and what is to be known about that.
fn works(keyword: &Keyword) -> String {
    let works = match keyword.status {
        Status::Supported => "yes".to_owned(),
        Status::NotYet => "not yet".to_owned(),
        Status::NotYetNoticeable(how) => format!("not yet: {how}"),
        Status::NotNeeded(why) => format!("not needed: {why}"),
        Status::NotRun(why) | Status::Rejected(why) => format!("refused: {why}"),
    };
    let works = cell(&works);
    let note = keyword.only.map(|program| format!(" ({program})"));
    works + &note.unwrap_or_default()
}

/// The keywords of `scope` whose blocks have such lines.
fn lists(scope: Scope) -> Vec<(&'static [Line], Vec<String>)> {
    let mut lists: Vec<(&[Line], Vec<String>)> = Vec::new();
    for keyword in scope.keywords().iter().filter(|row| !row.lines.is_empty()) {
        let name = format!("`{}`", keyword.name);
        match lists.iter_mut().find(|(lines, _)| *lines == keyword.lines) {
            Some((_, names)) => names.push(name),
            None => lists.push((keyword.lines, vec![name])),
        }
    }
    lists
}

/// The keywords that only one program knows.
fn only() -> BTreeMap<&'static str, Vec<String>> {
    let mut only: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for scope in Scope::ALL {
        for keyword in scope.keywords() {
            let Some(program) = keyword.only else {
                continue;
            };
            // Its block has been named as a whole.
            if scope != Scope::XdpLb && scope != Scope::StateSync {
                let place = match scope {
                    Scope::Root => String::new(),
                    inner => format!(" in `{}`", inner.name()),
                };
                let keyword = format!("`{}`{place}", keyword.name);
                only.entry(program).or_default().push(keyword);
            }
        }
    }
    only
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
