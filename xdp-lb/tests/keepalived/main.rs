//! The table of keywords against keepalived 2.2.7 itself, which `cargo xtask test` installs: for every
//! keyword a valid and an invalid sample, made from the table or taken from
//! tests/fixtures/config/corpus/samples.txt. keepalived only checks files here (`-t`); nothing runs.
//!
//! `XDP_LB_BLESS=1 cargo test -p xdp-lb --test keepalived` writes anew what this program says about
//! each sample: tests/fixtures/config/corpus/SCOPE.txt.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot begin has failed, and a skipped one says so"
)]

mod golden;
mod oracle;
mod samples;

use std::collections::BTreeSet;

use oracle::{Oracle, here};
use samples::{BOGUS, Sample, samples, wrapped};
use xdp_lb::config::keywords::{self, Bare, DEVIATIONS, Keyword, Kind, Scope, Status};

/// Whether our reading gets into blocks of this scope: it stops at a keyword that is refused.
fn is_read(scope: Scope) -> bool {
    if matches!(scope, Scope::Root) {
        return true;
    }
    Scope::ALL.iter().any(|outer| {
        let leads = |row: &&Keyword| row.block == Some(scope);
        let mut rows = outer.keywords().iter().filter(leads);
        let open = |row: &Keyword| {
            matches!(row.status, Status::Supported | Status::NotYet) && is_read(*outer)
        };
        rows.any(open)
    })
}

