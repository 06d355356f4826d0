//! A configuration as a keepalived.conf again: the one that says outright what the model holds,
//! defaults included. Reading it gives the same model.

mod checker;
mod global;
mod ours;
mod service;
mod vrrp;

use std::fmt::Display;

use super::model::{Command, Config};

/// The whole of `config`.
pub fn print(config: &Config) -> String {
    let mut writer = Writer::default();
    global::print(&mut writer, &config.global);
    vrrp::print(&mut writer, config);
    service::print(&mut writer, config);
    ours::print(&mut writer, &config.xdp_lb);
    writer.text
}

/// Lines and blocks, indented.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    /// `keyword values { … }`; nothing at all if nothing stands in it.
    pub(super) fn block_if_any(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        self.open(head);
        let start = self.text.len();
        inside(self);
        if self.text.len() == start {
            self.text.truncate(before);
            self.depth -= 1;
        } else {
            self.close();
        }
    }

    /// `keyword values { … }`, also when nothing stands in it.
    pub(super) fn block(&mut self, head: &str, inside: impl FnOnce(&mut Self)) {
        self.open(head);
        inside(self);
        self.close();
    }

    /// A line as it is: `text` is made of keywords, numbers and [`word`]s.
    pub(super) fn line(&mut self, text: impl Display) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(&text.to_string());
        self.text.push('\n');
    }

    /// The line, if the setting is there.
    pub(super) fn optional<T: Display>(&mut self, keyword: &str, value: Option<T>) {
        if let Some(value) = value {
            self.line(format_args!("{keyword} {value}"));
        }
    }

    /// The keyword alone, if the switch is on.
    pub(super) fn flag(&mut self, keyword: &str, on: bool) {
        if on {
            self.line(keyword);
        }
    }

    /// A command.
    pub(super) fn command(&mut self, keyword: &str, command: Option<&Command>) {
        let Some(command) = command else {
            return;
        };
        let escaped = command.line.replace('\\', r"\\").replace('"', "\\\"");
        let mut line = format!("{keyword} \"{escaped}\"");
        if let Some(user) = &command.user {
            for name in std::iter::once(&user.name).chain(&user.group) {
                line.push(' ');
                line.push_str(&word(name));
            }
        }
        self.line(line);
    }

    fn open(&mut self, head: &str) {
        if self.depth == 0 && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(format_args!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }
}

/// A word of the user's, in quotes where it needs them.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"#!{}\"'$\\".contains(c);
    if !text.is_empty() && !text.starts_with(['@', '~']) && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    }
}

/// Seconds as keepalived reads them, fractions to the microsecond.
pub(in crate::config) fn seconds(time: std::time::Duration) -> String {
    let micros = time.subsec_micros();
    if micros == 0 {
        return time.as_secs().to_string();
    }
    let text = format!("{}.{micros:06}", time.as_secs());
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_printed_as_short_as_they_can_be() {
        let cases = [
            (0, "0"),
            (1_000_000, "1"),
            (250_000, "0.25"),
            (1, "0.000001"),
        ];
        for (micros, expected) in cases {
            assert_eq!(seconds(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn words_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("a-b", "a-b"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a#", "\"a#\""),
        ] {
            assert_eq!(word(text), expected);
        }
    }
}
