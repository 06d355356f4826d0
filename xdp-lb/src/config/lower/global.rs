//! `global_defs`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::command;
use super::context::Context;
use super::value::{Tail, seconds_of};
use super::vrrp;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::model::{Command, Fifo, Global, SyncDaemon, TimedCommand};
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";
const SMTP_PORT: u16 = 25;
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait that can be set, 100 days: sums of times cannot overflow.
const LONGEST: Duration = Duration::from_hours(100 * 24);

/// `global_defs`: what it says of the whole director, and what it says of every instance and service
/// that says nothing else.
#[derive(Debug, Default)]
pub(super) struct Globals {
    pub(super) model: Global,
    /// What instances inherit.
    pub(super) vrrp: vrrp::Defaults,
    /// `smtp_alert`, for all that says nothing else.
    pub(super) smtp_alert: Option<bool>,
    /// `smtp_alert_vrrp`.
    pub(super) smtp_alert_vrrp: Option<bool>,
    /// `smtp_alert_checker`.
    pub(super) smtp_alert_checker: Option<bool>,
    /// Where `lvs_sync_daemon` stands.
    pub(super) sync: Option<Span>,
    startup: Script,
    shutdown: Script,
    fifos: [Pipe; 3],
}

/// A command of the director's own life.
#[derive(Debug, Default)]
struct Script {
    command: Option<Command>,
    timeout: Option<Duration>,
}

/// A `notify_fifo` and its script.
#[derive(Debug, Default)]
struct Pipe {
    path: Option<PathBuf>,
    script: Option<Command>,
}

impl Globals {
    /// Takes what a `global_defs` block says.
    pub(super) fn read(&mut self, context: &mut Context<'_>, block: &Statement) {
        for (keyword, statement) in context.keywords(Scope::GlobalDefs, block) {
            let taken = self.vrrp.take(context, keyword, statement)
                || self.take_mail(context, keyword, statement)
                || self.take_scripts(context, keyword, statement)
                || self.take_director(context, keyword, statement);
            if !taken {
                context.unread(keyword, statement);
            }
        }
    }

    /// All of it, once every block was read.
    pub(super) fn finish(&mut self, context: &mut Context<'_>) {
        let timed = |script: &mut Script| {
            let command = script.command.take()?;
            let timeout = script.timeout.unwrap_or(SCRIPT_TIMEOUT);
            Some(TimedCommand { command, timeout })
        };
        self.model.startup_script = timed(&mut self.startup);
        self.model.shutdown_script = timed(&mut self.shutdown);
        let pipe = |pipe: &mut Pipe| {
            let path = pipe.path.take()?;
            let script = pipe.script.take();
            Some(Fifo { path, script })
        };
        let [all, vrrp, lvs] = &mut self.fifos;
        self.model.notify_fifo = pipe(all);
        self.model.vrrp_notify_fifo = pipe(vrrp);
        self.model.lvs_notify_fifo = pipe(lvs);
        if self.fifos.iter().any(|pipe| pipe.script.is_some()) {
            context.push(
                Diagnostic::warning(
                    Code::MissingKeyword,
                    "a script is to read a notify FIFO that no keyword names: it is not started",
                )
                .help("name the pipe, for example 'notify_fifo /run/keepalived.fifo'"),
            );
        }
    }

    fn take_mail(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let mail = &mut self.model.mail;
        let text = || statement.values.first().map(|word| word.text.clone());
        match keyword.name {
            "notification_email" => {
                let lines = statement.body().iter();
                mail.to.extend(lines.map(|line| line.keyword.text.clone()));
            }
            "notification_email_from" => mail.from = text().or_else(|| mail.from.take()),
            "smtp_server" => {
                mail.server = smtp_server(context, statement).or_else(|| mail.server.take());
            }
            "smtp_helo_name" => mail.helo_name = text().or_else(|| mail.helo_name.take()),
            "smtp_connect_timeout" => {
                let range = Duration::from_secs(1)..=LONGEST;
                let timeout = context.seconds(statement, range, Tail::Dropped, IGNORED);
                mail.connect_timeout = timeout.unwrap_or(mail.connect_timeout);
            }
            "no_email_faults" => mail.faults = false,
            "smtp_alert" => {
                self.smtp_alert = context.boolean(keyword, statement).or(self.smtp_alert);
            }
            "smtp_alert_vrrp" => {
                self.smtp_alert_vrrp = context.boolean(keyword, statement).or(self.smtp_alert_vrrp);
            }
            "smtp_alert_checker" => {
                self.smtp_alert_checker = context
                    .boolean(keyword, statement)
                    .or(self.smtp_alert_checker);
            }
            // Keepalived also sends a mail for each checker that turns; we never do.
            "no_checker_emails" => {}
            _ => return false,
        }
        true
    }

