//! `xdp-lb up`: run the director in the foreground.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing::{error, info, warn};
use xdp_lb_common::answer::empty_pool;
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::tick::Clock;

use super::output;
use super::reading::Reading;
use crate::agent;
use crate::config::diagnostic::Code;
use crate::config::host;
use crate::config::model::{self, Config, EmptyPool, XdpMode};
use crate::config::{Diagnostic, Diagnostics, LoadError, Loaded, Severity};
use crate::dataplane;
use crate::dataplane::ebpf::{Ebpf, Options};
use crate::sys::host::ThisHost;
use crate::sys::instance::Name;
use crate::sys::privileges;
use crate::telemetry::logging::{self, LogFormat};

/// What `up` is told.
#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// The configuration
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/keepalived/keepalived.conf"
    )]
    pub file: PathBuf,
    /// What it depends on besides its files.
    #[command(flatten)]
    pub reading: Reading,
    /// Attach to this interface and not to those the configuration leads to; may be repeated
    #[arg(long, value_name = "DEV")]
    pub interface: Vec<String>,
    /// How the program is attached
    #[arg(long, value_enum, value_name = "MODE")]
    pub xdp_mode: Option<Mode>,
    /// Where Prometheus scrapes [default: 127.0.0.1:9165]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// Say more; may be repeated
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How the program is attached, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// In the driver if it can, else in the stack, with a warning
    Auto,
    /// In the driver only
    Native,
    /// In the stack
    Generic,
}

/// Runs the command.
pub fn run(instance: &Name, args: &UpArgs) -> anyhow::Result<()> {
    logging::init(args.log_format, args.verbose);
    let mut director = Director::new(args.clone());
    let config = director.read()?;
    privileges::require("xdp-lb up", privileges::DIRECTOR)?;
    director.direct(instance, config, || {})
}

/// A director as its command line describes it.
#[derive(Debug)]
pub(super) struct Director {
    args: UpArgs,
    part: Part,
    told: Told,
}

/// What a director takes of its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    #[default]
    All,
    /// VRRP and no virtual servers.
    Vrrp,
    /// The virtual servers, which it then always balances, and no VRRP.
    Services,
}

impl Director {
    pub(super) fn new(args: UpArgs) -> Self {
        Self {
            args,
            part: Part::default(),
            told: Told::default(),
        }
    }

    /// The same with a part of the configuration.
    pub(super) fn of(self, part: Part) -> Self {
        Self { part, ..self }
    }

    /// Reads the file for the first time and shows all there is to say about it: to a person with the
    /// lines of the file, to a log one line each.
    pub(super) fn read(&mut self) -> anyhow::Result<Config> {
        let is_for_a_person = io::stderr().is_terminal() && self.args.log_format == LogFormat::Text;
        let loaded = self.load();
        if let Some(diagnostics) = diagnostics(&loaded) {
            let new = self.told.new_in(diagnostics);
            if is_for_a_person {
                // With stderr closed there is nobody left to tell.
                let text = diagnostics.render(output::is_colored());
                drop(io::stderr().write_all(text.as_bytes()));
            } else {
                log(diagnostics, &new);
            }
        }
        Ok(self.taken(loaded?.config))
    }

    /// Reads the file again; what is new to say goes to the log, and errors whether new or not. What
    /// makes it unusable is returned, too.
    fn read_again(&mut self) -> Result<Config, Vec<String>> {
        let loaded = self.load();
        let mut wrong = Vec::new();
        if let Some(diagnostics) = diagnostics(&loaded) {
            let new = self.told.new_in(diagnostics);
            log(diagnostics, &new);
            let errors = new.iter().filter(|item| item.severity() == Severity::Error);
            wrong.extend(errors.map(|item| diagnostics.one_line(item)));
        }
        match loaded {
            Ok(loaded) => Ok(self.taken(loaded.config)),
            Err(invalid) => {
                error!("{invalid}");
                wrong.push(invalid.to_string());
                Err(wrong)
            }
        }
    }

    /// The file, with what this host makes of its commands. The interfaces are looked at by the agent.
    fn load(&self) -> Result<Loaded, LoadError> {
        let mut loaded = self.args.reading.load(&self.args.file)?;
        let findings = host::commands(&loaded.config, &loaded.places, &ThisHost);
        let found = findings.into_iter().map(|finding| finding.diagnostic);
        loaded.diagnostics.add(found);
        Ok(loaded)
    }

