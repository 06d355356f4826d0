//! What the lines below mean was seen by giving them to keepalived 2.2.7.

use proptest::prelude::*;

use super::*;
use crate::config::Severity;
use crate::config::lexer::lex_file;
use crate::config::tests::memory::Memory;

/// Limits that are quickly reached.
const LOW: Limits = Limits {
    files: 10_000,
    included: 1 << 20,
    depth: 32,
    nested: 256,
    made: 1 << 20,
};

/// Tokens as text, quoted words in quotes, `;` for one or more line ends; and what was said.
fn expanded(files: &[(&str, &str)], id: &str) -> (String, Vec<(Code, String)>) {
    let (main, text) = files[0];
    let files = Memory::new(files.iter().map(|(name, text)| (*name, text.as_bytes())));
    let options = Options {
        files: &files,
        config_id: id,
        ..Options::default()
    };
    let mut sources = Sources::default();
    let file = sources.add(main, text.as_bytes());
    let mut diagnostics = Collector::default();
    let tokens = expand_within(LOW, file, &mut sources, &options, &mut diagnostics);
    let said = diagnostics
        .items()
        .iter()
        .map(|item| (item.code(), sources.place(item.span().unwrap())))
        .collect();
    (shape(&tokens), said)
}

fn shape(tokens: &[Token]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for token in tokens {
        let part = match token {
            Token::Word(word) if word.quoted => format!("{:?}", word.text),
            Token::Word(word) => word.text.clone(),
            Token::Open(_) => "{".to_owned(),
            Token::Close(_) => "}".to_owned(),
            Token::LineEnd => ";".to_owned(),
        };
        if part != ";" || parts.last().is_some_and(|last| last != ";") {
            parts.push(part);
        }
    }
    parts.join(" ")
}

/// The tokens of a file `f` read with the configuration id `x`.
fn tokens(text: &str) -> String {
    expanded(&[("f", text)], "x").0
}

/// Checks the tokens of each text.
fn become_tokens(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(
            tokens(text).trim_end_matches([' ', ';']),
            *expected,
            "{text}"
        );
    }
}

/// Checks the codes with the lines of each text.
fn are_said(cases: &[(&str, &[(Code, usize)])]) {
    for (text, expected) in cases {
        let expected: Vec<(Code, String)> = expected
            .iter()
            .map(|(code, line)| (*code, format!("f:{line}")))
            .collect();
        assert_eq!(expanded(&[("f", text)], "x").1, expected, "{text}");
    }
}

#[test]
fn conditions_keep_or_drop_the_rest_of_the_line() {
    become_tokens(&[
        ("@x a\n@y b\nc", "a ; c"),
        ("@^x a\n@^y b\n  @x\tc", "b ; c"),
        ("@ a\n@^ b\n@x{ c\n@xx d\n@X e\n@\"x\" f\n@x#g", "b"),
        ("@x\n@y\na @y b", "a @y b"),
        ("@x @x a\n@x @y b", "@x a ; @y b"),
        ("@x a {\n@y b\n@x }", "a { ; }"),
        ("a { @y b }\nc", "a { ; c"),
        ("a { @x b } @y c }\nd", "a { b } ; d"),
        ("} @x a { @x b", "} a { b"),
        ("@x script \"a\\\" # b\" c", "script \"a\\\" # b\" c"),
        ("$A=1\n@x @x b $A\n@x @y c $A\n@^y @x d $A", "b 1 ; d 1"),
        ("$C=@x\n$D=@y\n$C a\n$D b\n$C $C c", "a ; @x c"),
        ("\u{4e2d}{ @\u{4e2d} a\n}", "\u{4e2d} { ; }"),
    ]);
}