    fn take_scripts(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let command = |context: &mut Context<'_>| command::read(context, statement, keyword.name);
        let timeout = |context: &mut Context<'_>| {
            let range = Duration::from_secs(1)..=LONGEST;
            context.seconds(statement, range, Tail::Dropped, IGNORED)
        };
        let path = || {
            let word = statement.values.first();
            word.map(|word| PathBuf::from(&word.text))
        };
        let [all, vrrp, lvs] = &mut self.fifos;
        match keyword.name {
            "script_user" => self.model.script_user = command::user(&statement.values),
            "enable_script_security" => self.model.script_security = true,
            "startup_script" => self.startup.command = command(context),
            "startup_script_timeout" => self.startup.timeout = timeout(context),
            "shutdown_script" => self.shutdown.command = command(context),
            "shutdown_script_timeout" => self.shutdown.timeout = timeout(context),
            "notify_fifo" => all.path = path(),
            "notify_fifo_script" => all.script = command(context),
            "vrrp_notify_fifo" => vrrp.path = path(),
            "vrrp_notify_fifo_script" => vrrp.script = command(context),
            "lvs_notify_fifo" => lvs.path = path(),
            "lvs_notify_fifo_script" => lvs.script = command(context),
            "rs_init_notifies" => self.model.notify_at_start = true,
            _ => return false,
        }
        true
    }

    fn take_director(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let model = &mut self.model;
        match keyword.name {
            "router_id" => match statement.values.first() {
                Some(name) => model.router_id = Some(name.text.clone()),
                None => context.push(
                    Diagnostic::warning(Code::MissingValue, "'router_id' has no value")
                        .at(statement.head(), IGNORED),
                ),
            },
            "checker_log_all_failures" => {
                model.log_all_failures = context.boolean(keyword, statement).unwrap_or(false);
            }
            "dynamic_interfaces" => {
                model.dynamic_interfaces = true;
                if let Some(word) = statement.values.first()
                    && word.text != "allow_if_changes"
                {
                    let instead = "not used; interfaces may appear later all the same";
                    context.refuse::<()>(statement, word, "allow_if_changes or nothing", instead);
                }
            }
            "vrrp_startup_delay" => {
                let range = Duration::ZERO..=LONGEST;
                let delay = context.seconds(statement, range, Tail::Dropped, IGNORED);
                model.vrrp_startup_delay = delay.unwrap_or_default();
            }
            "lvs_sync_daemon" => {
                self.sync = Some(statement.head());
                model.sync = sync_daemon(context, statement);
            }
            "lvs_timeouts" => timeouts(context, statement, model),
            _ => return false,
        }
        true
    }
}

fn smtp_server(context: &mut Context<'_>, statement: &Statement) -> Option<(String, u16)> {
    let host = statement.values.first()?;
    let port = match statement.values.get(1) {
        None => Some(SMTP_PORT),
        Some(word) => word
            .text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .or_else(|| context.refuse(statement, word, "a port from 1 to 65535", "25 is used")),
    };
    Some((host.text.clone(), port.unwrap_or(SMTP_PORT)))
}

/// `DEVICE [INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]`.
fn sync_daemon(context: &mut Context<'_>, statement: &Statement) -> Option<SyncDaemon> {
    let mut words = statement.values.iter().peekable();
    let interface = context.device(words.next()?)?;
    let option = |word: &Word| {
        matches!(
            word.text.as_str(),
            "id" | "maxlen" | "port" | "ttl" | "group"
        )
    };
    let instance = words.next_if(|word| !option(word));
    let mut daemon = SyncDaemon {
        interface,
        instance: instance.map(|word| word.text.clone()),
        id: None,
        max_length: None,
        port: 8848,
        ttl: 1,
        group: IpAddr::from([224, 0, 0, 81]),
    };
    while let Some(name) = words.next() {
        let value = words.next();
        if !take_sync_option(&mut daemon, name, value) {
            let place = value.map_or(name.span, |value| name.span.to(value.span));
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!(
                        "{} is not an option of 'lvs_sync_daemon' with a valid value",
                        quote(&name.text)
                    ),
                )
                .at(place, IGNORED)
                .help(
                    "the options are id 0-255, maxlen BYTES, port PORT, ttl 1-255, group ADDRESS",
                ),
            );
        }
    }
    Some(daemon)
}

/// Whether `name` is an option and `value` a value of it.
fn take_sync_option(daemon: &mut SyncDaemon, name: &Word, value: Option<&Word>) -> bool {
    fn set<T: std::str::FromStr>(value: Option<&Word>, valid: impl Fn(&T) -> bool) -> Option<T> {
        value?.text.parse().ok().filter(valid)
    }
    let taken = match name.text.as_str() {
        "id" => set(value, |_: &u8| true).map(|id| daemon.id = Some(id)),
        "maxlen" => {
            set(value, |bytes: &u16| *bytes > 0).map(|bytes| daemon.max_length = Some(bytes))
        }
        "port" => set(value, |port: &u16| *port > 0).map(|port| daemon.port = port),
        "ttl" => set(value, |ttl: &u8| *ttl > 0).map(|ttl| daemon.ttl = ttl),
        "group" => set(value, IpAddr::is_multicast).map(|group| daemon.group = group),
        _ => None,
    };
    taken.is_some()
}

/// `[tcp S] [tcpfin S] [udp S]`.
fn timeouts(context: &mut Context<'_>, statement: &Statement, model: &mut Global) {
    let mut words = statement.values.iter();
    while let Some(name) = words.next() {
        let seconds = words.next().and_then(|word| seconds_of(&word.text));
        let seconds = seconds.filter(|seconds| !seconds.is_zero() && *seconds <= LONGEST);
        let timeouts = &mut model.timeouts;
        let place = match name.text.as_str() {
            "tcp" => Some(&mut timeouts.tcp),
            "tcpfin" => Some(&mut timeouts.tcp_fin),
            "udp" => Some(&mut timeouts.udp),
            _ => None,
        };
        match (place, seconds) {
            (Some(place), Some(seconds)) => *place = seconds,
            _ => context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!("{} is not a timeout with its seconds", quote(&name.text)),
                )
                .at(name.span, "ignored; the default stays in force")
                .because(format!(
                    "its form is '{}'",
                    "lvs_timeouts [tcp S] [tcpfin S] [udp S]"
                )),
            ),
        }
    }
}
