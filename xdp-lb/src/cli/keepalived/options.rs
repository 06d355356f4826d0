//! keepalived's own options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use crate::sys::instance::Name;
use crate::sys::syslog::Facility;

/// What `-t` without a file stands for.
pub(super) const STDERR: &str = "-";

/// xdp-lb in keepalived's place: reads the same keepalived.conf and takes the same options, so that units and scripts go on working.
///
/// Without -n it becomes a daemon. SIGTERM stops it, SIGHUP reads the configuration again. `xdp-lb status`, `list` and `check` work on it as on `xdp-lb up`.
#[derive(Clone, Debug, Parser)]
#[command(name = "keepalived", disable_version_flag = true)]
pub(super) struct Options {
    /// The configuration
    #[arg(
        short = 'f',
        long = "use-file",
        value_name = "FILE",
        default_value = "/etc/keepalived/keepalived.conf"
    )]
    pub(super) file: PathBuf,
    /// Check the configuration; messages go to stderr, or to the end of a file.
    #[arg(
        short = 't',
        long = "config-test",
        value_name = "LOG_FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = STDERR,
        help = "Check the configuration and exit: 0 clean, 2 or 4 it cannot be used, 5 it has problems, \
                6 its scripts run without enable_script_security. Messages go to stderr, or to the end \
                of LOG_FILE"
    )]
    pub(super) config_test: Option<PathBuf>,
    /// Stay in the foreground
    #[arg(short = 'n', long)]
    pub(super) dont_fork: bool,
    /// Only VRRP: no virtual servers
    #[arg(short = 'P', long)]
    pub(super) vrrp: bool,
    /// Only virtual servers and their health checks: no VRRP
    #[arg(short = 'C', long)]
    pub(super) check: bool,
    /// What lines with '@ID' are about; the short name of this host by default
    #[arg(short = 'i', long, value_name = "ID")]
    pub(super) config_id: Option<String>,
    /// A file that is included and missing is an error
    #[arg(short = 'e', long)]
    pub(super) all_config: bool,
    /// Where the number of the process is written
    #[arg(
        short = 'p',
        long,
        value_name = "FILE",
        default_value = "/run/keepalived.pid"
    )]
    pub(super) pid: PathBuf,
    /// Log to stderr and not to the system's log, as -n does
    #[arg(short = 'l', long)]
    pub(super) log_console: bool,
    /// Accepted: the log is detailed
    #[arg(short = 'D', long)]
    pub(super) log_detail: bool,
    /// Whose messages these are to the system's log: 0 to 7, local0 to local7, user, daemon
    #[arg(
        short = 'S',
        long,
        value_name = "FACILITY",
        default_value = "daemon",
        hide_default_value = true
    )]
    pub(super) log_facility: Facility,
    /// Log to the end of this file
    #[arg(short = 'g', long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// Accepted: the file is never behind
    #[arg(long)]
    pub(super) flush_log_file: bool,
    /// Do not log to the system's log
    #[arg(short = 'G', long)]
    pub(super) no_syslog: bool,
    /// Log the configuration as it is understood
    #[arg(short = 'd', long)]
    pub(super) dump_conf: bool,
    /// Permissions that new files do not get, in octal
    #[arg(short = 'u', long, value_name = "MASK", value_parser = octal)]
    pub(super) umask: Option<u32>,
    /// Print the number of a signal.
    #[arg(
        long,
        value_name = "SIGFUNC",
        help = "Print the number of a signal: RELOAD, STOP, DATA, STATS, STATS_CLEAR, JSON"
    )]
    pub(super) signum: Option<String>,
    /// Which director this is, where several run on one machine; not an option of keepalived
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(super) instance: Name,
    /// Print the version
    #[arg(short = 'v', long)]
    pub(super) version: bool,
    #[command(flatten)]
    pub(super) elsewhere: Elsewhere,
}