#[test]
fn definitions_of_one_line_are_put_in() {
    become_tokens(&[
        ("$A=1\nx$A y${A}z $A", "x1 y1z 1"),
        ("$A= b c \t \n$A d", "b c d"),
        ("$A=b # c\n$A d", "b d"),
        ("$A=\"b  c\" d\n$A", "\"b  c\" d"),
        ("$A=1\n\"x $A ${A}\" y", "\"x 1 1\" y"),
        ("$A=b { c\n$A\n}", "b { c ; }"),
        ("$A=1\nb { $A=2 }\n$A", "b { ; 2 }"),
        ("x y $A=3\n$A", "x y $A=3 ; $A"),
        ("$A=${B}\n$B=1\n$A\n$B=2\n$A", "1 ; 2"),
        ("@y $A=1\n@x $A=2\n$A", "2"),
        ("a ${_HASH} b\nc \"d${_HASH}\"\n$_BANG e", "a ; c \"d#\""),
        ("i${_INSTANCE} $_PWD", "ix /etc/lb/"),
        ("$E=\na ${E} b\n${E}z\n$E\n$E w", "a b ; z ; w"),
        ("a\\\nb \\\nc \\ d \\\t\n", "a\\ ; b\\ ; c \\ d\\"),
    ]);
}

#[test]
fn definitions_of_several_lines_are_put_in_at_the_end_of_a_line() {
    become_tokens(&[
        (
            "$M= \\\n a1 \\\n a2 { \\\n } \\\n a3\n$M\nb",
            "a1 ; a2 { ; } ; a3 ; b",
        ),
        (
            "$M=\\\n a1\\\n a2 \\\t \n a3\\\n\n$M\nb",
            "a1 ; a2 ; a3 ; b",
        ),
        ("$M=m0 \\\n a1\n$M\nb", "m0 ; a1 ; b"),
        ("$M= \\\n a1 # c \\\n # d \\\n a2\n$M\nb", "a1 ; a2 ; b"),
        ("$M= \\\n a1 \\\n\n a2 \\\n a3\n$M", "a2\\ ; a3 ; a1"),
        ("$M= \\\n a1 \\\n @y a2 \\\n @x a3\n$M", "a1 ; a3"),
        (
            "$M= \\\n a1 \\\n a2\nx $M\ny$M\n$M w",
            "x a1 ; a2 ; ya1 ; a2 ; $M w",
        ),
        (
            "$N= \\\n n1$I \\\n n2\n$M= \\\n $I=1 \\\n $N \\\n $I=2 \\\n $N\n$M",
            "n11 ; n2 ; n12 ; n2",
        ),
        ("@y $M= \\\n a1 \\\n a2\n$M\nb", "a1\\ ; a2 ; $M ; b"),
        ("@x $M= \\\n a1 \\\n a2\n$M\nb", "a1 ; a2 ; b"),
        ("$M= \\\n a1 \\", ""),
        ("$M= \\\n a1 \\\n a2 \\", ""),
        ("$M= \\\r\n a1 \\\r\n a2\r\n$M\r\nb", "a1 ; a2 ; b"),
    ]);
}

#[test]
fn lines_repeat() {
    become_tokens(&[
        ("~SEQ(A,1,2) x$A\ny", "x1 ; x2 ; y"),
        ("~SEQ(A,1,2) ~SEQ(B,1,2) ${A}.$B", "1.1 ; 1.2 ; 2.1 ; 2.2"),
        ("~SEQ(A,1,2)x$A\n$A", "x1 ; x2 ; 2"),
        (
            "$A=9\n~SEQ(A,1,2) x$A\n~SEQ(A,5,6) x$A",
            "x1 ; x2 ; x5 ; x6",
        ),
        (
            "$N=2\n~SEQ(A,1,$N) x$A\n~SEQ(B,${N}) y$B",
            "x1 ; x2 ; y1 ; y2",
        ),
        ("~SEQ(D,1,2) ~SEQ(E,$D,2) ${D}.$E", "1.1 ; 1.2 ; 2.2"),
        ("$C=9\n$S=~SEQ(C,1,2)\n$S z$C", "z1 ; z2"),
        (
            "$C=9\n$M= \\\n ~SEQ(C,3,4) m$C \\\n n$C\n$M",
            "m3 ; m4 ; n4",
        ),
        ("q { ~SEQ(A,1,2) x$A }", "q { ; x1 } ; x2 }"),
        ("~SEQ(A,1,2) @x z$A\n~SEQ(A,1,2) @y z$A", "z1 ; z2"),
        ("@x ~SEQ(A,1,2) z$A\n@y ~SEQ(A,1,2) z$A", "z1 ; z2"),
        ("~SEQ(A,1,2) $G=$A\n$G", "2"),
        ("~SEQ(A,1,2)\nx ~SEQ(A,1,2) y", "x ~SEQ(A,1,2) y"),
        ("~LST({A,B},{1,2},{3,4}) ${A}.$B {", "1.2 { ; 3.4 {"),
        (
            "q { ~LST({A,B},{1,2},{3,4}) ${A}.$B }",
            "q { ; 1.2 } ; 3.4 }",
        ),
        ("$D=5\n$L=1,2\n~LST(E,$D,6,$L) a$E", "a5 ; a6 ; a1,2"),
        ("~LST({A,B},{1,2},{3,4}) $X=${A}${B}\n$X", "34"),
        (
            "$V= \\\n r $A { \\\n w \\\n }\ns {\n ~SEQ(A,1,2) $V\n}",
            "s { ; r 1 { ; w ; } ; r 2 { ; w ; } ; }",
        ),
    ]);
    are_said(&[
        ("a\n~SEQ(A,1,0,2) x$A", &[(Code::BadRepetition, 2)]),
        ("~SEQ A x", &[(Code::BadRepetition, 1)]),
        ("~LST(A,a b) x", &[(Code::BadRepetition, 1)]),
    ]);
}

