//! Commands: `script`, `notify_…`, `misc_path` and their like.

use super::context::Context;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::model::{Command, ScriptUser};

/// The command of a statement: its first value, split into words as keepalived does; the values
/// behind it name the user and group that run it. `purpose` says what it is for, in messages.
pub(super) fn read(
    context: &mut Context<'_>,
    statement: &Statement,
    purpose: &str,
) -> Option<Command> {
    read_as(context, statement, purpose, None)
}

/// The same, of a command whose user stands on another line, if one does.
pub(super) fn read_as(
    context: &mut Context<'_>,
    statement: &Statement,
    purpose: &str,
    user: Option<&ScriptUser>,
) -> Option<Command> {
    let word = statement.values.first()?;
    let mut words = split(&word.text).into_iter();
    let Some(program) = words.next() else {
        context.push(
            Diagnostic::warning(Code::MissingValue, format!("'{purpose}' names no command"))
                .at(word.span, "ignored, as keepalived does"),
        );
        return None;
    };
    let command = Command {
        line: word.text.clone(),
        program,
        arguments: words.collect(),
        user: user
            .cloned()
            .or_else(|| statement.values.get(1..).and_then(self::user)),
    };
    context.place_command(word.span, &command, purpose);
    Some(command)
}

/// `USER [GROUP]`.
pub(super) fn user(values: &[Word]) -> Option<ScriptUser> {
    let name = values.first()?;
    Some(ScriptUser {
        name: name.text.clone(),
        group: values.get(1).map(|group| group.text.clone()),
    })
}

/// The words of a command line: white space splits them outside of quotes, single quotes and double
/// quotes hold them together, a backslash takes the next character as it is. A quote that is not
/// closed reaches to the end.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') => word
                .get_or_insert_default()
                .push(chars.next().unwrap_or('\\')),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_splits_into_words() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("  ", &[]),
            ("killall -0 nginx", &["killall", "-0", "nginx"]),
            ("/a/b  'c d' e", &["/a/b", "c d", "e"]),
            ("/a/b \"c d\"e ''", &["/a/b", "c de", ""]),
            (r"/a\ b c", &["/a b", "c"]),
            ("a 'b c", &["a", "b c"]),
            ("a\\", &["a\\"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line), words, "{line:?}");
        }
    }
}