/// Options that are taken and change nothing, and such as are refused.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Without effect here")]
pub(super) struct Elsewhere {
    /// BFD is not run anyway
    #[arg(short = 'B', long = "no_bfd")]
    pub(super) no_bfd: bool,
    /// There are no child processes
    #[arg(long)]
    pub(super) all: bool,
    /// VIPs go at the end anyway
    #[arg(short = 'X', long)]
    pub(super) release_vips: bool,
    /// There are no child processes
    #[arg(short = 'R', long)]
    pub(super) dont_respawn: bool,
    /// SIGQUIT ends the director and leaves VIPs and tables in place
    #[arg(short = 'V', long)]
    pub(super) dont_release_vrrp: bool,
    /// SIGQUIT ends the director and leaves VIPs and tables in place
    #[arg(short = 'I', long)]
    pub(super) dont_release_ipvs: bool,
    /// There is one process, whose file is that of -p
    #[arg(short = 'r', long = "vrrp_pid", value_name = "FILE")]
    pub(super) vrrp_pid: Option<PathBuf>,
    /// There is one process, whose file is that of -p
    #[arg(short = 'c', long = "checkers_pid", value_name = "FILE")]
    pub(super) checkers_pid: Option<PathBuf>,
    /// There is one process, whose file is that of -p
    #[arg(short = 'b', long = "bfd_pid", value_name = "FILE")]
    pub(super) bfd_pid: Option<PathBuf>,
    /// Changes of addresses are not logged
    #[arg(short = 'a', long)]
    pub(super) address_monitoring: bool,
    /// There is no SNMP; Prometheus finds everything at /metrics
    #[arg(short = 'x', long)]
    pub(super) snmp: bool,
    /// There is no SNMP
    #[arg(short = 'A', long, value_name = "FILE")]
    pub(super) snmp_agent_socket: Option<String>,
    /// The limits of the service manager are in force
    #[arg(short = 'm', long)]
    pub(super) core_dump: bool,
    /// The kernel's pattern stays as it is
    #[arg(short = 'M', long, value_name = "PATTERN", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) core_dump_pattern: Option<String>,
    /// Nothing is recorded
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) perf: Option<String>,
    /// Another variable of the environment does that.
    #[arg(
        long,
        value_name = "OPTIONS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        help = "XDP_LB_LOG says what is logged"
    )]
    pub(super) debug: Option<String>,
    /// There is nothing to switch off
    #[arg(long)]
    pub(super) no_mem_check: bool,
    /// Refused: run it inside of the namespace
    #[arg(short = 's', long, value_name = "NAME", help_heading = "Refused here")]
    pub(super) namespace: Option<String>,
    /// Refused: a digest is 'curl -s URL | md5sum'
    #[arg(short = 'T', long, help_heading = "Refused here")]
    pub(super) genhash: bool,
    /// What is no option; keepalived names it and goes on
    #[arg(hide = true, value_name = "OTHER")]
    pub(super) unexpected: Vec<String>,
}

impl Options {
    /// Reads the words of a command line, the program's name first.
    pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut words = words.into_iter().map(attached);
        // genhash has options of its own, which are not to be complained of.
        let mut taken: Vec<OsString> = words.by_ref().take(2).collect();
        if !taken.iter().any(|word| word == "-T" || word == "--genhash") {
            taken.extend(words);
        }
        Self::try_parse_from(taken)
    }
}

/// `-tFILE` as `--config-test=FILE`, and the like for `-M`: options whose value is there only if it is
/// attached.
fn attached(word: OsString) -> OsString {
    let long = |text: &str| {
        let options = [("-t", "--config-test="), ("-M", "--core-dump-pattern=")];
        options.into_iter().find_map(|(short, long)| {
            let value = text.strip_prefix(short).filter(|value| !value.is_empty())?;
            Some(format!("{long}{value}"))
        })
    };
    word.to_str().and_then(long).map_or(word, OsString::from)
}

fn octal(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok();
    let mask = mask.filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| "three octal digits, such as 022".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<Options, clap::Error> {
        let words = std::iter::once("keepalived").chain(line.split_whitespace());
        Options::read(words.map(OsString::from))
    }

    #[test]
    fn the_declaration_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_units_and_scripts_pass_is_understood() {
        for line in [
            "",
            "-D",
            "--dont-fork -D -S 0",
            "-n -l -D -f /etc/keepalived/keepalived.conf",
            "--dont-fork --log-console --log-detail --log-facility 7 --vrrp_pid /run/v.pid --checkers_pid /run/c.pid --pid /run/k.pid",
            "-nldD",
            "-D -P -i node1",
            "-x -A tcp:127.0.0.1:705 -R -X -V -I -B -a -m -e -u 022 -g /var/log/k.log --flush-log-file -G",
            "-p /run/a.pid -r /run/b.pid -c /run/c.pid -b /run/d.pid --no-mem-check --all --debug=D --perf",
        ] {
            assert!(read(line).is_ok(), "{line}: {:?}", read(line));
        }
        for line in ["-Z", "-f", "-S 9", "-u 99", "--signum"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_log_file_of_a_test_is_attached_or_missing() {
        let cases = [
            ("-t", None, Some(STDERR)),
            ("-t -f a.conf", Some("a.conf"), Some(STDERR)),
            ("-tlog.txt", None, Some("log.txt")),
            ("--config-test=log.txt", None, Some("log.txt")),
            ("--config-test -f a.conf", Some("a.conf"), Some(STDERR)),
            ("-lt", None, Some(STDERR)),
        ];
        for (line, file, log) in cases {
            let options = read(line).unwrap();
            assert_eq!(
                options.config_test.as_deref(),
                log.map(std::path::Path::new)
            );
            assert!(
                file.is_none_or(|file| options.file.as_os_str() == file),
                "{line}"
            );
        }
        let options = read("-t log.txt").unwrap();
        assert_eq!(options.elsewhere.unexpected, ["log.txt"]);
    }

    #[test]
    fn genhash_brings_its_own_options() {
        assert!(
            read("-T -s 10.0.0.1 -p 80 -u /index.html")
                .unwrap()
                .elsewhere
                .genhash
        );
        assert!(
            read("--genhash --server 10.0.0.1")
                .unwrap()
                .elsewhere
                .genhash
        );
    }
}
