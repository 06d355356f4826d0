//! Tests of the explanations: `explanations/CODE.md`, one for each code.
//!
//! Their first indented lines are a file that brings the diagnostic about.

use super::Code;
use crate::config::parse;

/// What a file of configuration cannot show, or what only the host or another file shows.
const WITHOUT_EXAMPLE: [&str; 21] = [
    "byte-order-mark",
    "not-utf-8",
    "include-missing",
    "include-unreadable",
    "include-cycle",
    "expansion-too-large",
    "command-missing",
    "command-not-runnable",
    "command-lookup",
    "command-unsafe",
    "shell-syntax",
    "no-such-user",
    "no-such-interface",
    "useless-interface",
    "only-generic",
    "unknown-mark",
    "rule-not-used",
    "bad-certificate",
    "script-security",
    "priority-tie",
    "peers-differ",
];

/// The first lines of configuration in a text.
fn example(text: &str) -> String {
    let lines = text.lines().skip_while(|line| !line.starts_with("    "));
    let example = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    example.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn explanations_explain() {
    for code in Code::ALL {
        let text = code.explanation();
        let sentences = text
            .split_whitespace()
            .filter(|word| word.ends_with('.'))
            .count();
        assert!(sentences >= 3, "{code} is not explained");
        assert!(text.contains("\n\n"), "{code}: what is to be done?");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{code}: {line}");
            assert_eq!(line, line.trim_end(), "{code}");
        }
    }
}

#[test]
fn examples_bring_about_what_they_are_examples_of() {
    for code in Code::ALL {
        if WITHOUT_EXAMPLE.contains(&code.name()) {
            continue;
        }
        let example = example(code.explanation());
        let found = parse("example", example.as_bytes())
            .map_or_else(|diagnostics| diagnostics, |loaded| loaded.diagnostics);
        assert!(
            found.iter().any(|item| item.code() == *code),
            "{code}:\n{example}{}",
            found.render(false)
        );
    }
}
