use super::*;
use crate::config::lexer::lex;
use proptest::prelude::*;

/// The tree on one line, e.g. `a b { c; } d;`, and the codes with their lines.
fn shape(text: &str) -> (String, Vec<(Code, usize)>) {
    let mut sources = Sources::default();
    let file = sources.add("f", text.as_bytes());
    let mut diagnostics = Collector::default();
    let tokens = lex(file, sources.text(file), &mut diagnostics);
    let tree = parse(tokens, &sources, &mut diagnostics);
    let codes = diagnostics
        .items()
        .iter()
        .map(|item| {
            (
                item.code(),
                item.span().map_or(0, |span| sources.line(span)),
            )
        })
        .collect();
    (show(&tree), codes)
}

fn show(statements: &[Statement]) -> String {
    let shown: Vec<String> = statements
        .iter()
        .map(|statement| {
            let words: Vec<&str> = std::iter::once(&statement.keyword)
                .chain(&statement.values)
                .map(|word| word.text.as_str())
                .collect();
            match &statement.block {
                Some(block) => format!("{} {{ {} }}", words.join(" "), show(&block.statements)),
                None => format!("{};", words.join(" ")),
            }
        })
        .collect();
    shown.join(" ")
}

#[test]
fn lines_and_blocks_become_a_tree() {
    let cases = [
        ("", ""),
        ("\n\n# nothing\n", ""),
        ("a b c\nd\n", "a b c; d;"),
        ("a {\nb\n}\n", "a { b; }"),
        ("a {}", "a {  }"),
        ("a b{ c { d } }}", "a b { c { d; } }"),
        ("a\n{ b c\n}", "a { b c; }"),
        ("a\n\n# x\n\n{ b }", "a { b; }"),
        ("a { b { c } d }", "a { b { c; } d; }"),
        (
            "authentication { auth_type PASS auth_pass 1 }",
            "authentication { auth_type PASS auth_pass 1; }",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(shape(text).0, expected, "{text:?}");
    }
}

/// A text, its tree, and the codes with their lines.
type Case<'a> = (&'a str, &'a str, &'a [(Code, usize)]);

#[test]
fn braces_that_do_not_match_are_mended_and_named_by_line() {
    use Code::{ExtraBrace, StrayBlock, UnclosedBlock};
    let cases: [Case<'_>; 10] = [
        ("a\n}\nb", "a; b;", &[(ExtraBrace, 2)]),
        ("{\na\n}\nb", " { a; } b;", &[(StrayBlock, 1)]),
        ("\na {\nb", "a { b; }", &[(UnclosedBlock, 2)]),
        // Nothing shows where it should have ended: the end of the file.
        (
            "vrrp_instance A {\nvirtual_ipaddress {\n1.2.3.4\n}\n",
            "vrrp_instance A { virtual_ipaddress { 1.2.3.4; } }",
            &[(UnclosedBlock, 1)],
        ),
        // A block that only an outer level can hold.
        (
            "global_defs {\nvrrp_script s {\n}\nvrrp_instance A {\nstate MASTER\n",
            "global_defs {  } vrrp_script s {  } vrrp_instance A { state MASTER; }",
            &[(UnclosedBlock, 1), (UnclosedBlock, 4)],
        ),
        (
            "virtual_server V {\nreal_server A {\nTCP_CHECK {\n}\nreal_server B {\n}\n}\nvirtual_server W {\n}",
            "virtual_server V { real_server A { TCP_CHECK {  } } real_server B {  } } virtual_server W {  }",
            &[(UnclosedBlock, 2)],
        ),
        // An unknown block is mended as well.
        (
            "foo {\nbar\nvrrp_instance A {\n}",
            "foo { bar; } vrrp_instance A {  }",
            &[(UnclosedBlock, 1)],
        ),
        // Balanced, yet nothing after it belongs to the block: the '}' stands too late.
        (
            "global_defs {\nrouter_id a\nvrrp_instance A {\n}\nvirtual_server V {\n}\n}",
            "global_defs { router_id a; } vrrp_instance A {  } virtual_server V {  }",
            &[(UnclosedBlock, 1), (ExtraBrace, 7)],
        ),
        // Balanced, and more of the outer block follows: the inner one is where its author put it.
        (
            "vrrp_instance A {\nvrrp_script s {\n}\nstate MASTER\n}",
            "vrrp_instance A { vrrp_script s {  } state MASTER; }",
            &[],
        ),
        ("a }} b", "a; b;", &[(ExtraBrace, 1), (ExtraBrace, 1)]),
    ];
    for (text, expected, codes) in cases {
        assert_eq!(
            shape(text),
            (expected.to_owned(), codes.to_vec()),
            "{text:?}"
        );
    }
}

#[test]
fn nesting_has_a_bound() {
    let deep = "a { ".repeat(100_000);
    let (_, codes) = shape(&deep);
    assert_eq!(
        codes
            .iter()
            .filter(|(code, _)| *code == Code::TooDeep)
            .count(),
        1
    );
    let closed = format!("{}{} b", "a {\n".repeat(50), "}".repeat(50));
    let (tree, codes) = shape(&closed);
    assert!(tree.ends_with("} b;"), "{tree}");
    assert_eq!(codes, [(Code::TooDeep, 17)]);
}

proptest! {
    #[test]
    fn any_tokens_parse(text in "[a-c{}\n# ]{0,300}|(vrrp_instance|global_defs|real_server|virtual_server|[{}\n ]){0,60}") {
        let (tree, codes) = shape(&text);
        // No word is lost or invented.
        let comments_gone: String = text.lines().map(|line| line.split('#').next().unwrap_or("").to_owned() + "\n").collect();
        let words = |text: &str| text.split(|c: char| c.is_whitespace() || "{};".contains(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        if !codes.iter().any(|(code, _)| *code == Code::TooDeep) {
            prop_assert_eq!(words(&tree), words(&comments_gone));
        }
    }
}