#[test]
fn both_call_the_same_words_unknown() {
    let Some(oracle) = Oracle::find() else { return };
    let mut wrong = Vec::new();
    for scope in Scope::ALL.into_iter().filter(|scope| !is_ours(*scope)) {
        for keyword in scope.keywords().iter().filter(|row| row.only.is_none()) {
            for sample in samples(scope, keyword) {
                let text = wrapped(scope, &sample.text);
                let theirs = oracle.check(&text).unknown;
                if theirs != sample.unknown(&text) {
                    wrong.push(format!("to keepalived {theirs:?} is unknown in\n{text}"));
                }
                let ours = here(&text);
                if is_read(scope) && keyword.block.is_none_or(|_| opens(keyword)) && ours != theirs
                {
                    wrong.push(format!(
                        "{ours:?} here, {theirs:?} to keepalived in\n{text}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether keepalived knows nothing of the block.
fn is_ours(scope: Scope) -> bool {
    matches!(scope, Scope::XdpLb | Scope::StateSync)
}

/// Whether what stands in the block of this keyword is read.
fn opens(keyword: &Keyword) -> bool {
    matches!(keyword.status, Status::Supported | Status::NotYet)
}

#[test]
fn both_call_a_word_that_nobody_knows_unknown() {
    let Some(oracle) = Oracle::find() else { return };
    for scope in Scope::ALL.into_iter().filter(|scope| !is_ours(*scope)) {
        let text = wrapped(scope, &format!("{BOGUS} 1\n"));
        let expected = Sample::unknown_in(&text);
        assert_eq!(oracle.check(&text).unknown, expected, "{text}");
        if is_read(scope) {
            assert_eq!(here(&text), expected, "{text}");
        }
    }
}

#[test]
fn keywords_of_other_programs_are_unknown_to_keepalived_and_known_here() {
    let Some(oracle) = Oracle::find() else { return };
    for scope in Scope::ALL {
        for keyword in scope.keywords().iter().filter(|row| row.only.is_some()) {
            for sample in samples(scope, keyword) {
                let text = wrapped(scope, &sample.text);
                let knows = |words: &BTreeSet<(usize, String)>| {
                    words.iter().all(|(_, word)| word != keyword.name)
                };
                assert!(!knows(&oracle.check(&text).unknown), "{text}");
                assert!(knows(&here(&text)), "{text}");
            }
        }
    }
}

#[test]
fn deviations_are_as_they_are_described() {
    let Some(oracle) = Oracle::find() else { return };
    for deviation in DEVIATIONS {
        let theirs = oracle.check(deviation.sample).unknown;
        let ours = here(deviation.sample);
        let words = |set: BTreeSet<&(usize, String)>| -> BTreeSet<String> {
            set.into_iter().map(|(_, word)| word.clone()).collect()
        };
        let listed = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let only_theirs: BTreeSet<String> = listed(deviation.keepalived);
        let only_ours: BTreeSet<String> = listed(deviation.here);
        assert_eq!(
            words(theirs.difference(&ours).collect()),
            only_theirs,
            "{}",
            deviation.what
        );
        assert_eq!(
            words(ours.difference(&theirs).collect()),
            only_ours,
            "{}",
            deviation.what
        );
    }
}

#[test]
fn a_missing_value_ends_keepalived_where_the_table_says_so() {
    let Some(oracle) = Oracle::find() else { return };
    let mut wrong = Vec::new();
    for scope in Scope::ALL {
        for keyword in scope.keywords().iter().filter(|row| row.only.is_none()) {
            let block = if keyword.block.is_some() { " {\n}" } else { "" };
            let text = wrapped(scope, &format!("{}{block}\n", keyword.name));
            let said = oracle.check(&text);
            // Some such files make it crash.
            let exits = said.status.is_none_or(|status| status == 2);
            let row = keyword.values.bare;
            if keyword.values.max > 0 && exits != (row == Bare::Exits) {
                wrong.push(format!("{scope:?} {}: {said:?}", keyword.name));
            }
            if row == Bare::PassedOver && said.messages.is_empty() {
                wrong.push(format!("{scope:?} {}: no message", keyword.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn numbers_have_keepalived_s_bounds() {
    let Some(oracle) = Oracle::find() else { return };
    let mut wrong = Vec::new();
    for scope in Scope::ALL {
        for keyword in scope.keywords().iter().filter(|row| row.only.is_none()) {
            let Kind::Number { min, max } = keyword.values.kind else {
                continue;
            };
            if max == i64::MAX {
                continue;
            }
            let usual = oracle.check(&wrapped(scope, "")).messages;
            let complains = |value: i64| {
                let text = wrapped(scope, &format!("{} {value}\n", keyword.name));
                let mut said = oracle.check(&text).messages;
                said.retain(|line| !usual.contains(line));
                let number = value.to_string();
                let about = [
                    "range",
                    "must be",
                    "between",
                    "invalid",
                    "not valid",
                    "than m",
                ];
                said.iter().any(|line| {
                    line.contains(&number) && about.iter().any(|word| line.contains(word))
                })
            };
            for (value, fits) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
                if complains(value) == fits {
                    wrong.push(format!("{scope:?} {} {value}", keyword.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_sample_belongs_to_a_keyword() {
    for (scope, name) in samples::written() {
        assert!(keywords::find(scope, &name).is_some(), "{scope:?} {name}");
    }
}

#[test]
fn a_value_of_another_kind_is_noticed_by_keepalived() {
    let Some(oracle) = Oracle::find() else { return };
    // It looks at these when they are used.
    let late = ["persistence_engine", "regex_min_offset", "regex_max_offset"];
    let mut wrong = Vec::new();
    for scope in Scope::ALL {
        for keyword in scope.keywords().iter().filter(|row| row.only.is_none()) {
            if is_looked_at(keyword.values.kind) && !late.contains(&keyword.name) {
                let said = samples(scope, keyword)
                    .map(|sample| oracle.check(&wrapped(scope, &sample.text)).messages);
                let [valid, invalid] = &said;
                if invalid.difference(valid).next().is_none() {
                    wrong.push(format!("{scope:?} {}: {valid:?}", keyword.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether keepalived can tell by a word alone that it is none of this kind.
fn is_looked_at(kind: Kind) -> bool {
    match kind {
        Kind::Boolean
        | Kind::Seconds
        | Kind::Number { .. }
        | Kind::Quantity(_)
        | Kind::Weight(_)
        | Kind::OneOf(_)
        | Kind::Address
        | Kind::Endpoint
        | Kind::Port
        | Kind::Hex
        | Kind::User => true,
        Kind::Nothing
        | Kind::Device
        | Kind::Path
        | Kind::Name
        | Kind::Command
        | Kind::Netmask
        | Kind::Words(_) => false,
    }
}
