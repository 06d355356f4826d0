//! What only one kind of checker has: SMTP, DNS, UDP, MISC, FILE.

use std::time::Duration;

use super::connection::ConnectionDraft;
use super::{IGNORED, hex};
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::lower::command;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{
    Command, Connection, DnsProbe, FileProbe, FileWeight, MaskedByte, MiscProbe, Probe, RecordType,
    Reply, ScriptUser, SmtpProbe, UdpProbe,
};
use crate::config::source::Span;

/// Longest answer that `UDP_CHECK` takes when nobody says otherwise.
const LONGEST_REPLY: u16 = 255;
/// Longest run of a command: a day.
const LONGEST_RUN: Duration = Duration::from_hours(24);

/// `SMTP_CHECK`.
#[derive(Debug, Default)]
pub(super) struct SmtpDraft {
    helo_name: Option<String>,
    hosts: Vec<ConnectionDraft>,
}

impl SmtpDraft {
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "helo_name" => self.helo_name = first(statement),
            "host" => {
                let mut host = ConnectionDraft::default();
                for (keyword, line) in context.keywords(Scope::SmtpHost, statement) {
                    if !host.take(context, keyword, line) {
                        of_the_checker(context, line);
                    }
                }
                self.hosts.push(host);
            }
            _ => return false,
        }
        true
    }

    /// `connect`: to a host, or to what the checker itself names.
    pub(super) fn build(
        self,
        mut connect: impl FnMut(Option<&ConnectionDraft>) -> Connection,
    ) -> SmtpProbe {
        let connections = if self.hosts.is_empty() {
            vec![connect(None)]
        } else {
            self.hosts.iter().map(|host| connect(Some(host))).collect()
        };
        SmtpProbe {
            helo_name: self.helo_name,
            connections,
        }
    }
}

/// keepalived takes the times of a host for those of the checker, and of several hosts the last.
fn of_the_checker(context: &mut Context<'_>, line: &Statement) {
    let name = quote(&line.keyword.text);
    context.push(
        Diagnostic::warning(
            Code::Overruled,
            format!("{name} is no setting of one 'host': it is ignored"),
        )
        .at(
            line.head(),
            "all hosts of an SMTP_CHECK are checked together",
        )
        .help("write it into the 'SMTP_CHECK' itself"),
    );
}

/// `DNS_CHECK`.
#[derive(Debug, Default)]
pub(super) struct DnsDraft {
    record: RecordType,
    name: Option<String>,
}

impl DnsDraft {
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let Some(word) = statement.values.first() else {
            return false;
        };
        match keyword.name {
            "type" => {
                let mut known = RecordType::ALL.into_iter();
                let found = known.find(|record| record.name().eq_ignore_ascii_case(&word.text));
                let expected = "A, NS, CNAME, SOA, MX, TXT or AAAA";
                let found = found.or_else(|| context.refuse(statement, word, expected, IGNORED));
                self.record = found.unwrap_or(self.record);
            }
            "name" if is_domain(&word.text) => self.name = Some(word.text.clone()),
            "name" => {
                let expected = "a domain name: labels of 1 to 63 bytes with dots between them";
                context.refuse::<()>(statement, word, expected, IGNORED);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn build(self, connection: Connection) -> DnsProbe {
        DnsProbe {
            connection,
            record: self.record,
            name: self.name.unwrap_or_else(|| ".".to_owned()),
        }
    }
}

fn is_domain(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| (1..=63).contains(&label.len());
    name == "." || (name.len() <= 253 && labels.split('.').all(label))
}

/// `UDP_CHECK`.
#[derive(Debug, Default)]
pub(super) struct UdpDraft {
    payload: Option<Vec<u8>>,
    reply: Option<Vec<MaskedByte>>,
    shortest: Option<u16>,
    longest: Option<u16>,
}

impl UdpDraft {
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "payload" => {
                let bytes = bytes(context, statement, false);
                let bytes = bytes.map(|bytes| bytes.iter().map(|byte| byte.value).collect());
                self.payload = bytes.or_else(|| self.payload.take());
            }
            "require_reply" if statement.values.is_empty() => self.reply = Some(Vec::new()),
            "require_reply" => {
                self.reply = bytes(context, statement, true).or_else(|| self.reply.take());
            }
            "min_reply_length" => self.shortest = length(context, statement).or(self.shortest),
            "max_reply_length" => self.longest = length(context, statement).or(self.longest),
            _ => return false,
        }
        true
    }

    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        keyword: Span,
        connection: Connection,
    ) -> UdpProbe {
        let (shortest, longest) = (self.shortest, self.longest);
        let reply = self.reply.map(|pattern| Reply {
            pattern,
            min_length: shortest.unwrap_or(0),
            max_length: longest.unwrap_or(LONGEST_REPLY),
        });
        if let Some(reply) = &reply
            && reply.min_length > reply.max_length
        {
            context.push(
                Diagnostic::warning(
                    Code::Doubtful,
                    format!(
                        "no answer is at least {} and at most {} bytes long: this check always fails",
                        reply.min_length, reply.max_length
                    ),
                )
                .at(keyword, "never passes")
                .help("raise 'max_reply_length' (255 by default) or lower 'min_reply_length'"),
            );
        }
        UdpProbe {
            connection,
            payload: self.payload,
            reply,
        }
    }
}

