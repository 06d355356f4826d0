//! What can be tracked: `vrrp_script`, `track_file`, `vrrp_track_process`, `bfd_instance`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::lower::command;
use crate::config::lower::context::Context;
use crate::config::lower::value::{Tail, seconds_of};
use crate::config::model::{
    InitFile, MatchArguments, Script, ScriptUser, TrackFile, TrackProcess, Weight,
};

const IGNORED: &str = "ignored, as keepalived does";
/// Longest `interval` and `timeout`, as keepalived has it.
const LONGEST: Duration = Duration::from_secs(4294);
/// Longest delay of a process.
const LONGEST_DELAY: Duration = Duration::from_hours(1);

/// Everything that was defined so far.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) scripts: Vec<Script>,
    pub(super) files: Vec<TrackFile>,
    pub(super) processes: Vec<TrackProcess>,
    /// All of them, `bfd_instance`s among them, by kind and name.
    known: BTreeMap<(Kind, String), Weight>,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Script,
    File,
    Process,
    /// BFD, which is accepted without effect.
    Session,
}

impl Kind {
    /// The keyword that defines one.
    pub(super) const fn keyword(self) -> &'static str {
        match self {
            Self::Script => "vrrp_script",
            Self::File => "track_file",
            Self::Process => "vrrp_track_process",
            Self::Session => "bfd_instance",
        }
    }
}

impl Objects {
    /// Takes the block if it defines one; whether it did.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        block: &Statement,
    ) -> bool {
        let Some(name) = block.values.first() else {
            return false;
        };
        match keyword.name {
            "vrrp_script" => {
                if let Some(script) = script(context, block, name)
                    && self.is_new(context, Kind::Script, name, script.weight)
                {
                    self.scripts.push(script);
                }
            }
            "track_file" | "vrrp_track_file" => {
                if let Some(file) = track_file(context, block, name)
                    && self.is_new(context, Kind::File, name, file.weight)
                {
                    self.files.push(file);
                }
            }
            "vrrp_track_process" => {
                if let Some(process) = track_process(context, block, name)
                    && self.is_new(context, Kind::Process, name, process.weight)
                {
                    self.processes.push(process);
                }
            }
            "bfd_instance" => {
                context.unread(keyword, block);
                self.is_new(context, Kind::Session, name, Weight::default());
            }
            _ => return false,
        }
        true
    }

    /// The weight of an object, if it exists.
    pub(super) fn weight(&self, kind: Kind, name: &str) -> Option<Weight> {
        self.known.get(&(kind, name.to_owned())).copied()
    }

    fn is_new(
        &mut self,
        context: &mut Context<'_>,
        kind: Kind,
        name: &Word,
        weight: Weight,
    ) -> bool {
        match self.known.entry((kind, name.text.clone())) {
            Entry::Vacant(place) => {
                place.insert(weight);
                true
            }
            Entry::Occupied(_) => {
                context.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        format!("{} {} is defined twice", kind.keyword(), quote(&name.text)),
                    )
                    .at(name.span, "the first one counts, as with keepalived"),
                );
                false
            }
        }
    }
}

fn script(context: &mut Context<'_>, block: &Statement, name: &Word) -> Option<Script> {
    let mut command = None;
    let mut user: Option<ScriptUser> = None;
    let (mut interval, mut timeout) = (None, None);
    let (mut fall, mut rise) = (1, 1);
    let mut weight = Weight::default();
    let mut starts_failed = false;
    for (keyword, statement) in context.keywords(Scope::VrrpScript, block) {
        match keyword.name {
            "script" => command = command::read(context, statement, keyword.name),
            "interval" => interval = period(context, statement).or(interval),
            "timeout" => timeout = period(context, statement).or(timeout),
            "weight" => weight = self::weight(context, statement, 253).unwrap_or(weight),
            "fall" => fall = times(context, statement),
            "rise" => rise = times(context, statement),
            "user" => user = command::user(&statement.values),
            _ => starts_failed = true,
        }
    }
    let Some(mut command) = command else {
        incomplete(context, name, "script", "script \"/path/to/check\"");
        return None;
    };
    command.user = user.or(command.user);
    let interval = interval.unwrap_or(Duration::from_secs(1));
    Some(Script {
        name: name.text.clone(),
        command,
        interval,
        timeout: timeout.unwrap_or(interval),
        weight,
        fall,
        rise,
        starts_failed,
    })
}

/// A block without what it is about.
fn incomplete(context: &mut Context<'_>, name: &Word, keyword: &str, example: &str) {
    context.push(
        Diagnostic::warning(
            Code::MissingKeyword,
            format!(
                "{} has no '{keyword}': it is ignored, as keepalived does",
                quote(&name.text)
            ),
        )
        .at(name.span, "what tracks it runs as if untracked")
        .help(format!("add '{example}'")),
    );
}

/// Seconds; keepalived 2.2 takes whole ones only.
fn period(context: &mut Context<'_>, statement: &Statement) -> Option<Duration> {
    let word = statement.values.first()?;
    if word.text == "0" {
        context.refuse::<()>(
            statement,
            word,
            "seconds above 0",
            "1 is used, as keepalived does",
        );
        return Some(Duration::from_secs(1));
    }
    let range = Duration::from_millis(1)..=LONGEST;
    context.seconds(statement, range, Tail::Refused, IGNORED)
}

fn times(context: &mut Context<'_>, statement: &Statement) -> u32 {
    let most = i32::MAX.unsigned_abs();
    let instead = "1 is used, as keepalived does";
    let times = context.number(statement, 1..=most, Tail::Refused, instead);
    times.unwrap_or(1)
}