#[test]
fn files_are_included_where_they_are_named() {
    let files = [
        ("d/a.conf", "a1\na2 {"),
        ("d/b.conf", "}\nb"),
        ("d/.hidden.conf", "hidden"),
        ("d/e/e.conf", "e ${_PWD}\ninclude g.conf\nlast"),
        ("d/e/g.conf", "$G=7\ng"),
    ];
    let cases = [
        ("x\ninclude d/a.conf\ny }", "x ; a1 ; a2 { ; y }"),
        ("include d/*.conf\nz", "a1 ; a2 { ; } ; b ; z"),
        ("include d/{b,a}.conf # c", "} ; b ; a1 ; a2 {"),
        ("  include \t d/?.conf  \r\nz", "a1 ; a2 { ; } ; b ; z"),
        (
            "include d/e/e.conf\n$G ${_PWD}",
            "e /etc/lb/d/e ; g ; last ; 7 /etc/lb/",
        ),
        ("q { include d/b.conf\n", "q { ; } ; b"),
        ("q } includer d/b.conf\n", "q } ; } ; b"),
        (
            "$F=d/b.conf\n$I=includea $F\ninclude ${F}\n$I",
            "} ; b ; } ; b",
        ),
        ("@x include d/b.conf\n@y include d/b.conf", "} ; b"),
        ("~SEQ(A,1,2) include d/b.conf", "} ; b ; } ; b"),
        (
            "~LST(A,a,b) include d/$A.conf\n~LST(A,a,b) include d/${A}.conf",
            "a1 ; a2 { ; } ; b",
        ),
        ("$M= \\\n include d/b.conf \\\n z\n$M", "} ; b ; z"),
        (
            "a include d/b.conf\ninclude_x d/b.conf\ninclude",
            "a include d/b.conf ; include_x d/b.conf ; include",
        ),
    ];
    for (text, expected) in cases {
        let all = [&[("lb.conf", text)], files.as_slice()].concat();
        let (tokens, _) = expanded(&all, "x");
        assert_eq!(tokens.trim_end_matches([' ', ';']), expected, "{text}");
    }
}

#[test]
fn files_that_cannot_be_included_are_warnings_unless_they_are_needed() {
    let warning = Some(Severity::Warning);
    let error = Some(Severity::Error);
    // What is included; how bad it is for include, includer, includem, includew, includeb, includea.
    let cases = [
        ("missing", [warning, warning, error, error, warning, error]),
        ("missing*", [None, None, None, error, None, error]),
        (
            "{missing,d/a}",
            [warning, warning, warning, warning, error, error],
        ),
        (
            "{missing,x}",
            [warning, warning, warning, warning, error, error],
        ),
        ("{missing*,d/a}", [None; 6]),
        ("{missing*,x*}", [None, None, None, error, None, error]),
        ("d", [warning, error, error, error, error, error]),
        ("\"d/a\"", [warning, warning, error, error, warning, error]),
        ("d/a }", [warning, warning, error, error, warning, error]),
        ("d/a", [None; 6]),
        ("d/*", [None; 6]),
    ];
    for (name, expected) in cases {
        for (kind, expected) in ["", "r", "m", "w", "b", "a"].into_iter().zip(expected) {
            let text = format!("include{kind} {name}\n");
            let files = Memory::new([("d/a", b"a".as_slice())]);
            let options = Options {
                files: &files,
                ..Options::default()
            };
            let found = said(&text, &options);
            assert_eq!(found.first().copied(), expected, "{text}");
            let options = Options {
                all_includes: true,
                ..options
            };
            let strict = said(&text, &options);
            assert!(
                strict.iter().all(|severity| *severity == Severity::Error),
                "{text}"
            );
        }
    }
}

