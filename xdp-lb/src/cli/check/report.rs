//! What `check` prints.

use serde_json::{Value, json};

use super::{Checked, Diagnostics, Severity, Unusable};
use crate::config::model::Config;

/// Where a part of the output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output: data and summaries.
    Out,
    /// Standard error: messages.
    Err,
}

/// What `check` has to say, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) parts: Vec<(Stream, String)>,
    /// Whether it exits with success.
    pub(super) usable: bool,
}

impl Report {
    /// Data alone.
    pub(super) fn of_text(text: String) -> Self {
        Self {
            parts: vec![(Stream::Out, text)],
            usable: true,
        }
    }
}

/// How many there are of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl Tally {
    fn of(diagnostics: &Diagnostics) -> Self {
        Self {
            errors: diagnostics.count(Severity::Error),
            warnings: diagnostics.count(Severity::Warning),
            notes: diagnostics.count(Severity::Note),
        }
    }

    fn of_file(file: &Checked) -> Self {
        let unread = Self {
            errors: 1,
            ..Self::default()
        };
        file.diagnostics().map_or(unread, Self::of)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            errors: self.errors + other.errors,
            warnings: self.warnings + other.warnings,
            notes: self.notes + other.notes,
        }
    }

    fn all(files: &[Checked], together: &[Diagnostics]) -> Self {
        let files = files.iter().map(Self::of_file);
        let all = files.chain(together.iter().map(Self::of));
        all.fold(Self::default(), Self::plus)
    }

    const fn usable(self, deny_warnings: bool) -> bool {
        self.errors == 0 && !(deny_warnings && self.warnings > 0)
    }

    /// `cannot be used: 2 warnings (warnings are denied)`.
    fn verdict(self, what: &str, deny_warnings: bool) -> String {
        let counts = [
            (self.errors, "error"),
            (self.warnings, "warning"),
            (self.notes, "note"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = counts.map(|(count, name)| some(count, name)).collect();
        let found = if parts.is_empty() {
            "no problems".to_owned()
        } else {
            parts.join(", ")
        };
        if self.usable(deny_warnings) {
            format!("can be used{what}: {found}")
        } else if self.errors == 0 {
            format!("cannot be used: {found} (warnings are denied)")
        } else {
            format!("cannot be used: {found}")
        }
    }
}

/// `2 files`.
fn some(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// For people: the messages of a file, then its summary; what concerns them together; one line on all.
pub(super) fn text(
    files: &[Checked],
    together: &[Diagnostics],
    deny_warnings: bool,
    color: bool,
) -> Report {
    let mut parts = Vec::new();
    for file in files {
        parts.push((Stream::Err, messages(file, color)));
        parts.extend(summary(file, deny_warnings).map(|line| (Stream::Out, line)));
    }
    let pairs = together.iter().map(|found| found.render(color));
    parts.extend(pairs.map(|text| (Stream::Err, text)));
    let tally = Tally::all(files, together);
    if files.len() > 1 {
        let verdict = tally.verdict("", deny_warnings);
        let line = format!("{}: {verdict}\n", some(files.len(), "file"));
        parts.push((Stream::Out, line));
    }
    Report {
        parts,
        usable: tally.usable(deny_warnings),
    }
}

/// The configuration as understood; all else goes to stderr.
pub(super) fn effective(
    file: &Checked,
    printed: Option<String>,
    deny_warnings: bool,
    color: bool,
) -> Report {
    let usable = Tally::of_file(file).usable(deny_warnings);
    let mut parts = vec![(Stream::Err, messages(file, color))];
    parts.extend(summary(file, deny_warnings).map(|line| (Stream::Err, line)));
    parts.extend(printed.filter(|_| usable).map(|text| (Stream::Out, text)));
    Report { parts, usable }
}

fn messages(file: &Checked, color: bool) -> String {
    match &file.result {
        Ok(loaded) => loaded.diagnostics.render(color),
        Err(Unusable::Invalid(diagnostics)) => diagnostics.render(color),
        Err(Unusable::Unread(error)) => format!("error: {error}\n"),
    }
}

/// The line on a file; the error of one that could not be read says it all.
fn summary(file: &Checked, deny_warnings: bool) -> Option<String> {
    let what = match &file.result {
        Ok(loaded) => format!(" ({})", contents(&loaded.config)),
        Err(Unusable::Invalid(_)) => String::new(),
        Err(Unusable::Unread(_)) => return None,
    };
    let verdict = Tally::of_file(file).verdict(&what, deny_warnings);
    Some(format!("{}: {verdict}\n", file.name))
}

/// `1 VRRP instance, 1 virtual server, 2 real servers`.
fn contents(config: &Config) -> String {
    let services = config.virtual_servers.iter();
    let real_servers = services.map(|service| service.real_servers.len()).sum();
    [
        some(config.vrrp_instances.len(), "VRRP instance"),
        some(config.virtual_servers.len(), "virtual server"),
        some(real_servers, "real server"),
    ]
    .join(", ")
}

/// For machines: one object. Its shape is documented in docs/operations.md.
pub(super) fn json(files: &[Checked], together: &[Diagnostics], deny_warnings: bool) -> Report {
    let mut diagnostics = Vec::new();
    for file in files {
        match (&file.result, file.diagnostics()) {
            (Err(Unusable::Unread(error)), _) => {
                diagnostics.push(unread(error.code(), &error.to_string(), &file.name));
            }
            (_, Some(found)) => extend(&mut diagnostics, found, &file.name),
            (_, None) => {}
        }
    }
    for found in together {
        extend(&mut diagnostics, found, "");
    }
    let summaries: Vec<Value> = files
        .iter()
        .map(|file| summary_json(Tally::of_file(file), Some(&file.name), deny_warnings))
        .collect();
    let tally = Tally::all(files, together);
    let mut object = summary_json(tally, None, deny_warnings);
    if let Value::Object(members) = &mut object {
        members.insert("files".to_owned(), summaries.into());
        members.insert("diagnostics".to_owned(), diagnostics.into());
    }
    Report {
        parts: vec![(Stream::Out, format!("{object:#}\n"))],
        usable: tally.usable(deny_warnings),
    }
}

fn summary_json(tally: Tally, name: Option<&str>, deny_warnings: bool) -> Value {
    let mut summary = json!({
        "usable": tally.usable(deny_warnings),
        "errors": tally.errors,
        "warnings": tally.warnings,
        "notes": tally.notes,
    });
    if let (Some(name), Value::Object(members)) = (name, &mut summary) {
        members.insert("file".to_owned(), name.into());
    }
    summary
}

/// Adds what was found. What is about a file as a whole names it, too.
fn extend(all: &mut Vec<Value>, found: &Diagnostics, name: &str) {
    let Value::Array(items) = found.to_json() else {
        return;
    };
    all.extend(items.into_iter().map(|mut item| {
        if let Value::Object(members) = &mut item
            && members.get("file").is_none_or(Value::is_null)
        {
            members.insert("file".to_owned(), name.into());
        }
        item
    }));
}

fn unread(code: &str, message: &str, name: &str) -> Value {
    json!({
        "severity": Severity::Error.name(),
        "code": code,
        "message": message,
        "file": name,
        "line": null, "column": null, "end_line": null, "end_column": null,
        "labels": [], "notes": [], "help": null, "suggestion": null,
    })
}
