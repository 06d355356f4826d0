//! The program in keepalived's place: called by that name, it takes keepalived's options.
//!
//! Scripts and units that were written for keepalived go on working: a symbolic link of that name is
//! enough. `-t` answers with keepalived's exit codes; anything else runs a director as `xdp-lb up` does,
//! by default as a daemon with a pid file.

mod options;
mod test;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::reading::Reading;
use super::up::{Director, Part, UpArgs};
use super::{Exit, one_line, output};
use crate::config::model::Config;
use crate::config::{Diagnostics, LoadError, host, print::print};
use crate::sys::host::ThisHost;
use crate::sys::pidfile::PidFile;
use crate::sys::privileges;
use crate::sys::syslog::Syslog;
use crate::telemetry::logging::{self, Destination, LogFormat};
use options::{Options, STDERR};
use test::Verdict;

/// The name that brings us here.
const NAME: &str = "keepalived";

/// keepalived's signals and what they ask for, as `--signum` names them.
const SIGNALS: [(&str, i32); 6] = [
    ("RELOAD", 1),
    ("STOP", 15),
    ("DATA", 10),
    ("STATS", 12),
    ("JSON", 36),
    ("STATS_CLEAR", 63),
];

/// Those that ask for files which are not written.
const DUMPS: [&str; 4] = ["DATA", "STATS", "JSON", "STATS_CLEAR"];

/// Whether the program was called by this name.
pub(super) fn is_meant(program: Option<&OsString>) -> bool {
    program.is_some_and(|program| Path::new(program).file_name() == Some(NAME.as_ref()))
}

/// Runs keepalived's command line.
pub(super) fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match Options::read(words) {
        Ok(options) => options,
        Err(message) => {
            // With the stream closed nobody is left to tell.
            message.print().ok();
            // keepalived has 1 for wrong usage.
            return if message.use_stderr() {
                Exit::Failure
            } else {
                Exit::Success
            }
            .into();
        }
    };
    let done = if options.version {
        output::remark(&format!(
            "xdp-lb {}, which reads keepalived.conf as Keepalived v2.2 does",
            env!("CARGO_PKG_VERSION")
        ));
        Ok(ExitCode::SUCCESS)
    } else if let Some(name) = &options.signum {
        signal_number(name).map(|()| ExitCode::SUCCESS)
    } else {
        act(&options)
    };
    done.unwrap_or_else(|error| {
        output::remark(&format!("error: {}", one_line(&error)));
        Exit::Failure.into()
    })
}

fn signal_number(name: &str) -> anyhow::Result<()> {
    let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) else {
        let known = SIGNALS.map(|(known, _)| known).join(", ");
        bail!("there is no signal for '{name}'; there are {known}");
    };
    output::data(&format!("{number}\n"))
}

fn act(options: &Options) -> anyhow::Result<ExitCode> {
    refuse(options)?;
    if !options.elsewhere.unexpected.is_empty() {
        let words = options.elsewhere.unexpected.join(" ");
        output::remark(&format!(
            "unexpected on the command line, and ignored: {words}"
        ));
    }
    if let Some(mask) = options.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    match &options.config_test {
        Some(log) => config_test(
            options,
            Some(log.as_path()).filter(|log| *log != Path::new(STDERR)),
        ),
        None => direct(options).map(|()| ExitCode::SUCCESS),
    }
}

/// What would be something else without it.
fn refuse(options: &Options) -> anyhow::Result<()> {
    if options.elsewhere.genhash {
        bail!("genhash is not part of this: the digest of a page is 'curl -s URL | md5sum'");
    }
    if let Some(name) = &options.elsewhere.namespace {
        bail!(
            "cannot enter network namespace '{name}': start it inside, by nsenter --net=/run/netns/{name}"
        );
    }
    Ok(())
}

/// Options that change nothing here, as typed, and why.
fn ignored(options: &Options) -> Vec<&'static str> {
    let elsewhere = &options.elsewhere;
    let pid_files = [
        &elsewhere.vrrp_pid,
        &elsewhere.checkers_pid,
        &elsewhere.bfd_pid,
    ];
    [
        (
            elsewhere.dont_release_vrrp || elsewhere.dont_release_ipvs,
            "-V and -I are ignored: SIGTERM takes VIPs and tables away; SIGQUIT ends the director and \
             leaves them",
        ),
        (
            pid_files.iter().any(|file| file.is_some()),
            "-r, -c and -b are ignored: there are no child processes; the file of -p is written",
        ),
        (
            elsewhere.snmp || elsewhere.snmp_agent_socket.is_some(),
            "-x and -A are ignored: there is no SNMP; Prometheus finds everything at /metrics",
        ),
        (
            elsewhere.address_monitoring,
            "-a is ignored: 'ip monitor address' shows changes of addresses",
        ),
        (
            elsewhere.core_dump || elsewhere.core_dump_pattern.is_some(),
            "-m and -M are ignored: the limits of the service manager and the kernel's core_pattern are \
             in force",
        ),
        (
            elsewhere.perf.is_some() || elsewhere.debug.is_some(),
            "--perf and --debug are ignored: XDP_LB_LOG says what is logged",
        ),
    ]
    .into_iter()
    .filter_map(|(is_given, why)| is_given.then_some(why))
    .collect()
}

fn reading(options: &Options) -> Reading {
    Reading {
        config_id: options.config_id.clone(),
        all_includes: options.all_config,
        without_firewall: false,
    }
}