fn said(text: &str, options: &Options<'_>) -> Vec<Severity> {
    let mut sources = Sources::default();
    let file = sources.add("f", text.as_bytes());
    let mut diagnostics = Collector::default();
    expand(file, &mut sources, options, &mut diagnostics);
    diagnostics
        .items()
        .iter()
        .map(Diagnostic::severity)
        .collect()
}

#[test]
fn includes_end() {
    let cycle = [
        ("a", "include b"),
        ("b", "\ninclude a\nb"),
        ("c", "include c\nc"),
    ];
    let (tokens, said) = expanded(&cycle, "");
    assert_eq!(
        (tokens.as_str(), said),
        ("b ;", vec![(Code::IncludeCycle, "b:2".to_owned())])
    );
    let (tokens, said) = expanded(&cycle[2..], "");
    assert_eq!(
        (tokens.as_str(), said),
        ("c ;", vec![(Code::IncludeCycle, "c:1".to_owned())])
    );
    // The same file twice is no cycle.
    let twice = [("a", "include b\ninclude b"), ("b", "b\n")];
    assert_eq!(expanded(&twice, ""), ("b ; b ;".to_owned(), vec![]));
    let names: Vec<String> = (0..50).map(|number| format!("f{number}")).collect();
    let texts: Vec<String> = (1..51).map(|number| format!("include f{number}")).collect();
    let deep: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (_, said) = expanded(&deep, "");
    assert_eq!(said, [(Code::ExpansionTooLarge, "f32:1".to_owned())]);
    // Every file includes all of the next level twice.
    let wide: Vec<(String, String)> = (0..30)
        .map(|level| {
            (
                format!("f{level}"),
                format!("include f{0}\ninclude f{0}", level + 1),
            )
        })
        .chain([("f30".to_owned(), "x".repeat(1 << 16))])
        .collect();
    let wide: Vec<(&str, &str)> = wide
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let (tokens, said) = expanded(&wide, "");
    assert_eq!(tokens, "");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Code::ExpansionTooLarge);
}

#[test]
fn whatever_grows_ends_in_one_error() {
    let levels = |line: &dyn Fn(usize, usize) -> String| {
        let lines: Vec<String> = (1..40).map(|level| line(level, level - 1)).collect();
        lines.concat()
    };
    let doubling = levels(&|level, below| format!("$A{level}=$A{below} $A{below}\n"));
    let lines = levels(&|level, below| format!("$M{level}= \\\n $M{below} \\\n $M{below}\n"));
    let nested = levels(&|level, _| format!("~SEQ(V{level},1,1000) "));
    let cases = [
        format!("$A0=x\n{doubling}$A39\nrest"),
        format!("$M0=x\n{lines}$M39\nrest"),
        format!("{nested}x"),
        format!("{nested}@y x"),
        "~SEQ(A,1,1000000000) x$A".to_owned(),
        "~SEQ(A,1,1000000000) $B=$A".to_owned(),
        "$S=$S\n$S".to_owned(),
        "$A=$B\n$B=$A x\n$A".to_owned(),
        "$S=${S}x${S}\n$S".to_owned(),
        "$M= \\\n a \\\n $M\n$M".to_owned(),
        "$A=${A}\n~SEQ(B,${A}) x".to_owned(),
        format!("{}x", "~LST(A,1) ".repeat(5_000)),
        "include {0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}"
            .to_owned(),
    ];
    for text in cases {
        let (tokens, said) = expanded(&[("f", &text)], "x");
        let codes: Vec<Code> = said.iter().map(|(code, _)| *code).collect();
        let start = text.get(..60).unwrap_or(&text);
        assert_eq!(codes, [Code::ExpansionTooLarge], "{start}");
        assert_eq!(tokens, "", "{start}");
    }
}

