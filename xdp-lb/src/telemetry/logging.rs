//! The log: to stderr, as text or JSON lines; for a daemon to a file or the system's log.
//!
//! Under systemd the journal stamps and colours lines itself, so text carries neither there, but the
//! priority that `journalctl -p` filters by.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::sys::syslog::Syslog;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Environment variable with a filter in the language of `tracing`, in place of the verbosity.
const FILTER_VARIABLE: &str = "XDP_LB_LOG";

/// Starts logging. `verbosity` is the number of `-v`: 0 what operators should know, 1 debugging of
/// xdp-lb, 2 everything of xdp-lb, 3 and more everything of its libraries too. A second call changes
/// nothing.
pub fn init(format: LogFormat, verbosity: u8) {
    init_to(Destination::Stderr, format, verbosity);
}

/// Where log lines go.
#[derive(Debug)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// A file.
    File(File),
    /// The system's log, as text whatever the format.
    Syslog(Syslog),
}

/// The same to somewhere else than stderr.
pub fn init_to(destination: Destination, format: LogFormat, verbosity: u8) {
    let wanted = std::env::var(FILTER_VARIABLE).ok();
    let (filter, complaint) = filter(verbosity, wanted.as_deref());
    let subscriber = match destination {
        Destination::Stderr => subscriber(format, filter, Sink::of_stderr(), stderr),
        Destination::File(file) => {
            let file = Arc::new(file);
            subscriber(format, filter, Sink::File, move || Arc::clone(&file))
        }
        Destination::Syslog(log) => {
            subscriber(LogFormat::Text, filter, Sink::Journal, move || log.clone())
        }
    };
    if subscriber.try_init().is_err() {
        tracing::debug!("logging was started before");
    } else if let Some(error) = complaint {
        tracing::warn!("{FILTER_VARIABLE} is ignored: {error}");
    }
}

/// What stands at the other end of stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// A person who takes colours.
    Terminal,
    /// systemd's journal.
    Journal,
    /// A file, a pipe, or a person who set `NO_COLOR`.
    File,
}

impl Sink {
    fn of_stderr() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_journal = nix::sys::stat::fstat(stderr())
            .is_ok_and(|file| is_journal(stream.as_deref(), file.st_dev, file.st_ino));
        if is_journal {
            Self::Journal
        } else if stderr().is_terminal() && !no_colour {
            Self::Terminal
        } else {
            Self::File
        }
    }
}

/// Whether `JOURNAL_STREAM` (device and inode in decimal, systemd.exec(5)) names this very file: a
/// child whose output was sent elsewhere inherits the variable all the same.
fn is_journal(stream: Option<&str>, device: u64, inode: u64) -> bool {
    stream
        .and_then(|stream| stream.split_once(':'))
        .is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// The filter in force, and what is wrong with the one that was `wanted`.
fn filter(verbosity: u8, wanted: Option<&str>) -> (EnvFilter, Option<ParseError>) {
    let directives = match verbosity {
        0 => "warn,xdp_lb=info",
        1 => "warn,xdp_lb=debug",
        2 => "info,xdp_lb=trace",
        3.. => "trace",
    };
    match wanted.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(directives), Some(error)),
        None => (EnvFilter::new(directives), None),
    }
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    sink: Sink,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(sink == Sink::Terminal);
    let text = tracing_subscriber::fmt::format().with_target(false);
    match (format, sink) {
        (LogFormat::Json, _) => Box::new(builder.json().flatten_event(true).finish()),
        (LogFormat::Text, Sink::Journal) => Box::new(
            builder
                .event_format(WithPriority(text.without_time()))
                .finish(),
        ),
        (LogFormat::Text, Sink::Terminal | Sink::File) => {
            Box::new(builder.event_format(text).finish())
        }
    }
}

/// Puts the syslog priority that the journal takes off again (sd-daemon(3)) before each line.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing::subscriber::with_default;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written when a warning, a message and a debug message are logged.
    fn logged(format: LogFormat, directives: &str, sink: Sink) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = EnvFilter::new(directives);
        with_default(
            subscriber(format, filter, sink, move || writer.clone()),
            || {
                tracing::warn!(interface = "eth0", "native XDP refused");
                tracing::info!("ready");
                tracing::debug!("detail");
            },
        );
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_journal_gets_priorities_and_neither_time_nor_colour() {
        assert_eq!(
            logged(LogFormat::Text, "info", Sink::Journal),
            "<4> WARN native XDP refused interface=\"eth0\"\n<6> INFO ready\n"
        );
    }

    #[test]
    fn a_file_gets_time_and_no_colour_a_terminal_both() {
        let file = logged(LogFormat::Text, "info", Sink::File);
        let year = file.split('-').next().unwrap();
        assert!(year.parse::<u32>().is_ok(), "{file}");
        assert!(!file.contains('\u{1b}') && !file.contains('<'), "{file}");
        assert!(logged(LogFormat::Text, "info", Sink::Terminal).contains('\u{1b}'));
    }

    #[test]
    fn json_is_one_object_per_line_wherever_it_goes() {
        for sink in [Sink::Journal, Sink::Terminal, Sink::File] {
            let text = logged(LogFormat::Json, "debug", sink);
            let lines: Vec<serde_json::Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[0]["level"], "WARN");
            assert_eq!(lines[0]["message"], "native XDP refused");
            assert_eq!(lines[0]["interface"], "eth0");
        }
    }

    #[test]
    fn the_journal_is_told_from_a_pipe_by_device_and_inode() {
        assert!(is_journal(Some("8:1234"), 8, 1234));
        for other in [
            None,
            Some(""),
            Some("8"),
            Some("8:1235"),
            Some("9:1234"),
            Some("a:b"),
        ] {
            assert!(!is_journal(other, 8, 1234), "{other:?}");
        }
    }

    #[test]
    fn verbosity_opens_our_own_modules_first() {
        let shown = [0, 1, 2, 3].map(|verbosity| filter(verbosity, None).0.to_string());
        assert!(shown[0].contains("xdp_lb=info") && shown[1].contains("xdp_lb=debug"));
        assert!(shown[2].contains("xdp_lb=trace") && shown[3] == "trace");
    }

    #[test]
    fn a_filter_of_the_environment_wins_unless_it_is_wrong() {
        let (used, complaint) = filter(0, Some("xdp_lb::control=trace"));
        assert_eq!(used.to_string(), "xdp_lb::control=trace");
        assert!(complaint.is_none());
        let (used, complaint) = filter(0, Some("xdp_lb=loud"));
        assert!(used.to_string().contains("xdp_lb=info"));
        assert!(complaint.is_some());
    }
}