/// `-t`: says what is wrong, to stderr or to the end of a file, and how bad it is.
fn config_test(options: &Options, log: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut loaded = reading(options).load(&options.file);
    let findings = loaded.as_ref().map_or_else(
        |_| Vec::new(),
        |loaded| host::check(&loaded.config, &loaded.places, &ThisHost),
    );
    let verdict = Verdict::of(&loaded, &findings);
    if let Ok(loaded) = &mut loaded {
        let found = findings.into_iter().map(|finding| finding.diagnostic);
        loaded.diagnostics.add(found);
    }
    let text = |color: bool| match &loaded {
        Ok(loaded) => loaded.diagnostics.render(color),
        Err(LoadError::Invalid { diagnostics, .. }) => Diagnostics::render(diagnostics, color),
        Err(LoadError::Read(error)) => format!("error: {error}\n"),
    };
    match log {
        Some(path) => log_file(path)?.write_all(text(false).as_bytes())?,
        // With stderr closed there is nobody left to tell.
        None => drop(io::stderr().write_all(text(output::is_colored()).as_bytes())),
    }
    Ok(verdict.code().into())
}

/// A log file, to be written at its end.
fn log_file(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.append(true).create(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot write to {}", path.display()))
}

/// Runs a director. What can be refused is refused before the parent process ends, so that whoever
/// started it hears of it.
fn direct(options: &Options) -> anyhow::Result<()> {
    let forks = !options.dont_fork;
    start_logging(options)?;
    let mut director = Director::new(up_args(options)?).of(part(options));
    let config = director.read()?;
    for line in ignored(options) {
        warn!("{line}");
    }
    privileges::require(NAME, privileges::DIRECTOR)?;
    let mut pid_file = PidFile::claim(&std::path::absolute(&options.pid)?)?;
    if forks {
        nix::unistd::daemon(false, false).context("cannot become a daemon")?;
    }
    pid_file.write()?;
    if options.dump_conf {
        dump(&config);
    }
    let ended = director.direct(&options.instance, config, answer_dumps);
    if let Err(error) = &ended
        && forks
    {
        // Nobody reads stderr any more.
        error!("{}", one_line(error));
    }
    ended
}

fn start_logging(options: &Options) -> anyhow::Result<()> {
    let destination = if let Some(path) = &options.log_file {
        Destination::File(log_file(path)?)
    } else if options.dont_fork || options.log_console || options.no_syslog {
        Destination::Stderr
    } else {
        Destination::Syslog(Syslog::open(NAME, options.log_facility))
    };
    logging::init_to(destination, LogFormat::Text, 0);
    Ok(())
}

/// As `xdp-lb up` would be called. Paths are whole ones: a daemon stands in `/`.
fn up_args(options: &Options) -> anyhow::Result<UpArgs> {
    let file: PathBuf = std::path::absolute(&options.file)?;
    Ok(UpArgs {
        file,
        reading: reading(options),
        interface: Vec::new(),
        xdp_mode: None,
        metrics: None,
        log_format: LogFormat::Text,
        verbose: 0,
    })
}

/// Both of `-P` and `-C` are all of it, as for keepalived.
const fn part(options: &Options) -> Part {
    match (options.vrrp, options.check) {
        (true, false) => Part::Vrrp,
        (false, true) => Part::Services,
        (true, true) | (false, false) => Part::All,
    }
}

fn dump(config: &Config) {
    for line in print(config).lines() {
        info!("{line}");
    }
}

/// Keeps the signals that ask for dumps from ending the process, which is what they do by default.
fn answer_dumps() {
    let wanted = SIGNALS.iter().filter(|(name, _)| DUMPS.contains(name));
    for (name, number) in wanted {
        match signal(SignalKind::from_raw(*number)) {
            Ok(mut stream) => {
                tokio::spawn(async move {
                    while stream.recv().await.is_some() {
                        warn!(
                            "signal {name}: no file is written; 'xdp-lb status --json' and 'xdp-lb list \
                             --json' tell as much"
                        );
                    }
                });
            }
            Err(error) => warn!("signal {name} would end this process: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        let words = std::iter::once(NAME).chain(line.split_whitespace());
        Options::read(words.map(OsString::from)).unwrap()
    }

    #[test]
    fn the_name_alone_decides() {
        for name in ["keepalived", "/usr/sbin/keepalived", "./keepalived"] {
            assert!(is_meant(Some(&name.into())), "{name}");
        }
        for name in ["xdp-lb", "/opt/keepalived/xdp-lb", "keepalived2", ""] {
            assert!(!is_meant(Some(&name.into())), "{name}");
        }
        assert!(!is_meant(None));
    }

    #[test]
    fn one_side_alone_is_that_side() {
        let cases = [
            ("", Part::All),
            ("-P", Part::Vrrp),
            ("-C", Part::Services),
            ("-PC", Part::All),
        ];
        for (line, expected) in cases {
            assert_eq!(part(&options(line)), expected, "{line}");
        }
    }

    #[test]
    fn what_changes_nothing_is_said_in_a_line() {
        assert_eq!(
            ignored(&options("-n -l -D -S 0 -R -X -B --all -d")),
            [""; 0]
        );
        assert_eq!(
            ignored(&options("-VI -r a -c b -x -a -m --debug=D")).len(),
            6
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(
            refuse(&options("-s blue"))
                .unwrap_err()
                .to_string()
                .contains("'blue'")
        );
        assert!(refuse(&options("-T")).is_err());
        assert!(refuse(&options("-VI")).is_ok());
    }
}