#[test]
fn names_that_stay_are_spoken_about_once() {
    use Code::{NotReplaced, UndefinedName};
    are_said(&[
        ("a $U", &[(UndefinedName, 1)]),
        ("a \"${U}\"", &[(UndefinedName, 1)]),
        ("~SEQ(A,1,9) b $U", &[(UndefinedName, 1)]),
        ("$A=1\nb$A.2", &[(NotReplaced, 2)]),
        ("$M= \\\n a \\\n b\n$M c", &[(NotReplaced, 4)]),
        ("a ${_ENV NOPE}", &[(UndefinedName, 1)]),
        // A dollar sign is no name, a `$` in the middle of a word is most likely meant.
        ("auth_pass a$b.c $ ${ $1 a$", &[]),
        // The shell's own, unless it looks like one of ours.
        ("script \"x $HOME ${USER}\"", &[]),
        ("$HOST=1\nscript \"x ${HOTS} $USER\"", &[(UndefinedName, 2)]),
        ("# $U\n@y $U\n$V=$U", &[]),
    ]);
}

#[test]
fn words_point_at_where_they_are_used_and_to_their_definition() {
    let text = "$A=b c\n x${A}y $A {";
    let mut sources = Sources::default();
    let file = sources.add("f", text.as_bytes());
    let options = Options::default();
    let tokens = expand(file, &mut sources, &options, &mut Collector::default());
    let shown: Vec<(&str, Option<&str>)> = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(word.span),
            Token::Open(span) | Token::Close(span) => Some(*span),
            Token::LineEnd => None,
        })
        .map(|span| {
            let defined = sources.definition(span).map(|at| &text[at.start..at.end]);
            (&text[span.start..span.end], defined)
        })
        .collect();
    let expected = [
        ("x${A}", Some("$A")),
        ("${A}y", Some("$A")),
        ("$A", Some("$A")),
        ("$A", Some("$A")),
        ("{", None),
    ];
    assert_eq!(shown, expected);
}

/// Lines made of what the directives are made of.
fn directives() -> impl Strategy<Value = String> {
    let parts = [
        "$A",
        "$B",
        "${A}",
        "${B}",
        "$A=",
        "$B=",
        " ",
        "\n",
        "\\\n",
        "{",
        "}",
        "@x ",
        "@y ",
        "@^x ",
        "~SEQ(A,1,3) ",
        "~SEQ(B,3,1)",
        "~LST(A,b,c) ",
        "~LST({A,B},{1,2}) ",
        "include ",
        "includea ",
        "f",
        "g",
        "*",
        "{f,g}",
        "\"",
        "#",
        "script ",
        "${_RANDOM 1 5}",
        "${_HASH}",
        "\u{4e2d}",
        "\\",
        "$",
        "(",
        ",",
        "\u{feff}",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..40)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_files_that_include_each_other_are_read(main in directives(), f in directives(), g in directives()) {
        let (tokens, said) = expanded(&[("lb.conf", &main), ("f", &f), ("g", &g)], "x");
        if said.iter().any(|(code, _)| *code == Code::ExpansionTooLarge) {
            prop_assert_eq!(tokens, "");
        }
    }

    #[test]
    fn any_bytes_are_read(main in prop::collection::vec(any::<u8>(), 0..300), f in prop::collection::vec(any::<u8>(), 0..100)) {
        let main = String::from_utf8_lossy(&main).into_owned() + "\ninclude f";
        expanded(&[("lb.conf", &main), ("f", &String::from_utf8_lossy(&f))], "");
    }

    #[test]
    fn without_directives_a_file_is_what_the_lexer_makes_of_it(text in "[a-c{}\"#! \n\t\r]{0,200}", slow in any::<bool>()) {
        // An address with a `@` takes the way of the lines that need care, and changes nothing.
        let text = if slow { text.replace('b', "b@c") } else { text };
        let mut unheard = Collector::default();
        let plain = lex_file(FileId::default(), &text, &mut unheard);
        prop_assert_eq!(shape(&plain), tokens(&text));
    }
}