/// `NUMBER [reverse|noreverse]`.
fn weight(context: &mut Context<'_>, statement: &Statement, most: i16) -> Option<Weight> {
    let word = statement.values.first()?;
    let value = word.text.parse().ok();
    let value = value.filter(|value: &i16| (-most..=most).contains(value));
    let Some(value) = value else {
        let expected = format!("a whole number from -{most} to {most}");
        return context.refuse(statement, word, &expected, IGNORED);
    };
    let reverse = match statement.values.get(1) {
        None => false,
        Some(word) if word.text == "reverse" => true,
        Some(word) if word.text == "noreverse" => false,
        Some(word) => context
            .refuse(statement, word, "'reverse' or nothing", IGNORED)
            .unwrap_or(false),
    };
    Some(Weight { value, reverse })
}

fn track_file(context: &mut Context<'_>, block: &Statement, name: &Word) -> Option<TrackFile> {
    let mut path = None;
    let mut weight = Weight {
        value: 1,
        reverse: false,
    };
    let mut initial = None;
    for (keyword, statement) in context.keywords(Scope::TrackFile, block) {
        match keyword.name {
            "file" => {
                let word = statement.values.first();
                path = word
                    .filter(|word| !word.text.is_empty())
                    .map(|word| PathBuf::from(&word.text));
            }
            "weight" => weight = self::weight(context, statement, 254).unwrap_or(weight),
            _ => initial = Some(init_file(context, statement)),
        }
    }
    let Some(path) = path else {
        incomplete(context, name, "file", "file /path/to/number");
        return None;
    };
    Some(TrackFile {
        name: name.text.clone(),
        path,
        weight,
        initial,
    })
}

/// `[VALUE] [overwrite]`, in any order.
fn init_file(context: &mut Context<'_>, statement: &Statement) -> InitFile {
    let mut file = InitFile {
        value: 0,
        overwrite: false,
    };
    for word in &statement.values {
        if word.text == "overwrite" {
            file.overwrite = true;
        } else if let Ok(value) = word.text.parse() {
            file.value = value;
        } else {
            context.refuse::<()>(statement, word, "a whole number or 'overwrite'", IGNORED);
        }
    }
    file
}

fn track_process(
    context: &mut Context<'_>,
    block: &Statement,
    name: &Word,
) -> Option<TrackProcess> {
    let mut process = TrackProcess {
        name: name.text.clone(),
        process: Vec::new(),
        arguments: MatchArguments::Exact,
        full_command: false,
        weight: Weight::default(),
        quorum: 1,
        quorum_max: None,
        fork_delay: Duration::ZERO,
        terminate_delay: Duration::ZERO,
    };
    for (keyword, statement) in context.keywords(Scope::TrackProcess, block) {
        take_process(context, &mut process, keyword, statement);
    }
    if process.process.first().is_none_or(String::is_empty) {
        incomplete(context, name, "process", "process nginx");
        return None;
    }
    if process.quorum_max == Some(0) {
        process.quorum = 0;
    }
    if process.quorum_max.is_some_and(|most| most < process.quorum) {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!("quorum_max of {} is below its quorum", quote(&name.text)),
            )
            .at(name.span, "quorum_max is ignored, as keepalived does"),
        );
        process.quorum_max = None;
    }
    Some(process)
}

fn take_process(
    context: &mut Context<'_>,
    process: &mut TrackProcess,
    keyword: &Keyword,
    statement: &Statement,
) {
    let most = u32::from(u16::MAX);
    match keyword.name {
        "process" => {
            let words = statement.values.iter();
            process.process = words.map(|word| word.text.clone()).collect();
        }
        "param_match" => {
            process.arguments = match statement.values.first() {
                None => MatchArguments::Exact,
                Some(word) if word.text == "initial" => MatchArguments::Initial,
                Some(word) if word.text == "partial" => MatchArguments::Partial,
                Some(word) => context
                    .refuse(statement, word, "initial, partial or nothing", IGNORED)
                    .unwrap_or(process.arguments),
            };
        }
        "weight" => {
            process.weight = weight(context, statement, 254).unwrap_or(process.weight);
        }
        "quorum" => {
            let number = context.number(statement, 1..=most, Tail::Refused, IGNORED);
            process.quorum = number.unwrap_or(process.quorum);
        }
        "quorum_max" => {
            let number = context.number(statement, 0..=most, Tail::Refused, IGNORED);
            process.quorum_max = number.or(process.quorum_max);
        }
        "full_command" => {
            process.full_command = context
                .boolean(keyword, statement)
                .unwrap_or(process.full_command);
        }
        "fork_delay" => {
            process.fork_delay = delay(context, statement).unwrap_or(process.fork_delay);
        }
        "terminate_delay" => {
            process.terminate_delay = delay(context, statement).unwrap_or(process.terminate_delay);
        }
        _ => {
            if let Some(both) = delay(context, statement) {
                (process.fork_delay, process.terminate_delay) = (both, both);
            }
        }
    }
}

fn delay(context: &mut Context<'_>, statement: &Statement) -> Option<Duration> {
    let word = statement.values.first()?;
    let range = Duration::from_micros(1)..=LONGEST_DELAY;
    let delay = seconds_of(&word.text).filter(|delay| range.contains(delay));
    delay.or_else(|| context.refuse(statement, word, "seconds above 0, up to 3600", IGNORED))
}
