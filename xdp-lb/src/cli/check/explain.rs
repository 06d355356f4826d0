//! What the codes of messages mean.

use std::fmt::Write as _;

use crate::config::diagnostic::{Code, quote};
use crate::config::keywords::edit_distance;

/// The codes of files that cannot be read at all; they have no place in a file.
const UNREADABLE: [(&str, &str); 8] = [
    ("file-missing", "There is no such file."),
    ("file-denied", "This user may not read the file."),
    (
        "file-is-directory",
        "The path leads to a directory. Name one file in it.",
    ),
    (
        "file-binary",
        "The file holds a NUL byte, which no keepalived.conf does: it is a program or an archive.",
    ),
    (
        "file-too-long",
        "The file is longer than any configuration of a director can be.",
    ),
    (
        "file-long-line",
        "A line is longer than 64 KiB: the file is no configuration. keepalived itself reads far less.",
    ),
    (
        "file-not-plain",
        "The file is executable, or a device or a pipe. keepalived includes neither: make it a plain file.",
    ),
    (
        "file-unreadable",
        "The system could not read the file; the message says why.",
    ),
];

/// Every code and what it means, in the order of the alphabet.
fn codes() -> Vec<(&'static str, &'static str)> {
    let codes = Code::ALL
        .iter()
        .map(|code| (code.name(), code.explanation()));
    let mut codes: Vec<_> = codes.chain(UNREADABLE).collect();
    codes.sort_unstable();
    codes
}

/// What a code means; without one, the list of all. An error is a mistake of whoever asks.
pub(super) fn explain(code: Option<&str>) -> Result<Option<String>, String> {
    let codes = codes();
    let Some(wanted) = code else {
        let mut list = String::new();
        for (name, _) in &codes {
            // Writing to a string cannot fail.
            writeln!(list, "{name}").ok();
        }
        return Ok(Some(list));
    };
    // As people copy it out of a message.
    let name = wanted.rsplit_once('[').map_or(wanted, |(_, name)| name);
    let name = name.trim_end_matches([']', ':']);
    if let Some((name, text)) = codes.iter().find(|(known, _)| *known == name) {
        return Ok(Some(format!("{name}\n\n{text}\n")));
    }
    let near = codes
        .iter()
        .map(|(known, _)| (edit_distance(&name.to_lowercase(), known), *known))
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .min();
    let meant = near.map_or_else(
        || ";".to_owned(),
        |(_, known)| format!("; did you mean '{known}'?"),
    );
    let wanted = quote(wanted);
    Err(format!(
        "there is no code {wanted}{meant} 'xdp-lb check --explain' lists all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        let list = explain(None).unwrap().unwrap();
        assert!(list.lines().is_sorted());
        for name in list.lines() {
            let text = explain(Some(name)).unwrap().unwrap();
            let said = text.strip_prefix(&format!("{name}\n\n")).unwrap();
            assert!(said.len() > 15 && said.trim_end().ends_with('.'), "{text}");
        }
        assert!(list.contains("unknown-keyword\n") && list.contains("file-missing\n"));
    }

    #[test]
    fn a_code_can_be_pasted_from_a_message() {
        let plain = explain(Some("unknown-keyword"));
        assert!(plain.is_ok());
        assert_eq!(explain(Some("warning[unknown-keyword]:")), plain);
    }

    #[test]
    fn an_unknown_code_names_a_near_one() {
        assert_eq!(
            explain(Some("unknown-keywrd")),
            Err(
                "there is no code 'unknown-keywrd'; did you mean 'unknown-keyword'? 'xdp-lb check \
                 --explain' lists all"
                    .to_owned()
            )
        );
        assert_eq!(
            explain(Some("zzz")),
            Err("there is no code 'zzz'; 'xdp-lb check --explain' lists all".to_owned())
        );
    }
}
