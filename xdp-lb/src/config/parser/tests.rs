use super::*;
use crate::config::lexer::lex_file;
use proptest::prelude::*;

/// The tree on one line, e.g. `a b { c; } d;`, and the codes with their lines.
fn shape(text: &str) -> (String, Vec<(Code, usize)>) {
    let mut sources = Sources::default();
    let file = sources.add("f", text.as_bytes());
    let mut diagnostics = Collector::default();
    let tokens = lex_file(file, sources.text(file), &mut diagnostics);
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

/// Messages come in the order of the file here, whichever way they were found.
fn check(cases: &[Case<'_>]) {
    for (text, expected, codes) in cases {
        let (tree, mut found) = shape(text);
        found.sort_by_key(|(_, line)| *line);
        assert_eq!(
            (tree, found),
            ((*expected).to_owned(), codes.to_vec()),
            "{text}"
        );
    }
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
fn where_a_brace_is_missing_shows_in_keywords_and_indentation() {
    use Code::UnclosedBlock;
    let cases: [Case<'_>; 7] = [
        // The next '}' is indented as the end of the outer block.
        (
            "vrrp_instance A {\n  state MASTER\n  track_script {\n    chk\n}\nvrrp_instance B {\n}\n",
            "vrrp_instance A { state MASTER; track_script { chk; } } vrrp_instance B {  }",
            &[(UnclosedBlock, 3)],
        ),
        (
            "virtual_server V {\n\treal_server A {\n\t\tweight 1\n\treal_server B {\n\t}\n}\n",
            "virtual_server V { real_server A { weight 1; } real_server B {  } }",
            &[(UnclosedBlock, 2)],
        ),
        (
            "virtual_server V {\n real_server A {\n  TCP_CHECK {\n   retry 1\n real_server B {\n }\n}\n",
            "virtual_server V { real_server A { TCP_CHECK { retry 1; } } real_server B {  } }",
            &[(UnclosedBlock, 2), (UnclosedBlock, 3)],
        ),
        (
            "vrrp_instance A {\nvirtual_ipaddress {\n1.2.3.4\ntrack_script {\nchk\n}\n}",
            "vrrp_instance A { virtual_ipaddress { 1.2.3.4; } track_script { chk; } }",
            &[(UnclosedBlock, 2)],
        ),
        (
            "vrrp_instance A {\nvirtual_ipaddress {\n1.2.3.4\npriority 100\nstate MASTER\n}\n",
            "vrrp_instance A { virtual_ipaddress { 1.2.3.4; } priority 100; state MASTER; }",
            &[(UnclosedBlock, 2)],
        ),
        // Tabs against spaces tell nothing.
        (
            "foo {\n\tbar {\n        x\n\ty\n}\n",
            "foo { bar { x; y; } }",
            &[(UnclosedBlock, 2)],
        ),
        // No keyword is known: by indentation.
        (
            "foo {\n  bar {\n    x\n  baz {\n  }\n}\n",
            "foo { bar { x; } baz {  } }",
            &[(UnclosedBlock, 2)],
        ),
    ];
    check(&cases);
}

#[test]
fn a_brace_too_many_is_passed_over_and_what_it_cut_off_is_put_back() {
    use Code::ExtraBrace;
    let cases: [Case<'_>; 4] = [
        (
            "vrrp_instance A {\n  state MASTER\n  }\n  virtual_ipaddress {\n    1.2.3.4\n  }\n}\n",
            "vrrp_instance A { state MASTER; virtual_ipaddress { 1.2.3.4; } }",
            &[(ExtraBrace, 3)],
        ),
        // Without any indentation.
        (
            "virtual_server V {\nreal_server A {\n}\n}\nreal_server B {\n}\n}\nglobal_defs {\n}\n",
            "virtual_server V { real_server A {  } real_server B {  } } global_defs {  }",
            &[(ExtraBrace, 4)],
        ),
        (
            "vrrp_instance A {\n  virtual_ipaddress {\n  }\n    1.2.3.4\n  }\n  priority 1\n}\n",
            "vrrp_instance A { virtual_ipaddress { 1.2.3.4; } priority 1; }",
            &[(ExtraBrace, 3)],
        ),
        // The head of the second block was lost: two blocks are not made one.
        (
            "vrrp_instance A {\nstate BACKUP\npriority 1\n}\nstate MASTER\npriority 2\n}\n",
            "vrrp_instance A { state BACKUP; priority 1; } state MASTER; priority 2;",
            &[(ExtraBrace, 7)],
        ),
    ];
    check(&cases);
}

#[test]
fn what_balances_stays_as_its_author_laid_it_out() {
    let cases: [Case<'_>; 5] = [
        // Unknown blocks are kept whole, whatever they hold.
        (
            "foo {\nvrrp_instance A {\n}\nvrrp_instance B {\n}\n}\nglobal_defs {\n}",
            "foo { vrrp_instance A {  } vrrp_instance B {  } } global_defs {  }",
            &[],
        ),
        (
            "foo bar\n{\n baz\n {\n  track_file x {\n }\n}\n}\nvrrp_instance A {\n}",
            "foo bar { baz { track_file x {  } } } vrrp_instance A {  }",
            &[],
        ),
        // Indentation that tells otherwise.
        (
            "vrrp_instance A {\n    virtual_ipaddress {\n1.2.3.4\n}\n  state MASTER\n        }\n",
            "vrrp_instance A { virtual_ipaddress { 1.2.3.4; } state MASTER; }",
            &[],
        ),
        // Keywords that stand where they cannot, and no brace is to blame.
        (
            "priority 1\nreal_server A {\n}\nvrrp_instance A {\nlb_algo rr\nTCP_CHECK {\n}\n}\n",
            "priority 1; real_server A {  } vrrp_instance A { lb_algo rr; TCP_CHECK {  } }",
            &[],
        ),
        (
            "a { b { c",
            "a { b { c; } }",
            &[(Code::UnclosedBlock, 1), (Code::UnclosedBlock, 1)],
        ),
    ];
    check(&cases);
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

#[test]
fn a_large_file_that_is_no_configuration_is_read_in_linear_time() {
    let bad = [
        "}{",
        "a{",
        "{",
        "}",
        "a\n}\n",
        "vrrp_instance A {\n",
        "virtual_server V {\nreal_server A {\n",
        "global_defs {\n}\n}\n",
        "a {\nvrrp_instance {\n}\n",
        "a\n\n\n\n{",
    ];
    for piece in bad {
        let text = piece.repeat(50_000 / piece.len());
        let start = std::time::Instant::now();
        shape(&text);
        assert!(
            start.elapsed().as_secs() < 10,
            "{piece:?}: {:?}",
            start.elapsed()
        );
    }
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