    /// What is typed goes before what the file says.
    fn taken(&self, config: Config) -> Config {
        let mut config = self.args.overriding(config);
        match self.part {
            Part::All => {}
            Part::Vrrp => config.virtual_servers.clear(),
            Part::Services => config.vrrp_instances.clear(),
        }
        config
    }

    /// Runs until a signal ends it. `begin` is called in the runtime before anything else.
    pub(super) fn direct(
        mut self,
        instance: &Name,
        config: Config,
        begin: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let open = |name: &Name, config: &Config, clock: Clock| {
            let keys = agent::sync::key::keys(config)
                .map_err(|reason| dataplane::Error::Load(reason.to_string()))?;
            let options = Options {
                key: keys.map(|keys| keys.hash_key()),
                connections: config.xdp_lb.connections,
                empty_pool: match config.xdp_lb.empty_pool {
                    EmptyPool::Unreachable => empty_pool::UNREACHABLE,
                    EmptyPool::Reset => empty_pool::RESET,
                    EmptyPool::Silent => empty_pool::SILENT,
                },
                timeouts: timeouts(config.global.timeouts, clock),
                ..Options::new(name.as_str(), clock)
            };
            let opened = Ebpf::open(&options)?;
            opened.notes().iter().for_each(|note| warn!("{note}"));
            Ok(opened)
        };
        runtime.block_on(async {
            begin();
            // On the heap: a configuration is moved through all of it.
            Box::pin(agent::host::direct(
                instance,
                config,
                || self.read_again(),
                open,
            ))
            .await
        })?;
        Ok(())
    }
}

/// As the file says, in ticks.
fn timeouts(configured: model::Timeouts, clock: Clock) -> Timeouts {
    let ticks = |time: Duration| clock.ticks(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    Timeouts {
        established: ticks(configured.tcp),
        fin: ticks(configured.tcp_fin),
        udp: ticks(configured.udp),
        ..Timeouts::defaults(clock)
    }
}

/// All there is to say about a file that could be read.
fn diagnostics(loaded: &Result<Loaded, LoadError>) -> Option<&Diagnostics> {
    match loaded {
        Ok(loaded) => Some(&loaded.diagnostics),
        Err(LoadError::Invalid { diagnostics, .. }) => Some(diagnostics),
        Err(LoadError::Read(_)) => None,
    }
}

/// What was said when the file was read last: a reload repeats none of it.
#[derive(Debug, Default)]
struct Told(BTreeMap<(Code, String), usize>);

impl Told {
    /// What was not said the last time, or is an error. Where it stands does not count, since a line
    /// that is added moves all below it; how often it is there does.
    fn new_in<'a>(&mut self, diagnostics: &'a Diagnostics) -> Vec<&'a Diagnostic> {
        let mut now = Self::default();
        let mut new = Vec::new();
        for item in diagnostics {
            let key = (item.code(), item.message().to_owned());
            let before = self.0.get(&key).copied().unwrap_or(0);
            let count = now.0.entry(key).or_default();
            *count += 1;
            if *count > before || item.severity() == Severity::Error {
                new.push(item);
            }
        }
        *self = now;
        new
    }
}

fn log(diagnostics: &Diagnostics, items: &[&Diagnostic]) {
    for item in items {
        let line = diagnostics.one_line(item);
        match item.severity() {
            Severity::Error => error!("{line}"),
            Severity::Warning => warn!("{line}"),
            Severity::Note => info!("{line}"),
        }
    }
}