fn bytes(context: &mut Context<'_>, statement: &Statement, wild: bool) -> Option<Vec<MaskedByte>> {
    let found = hex::bytes(&statement.values, wild);
    let word = statement.values.first()?;
    let expected = if wild {
        "bytes in hexadecimal, with 'x' for digits that do not matter"
    } else {
        "bytes in hexadecimal"
    };
    found.or_else(|| context.refuse(statement, word, expected, IGNORED))
}

fn length(context: &mut Context<'_>, statement: &Statement) -> Option<u16> {
    let number = context.number(statement, 0..=65_535, Tail::Refused, IGNORED);
    number.and_then(|number| u16::try_from(number).ok())
}

/// `MISC_CHECK`.
#[derive(Debug, Default)]
pub(super) struct MiscDraft {
    user: Option<ScriptUser>,
    command: Option<Command>,
    timeout: Option<Duration>,
    dynamic: bool,
}

impl MiscDraft {
    /// `user`, which may stand behind the command that it is of.
    pub(super) fn read_user(&mut self, statements: &[(&'static Keyword, &Statement)]) {
        let mut users = statements.iter().rev();
        let user = users.find(|(keyword, _)| keyword.name == "user");
        self.user = user.and_then(|(_, statement)| command::user(&statement.values));
    }

    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "misc_path" => {
                let command =
                    command::read_as(context, statement, keyword.name, self.user.as_ref());
                self.command = command.or_else(|| self.command.take());
            }
            "misc_timeout" => {
                let range = Duration::from_micros(1)..=LONGEST_RUN;
                let timeout = context.seconds(statement, range, Tail::Refused, IGNORED);
                self.timeout = timeout.or(self.timeout);
            }
            "misc_dynamic" => self.dynamic = true,
            "user" => {}
            _ => return false,
        }
        true
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.command.is_none()
    }

    pub(super) fn build(self, delay_loop: Duration) -> Option<Probe> {
        Some(Probe::Misc(MiscProbe {
            command: self.command?,
            timeout: self.timeout.unwrap_or(delay_loop),
            dynamic: self.dynamic,
        }))
    }
}

/// `FILE_CHECK`.
#[derive(Debug, Default)]
pub(super) struct FileDraft {
    file: Option<String>,
    weight: Option<FileWeight>,
    dynamic: bool,
}

impl FileDraft {
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "track_file" => self.file = first(statement),
            "weight" => self.weight = file_weight(context, statement).or(self.weight),
            "dynamic" => self.dynamic = context.boolean(keyword, statement).unwrap_or(self.dynamic),
            _ => return false,
        }
        true
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.file.is_none()
    }

    pub(super) fn build(self) -> Option<Probe> {
        Some(Probe::File(FileProbe {
            file: self.file?,
            weight: self.weight,
            dynamic: self.dynamic,
        }))
    }
}

fn file_weight(context: &mut Context<'_>, statement: &Statement) -> Option<FileWeight> {
    let word = statement.values.first()?;
    let factor = word.text.parse().ok().filter(|factor| *factor != i32::MIN);
    let expected = "a whole number from -2147483647 to 2147483647";
    let factor = factor.or_else(|| context.refuse(statement, word, expected, IGNORED))?;
    let reverse = match statement.values.get(1) {
        Some(word) if word.text == "reverse" => true,
        Some(word) => {
            context.refuse::<()>(statement, word, "reverse", IGNORED);
            false
        }
        None => false,
    };
    Some(FileWeight { factor, reverse })
}

fn first(statement: &Statement) -> Option<String> {
    statement.values.first().map(|word| word.text.clone())
}
