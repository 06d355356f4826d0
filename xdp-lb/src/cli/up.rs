//! `xdp-lb up`: run the director in the foreground.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tracing::{error, info, warn};

use crate::agent::host;
use crate::config::model::{Config, XdpMode};
use crate::config::{self, Diagnostics, LoadError, Loaded, Severity};
use crate::dataplane::ebpf::{Ebpf, Options};
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
    let config = read(args)?;
    privileges::require("xdp-lb up", privileges::DIRECTOR)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let open = |name: &Name, config: &Config, clock: xdp_lb_common::tick::Clock| {
        let options = Options {
            connections: config.xdp_lb.connections,
            ..Options::new(name.as_str(), clock)
        };
        let opened = Ebpf::open(&options)?;
        opened.notes().iter().for_each(|note| warn!("{note}"));
        Ok(opened)
    };
    runtime.block_on(host::direct(instance, config, || read_again(args), open))?;
    Ok(())
}

/// Reads the file for the first time and shows all there is to say about it.
fn read(args: &UpArgs) -> anyhow::Result<Config> {
    match config::load(&args.file) {
        Ok(Loaded {
            config,
            diagnostics,
            ..
        }) => {
            show(&diagnostics);
            Ok(args.overriding(config))
        }
        Err(invalid) => {
            if let LoadError::Invalid { diagnostics, .. } = &invalid {
                show(diagnostics);
            }
            Err(invalid.into())
        }
    }
}

fn show(diagnostics: &Diagnostics) {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // With stderr closed there is nobody left to tell.
    drop(io::stderr().write_all(diagnostics.render(color).as_bytes()));
}

/// Reads the file again; what there is to say goes to the log.
fn read_again(args: &UpArgs) -> Option<Config> {
    match config::load(&args.file) {
        Ok(Loaded {
            config,
            diagnostics,
            ..
        }) => {
            log(&diagnostics);
            Some(args.overriding(config))
        }
        Err(invalid) => {
            if let LoadError::Invalid { diagnostics, .. } = &invalid {
                log(diagnostics);
            }
            error!("{invalid}");
            None
        }
    }
}

fn log(diagnostics: &Diagnostics) {
    for item in diagnostics {
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
    fn what_is_not_typed_is_as_the_file_says() {
        let args = up("xdp-lb up");
        assert_eq!(args.file.to_str(), Some("/etc/keepalived/keepalived.conf"));
        let mut config = Config::default();
        config.xdp_lb.interfaces = vec!["eth5".to_owned()];
        assert_eq!(args.overriding(config.clone()), config);
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