impl UpArgs {
    /// What is typed goes before what the file says.
    fn overriding(&self, mut config: Config) -> Config {
        let ours = &mut config.xdp_lb;
        if !self.interface.is_empty() {
            ours.interfaces.clone_from(&self.interface);
        }
        if let Some(mode) = self.xdp_mode {
            ours.xdp_mode = mode.into();
        }
        if let Some(metrics) = self.metrics {
            ours.metrics = metrics;
        }
        config
    }
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    fn up(line: &str) -> UpArgs {
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        match args.command {
            Command::Up(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connections_live_as_long_as_the_file_says() {
        let clock = Clock::new(1000);
        assert_eq!(
            timeouts(model::Timeouts::default(), clock),
            Timeouts::defaults(clock)
        );
        let other = model::Timeouts {
            tcp: Duration::from_mins(1),
            tcp_fin: Duration::from_secs(20),
            udp: Duration::MAX,
        };
        let made = timeouts(other, clock);
        assert_eq!(made.established, clock.ticks(60));
        assert_eq!(made.fin, clock.ticks(20));
        assert_eq!(made.udp, clock.ticks(u32::MAX), "no longer than ticks go");
        assert_eq!(made.syn, Timeouts::defaults(clock).syn);
    }

    #[test]
    fn what_is_not_typed_is_as_the_file_says() {
        let args = up("xdp-lb up");
        assert_eq!(args.file.to_str(), Some("/etc/keepalived/keepalived.conf"));
        let mut config = Config::default();
        config.xdp_lb.interfaces = vec!["eth5".to_owned()];
        assert_eq!(args.overriding(config.clone()), config);
    }

    /// What of a file is said, given what was said before.
    fn said(told: &mut Told, text: &str) -> Vec<String> {
        let loaded = crate::config::parse("f", text.as_bytes());
        let diagnostics = loaded.map_or_else(|invalid| invalid, |loaded| loaded.diagnostics);
        let new = told.new_in(&diagnostics);
        new.iter().map(|item| diagnostics.one_line(item)).collect()
    }

    #[test]
    fn a_warning_is_said_once_while_it_stands() {
        let mut told = Told::default();
        let first = said(&mut told, "global_defs {\n    bogus\n}\n");
        assert_eq!(
            first,
            ["f:2:5: warning[unknown-keyword]: unknown keyword 'bogus' in 'global_defs'"]
        );
        assert_eq!(said(&mut told, "global_defs {\n    bogus\n}\n"), [""; 0]);
        let moved = "# a line more\nglobal_defs {\n    bogus\n}\n";
        assert_eq!(said(&mut told, moved), [""; 0]);
        let twice = said(
            &mut told,
            "global_defs {\n    bogus\n    bogus\n    other\n}\n",
        );
        assert_eq!(twice.len(), 2, "{twice:?}");
        assert!(
            twice[0].starts_with("f:3:5") && twice[1].starts_with("f:4:5"),
            "{twice:?}"
        );
        assert_eq!(said(&mut told, ""), [""; 0]);
        assert_eq!(
            said(&mut told, "global_defs {\n    bogus\n}\n"),
            first,
            "it came back"
        );
    }

    #[test]
    fn an_error_is_said_each_time() {
        let mut told = Told::default();
        let text = "virtual_server 10.0.0.1 80\n";
        let first = said(&mut told, text);
        assert!(
            first.iter().any(|line| line.contains(": error[")),
            "{first:?}"
        );
        let errors = |lines: &[String]| lines.iter().filter(|l| l.contains(": error[")).count();
        assert_eq!(errors(&said(&mut told, text)), errors(&first));
    }

    #[test]
    fn a_part_leaves_the_other_out() {
        let config = crate::plan::testing::websocket();
        let taken = |part| {
            let director = Director::new(up("xdp-lb up")).of(part);
            let taken = director.taken(config.clone());
            (taken.vrrp_instances.len(), taken.virtual_servers.len())
        };
        assert_eq!(taken(Part::All), (1, 1));
        assert_eq!(taken(Part::Vrrp), (1, 0));
        assert_eq!(taken(Part::Services), (0, 1));
    }

    #[test]
    fn what_is_typed_goes_first() {
        let args = up(
            "xdp-lb up -f lb.conf --interface eth0 --interface eth1 --xdp-mode generic \
             --metrics 10.0.0.1:9999 --log-format json -vv",
        );
        let config = args.overriding(Config::default());
        assert_eq!(config.xdp_lb.interfaces, ["eth0", "eth1"]);
        assert_eq!(config.xdp_lb.xdp_mode, XdpMode::Generic);
        assert_eq!(config.xdp_lb.metrics.to_string(), "10.0.0.1:9999");
        assert_eq!((args.log_format, args.verbose), (LogFormat::Json, 2));
    }
}
