//! `xdp-lb check`: whether configurations can be used, and all there is to say about them.
//!
//! Messages go to stderr the way rustc writes them, a one-line summary per file to stdout; or all of it
//! as JSON to stdout. Exit status 0 if every configuration can be used, 1 if not.

mod explain;
mod report;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{Exit, output, reading::Reading};
use crate::config::diagnostic::Collector;
use crate::config::host::{self, Host};
use crate::config::pair::{self, Side};
use crate::config::print::print;
use crate::config::{Diagnostic, Diagnostics, LoadError, Loaded, ReadError, Severity};
use crate::sys::host::ThisHost;
use report::{Report, Stream};

/// Checks configurations without running them.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration; '-' is standard input
    ///
    /// May be repeated: the files of two directors are checked each by itself, and whether they agree
    /// where two directors of one cluster must.
    #[arg(
        short,
        long = "file",
        value_name = "FILE",
        default_value = "/etc/keepalived/keepalived.conf"
    )]
    pub files: Vec<PathBuf>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Fail on warnings too
    #[arg(long)]
    pub deny_warnings: bool,
    /// Do not look whether this host has the commands, users, interfaces and firewall rules: the file is
    /// for another one
    #[arg(long)]
    pub no_host: bool,
    /// What it depends on besides its files.
    #[command(flatten)]
    pub reading: Reading,
    /// Print the configuration as it is understood, with all defaults
    ///
    /// It goes to stdout and is a configuration itself, which means the same. Messages and the summary go
    /// to stderr. Of a configuration that cannot be used nothing is printed.
    #[arg(long, conflicts_with = "format")]
    pub print_effective: bool,
    /// Say what the CODE of a message means, as in warning[CODE]; without one, list all codes
    #[arg(long, value_name = "CODE", num_args = 0..=1, exclusive = true)]
    pub explain: Option<Option<String>>,
}

/// How `check` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Runs the verb.
pub fn run(args: &CheckArgs) -> ExitCode {
    let explained = args.explain.as_ref();
    let asked = explained.map(|code| explain::explain(code.as_deref()));
    match asked.unwrap_or_else(|| usage(args)) {
        Err(mistake) => {
            output::remark(&format!("error: {mistake}"));
            Exit::Usage.into()
        }
        Ok(Some(text)) => tell(&Report::of_text(text)),
        Ok(None) => {
            let host: Option<&dyn Host> = if args.no_host { None } else { Some(&ThisHost) };
            tell(&report(args, output::is_colored(), host))
        }
    }
}

/// What is wrong with the options together.
fn usage(args: &CheckArgs) -> Result<Option<String>, String> {
    let stdin = args.files.iter().filter(|file| is_stdin(file)).count();
    if args.print_effective && args.files.len() > 1 {
        Err("--print-effective is for one file: name it by one -f".to_owned())
    } else if stdin > 1 {
        Err("standard input can be read once: leave one '-f -'".to_owned())
    } else {
        Ok(None)
    }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn tell(report: &Report) -> ExitCode {
    // Each to its stream in the order of the report, so that a terminal shows them as they belong.
    let told = report.parts.iter().try_for_each(|(stream, text)| {
        let bytes = text.as_bytes();
        match stream {
            Stream::Out => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Stream::Err => io::stderr().write_all(bytes),
        }
    });
    // With a stream closed, nobody is left to tell.
    if report.usable && told.is_ok() {
        Exit::Success.into()
    } else {
        Exit::Failure.into()
    }
}

/// One file, checked.
struct Checked {
    name: String,
    result: Result<Loaded, Unusable>,
}

/// Why a file cannot be used.
enum Unusable {
    Unread(ReadError),
    Invalid(Diagnostics),
}

impl Checked {
    fn new(file: &Path, reading: &Reading, host: Option<&dyn Host>) -> Self {
        let reading = Reading {
            without_firewall: host.is_none(),
            ..reading.clone()
        };
        let (name, result) = if is_stdin(file) {
            ("<stdin>".to_owned(), reading.load_stdin())
        } else {
            (file.display().to_string(), reading.load(file))
        };
        let result = result.map_err(|error| match error {
            LoadError::Read(error) => Unusable::Unread(error),
            LoadError::Invalid { diagnostics, .. } => Unusable::Invalid(*diagnostics),
        });
        let result = result.map(|mut loaded| {
            if let Some(host) = host {
                let findings = host::check(&loaded.config, &loaded.places, host);
                let diagnostics = findings.into_iter().map(|finding| finding.diagnostic);
                loaded.diagnostics.add(diagnostics);
            }
            loaded
        });
        Self { name, result }
    }

    fn diagnostics(&self) -> Option<&Diagnostics> {
        match &self.result {
            Ok(loaded) => Some(&loaded.diagnostics),
            Err(Unusable::Invalid(diagnostics)) => Some(diagnostics),
            Err(Unusable::Unread(_)) => None,
        }
    }

    fn side(&self) -> Option<Side<'_>> {
        let loaded = self.result.as_ref().ok()?;
        Some(Side {
            config: &loaded.config,
            places: &loaded.places,
            sources: loaded.diagnostics.sources(),
        })
    }
}

fn report(args: &CheckArgs, color: bool, host: Option<&dyn Host>) -> Report {
    let files = args.files.iter();
    let files: Vec<Checked> = files
        .map(|file| Checked::new(file, &args.reading, host))
        .collect();
    let together = together(&files);
    if args.print_effective
        && let [file] = files.as_slice()
    {
        let printed = file
            .result
            .as_ref()
            .ok()
            .map(|loaded| print(&loaded.config));
        return report::effective(file, printed, args.deny_warnings, color);
    }
    match args.format {
        Format::Text => report::text(&files, &together, args.deny_warnings, color),
        Format::Json => report::json(&files, &together, args.deny_warnings),
    }
}

/// What there is to say about every two files together, by the file it stands in.
fn together(files: &[Checked]) -> Vec<Diagnostics> {
    let mut found: Vec<Vec<Diagnostic>> = files.iter().map(|_| Vec::new()).collect();
    for (index, second) in files.iter().enumerate() {
        for (before, first) in files.iter().enumerate().take(index) {
            let (Some(first), Some(second)) = (first.side(), second.side()) else {
                continue;
            };
            let pair = pair::compare(first, second);
            for (at, items) in [(before, pair.first), (index, pair.second)] {
                found
                    .get_mut(at)
                    .into_iter()
                    .for_each(|all| all.extend_from_slice(&items));
            }
        }
    }
    let found = files
        .iter()
        .zip(found)
        .filter(|(_, items)| !items.is_empty());
    found
        .filter_map(|(file, items)| {
            let sources = file.diagnostics()?.sources().clone();
            let mut diagnostics = Diagnostics::new(sources, Collector::default());
            diagnostics.add(items);
            Some(diagnostics)
        })
        .collect()
}

#[cfg(test)]
mod tests;
