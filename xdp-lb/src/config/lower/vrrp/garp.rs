//! `garp_…` of an instance and `vrrp_garp_…` of all.

use std::time::Duration;

use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{ExtraGarp, Garp};

/// Longest time that can be set, 100 days: sums of times cannot overflow.
const LONGEST_S: u32 = 8_640_000;
/// Most frames of a burst: more than any neighbour can lose.
const MOST_FRAMES: u32 = 10_000;

/// What a file says about announcements.
#[derive(Debug, Default)]
pub(super) struct GarpDraft {
    delay: Option<Duration>,
    repeat: Option<u32>,
    refresh: Option<Duration>,
    refresh_repeat: Option<u32>,
    lower_prio_delay: Option<Duration>,
    lower_prio_repeat: Option<u32>,
    extra: Option<ExtraGarp>,
}

impl GarpDraft {
    /// Takes a setting by its name without `garp_` or `vrrp_garp_`; whether it was one.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        name: &str,
        statement: &Statement,
    ) -> bool {
        let earlier_is_kept = |new: Option<Duration>, old: Option<Duration>| new.or(old);
        match name {
            "master_delay" => self.delay = earlier_is_kept(seconds(context, statement), self.delay),
            "master_repeat" => self.repeat = frames(context, statement, 1).or(self.repeat),
            "master_refresh" => {
                self.refresh = earlier_is_kept(seconds(context, statement), self.refresh);
            }
            "master_refresh_repeat" => {
                self.refresh_repeat = frames(context, statement, 1).or(self.refresh_repeat);
            }
            "lower_prio_delay" => {
                self.lower_prio_delay =
                    earlier_is_kept(seconds(context, statement), self.lower_prio_delay);
            }
            "lower_prio_repeat" => {
                self.lower_prio_repeat = frames(context, statement, 0).or(self.lower_prio_repeat);
            }
            "extra_if" => self.extra = extra(context, statement).or(self.extra),
            _ => return false,
        }
        true
    }

    /// With what is missing from the defaults of all instances.
    pub(super) fn of_instance(&self, defaults: &Garp) -> Garp {
        Garp {
            delay: self.delay.unwrap_or(defaults.delay),
            repeat: self.repeat.unwrap_or(defaults.repeat),
            refresh: self.refresh.or(defaults.refresh),
            refresh_repeat: self.refresh_repeat.unwrap_or(defaults.refresh_repeat),
            lower_prio_delay: self.lower_prio_delay.unwrap_or(defaults.lower_prio_delay),
            lower_prio_repeat: self.lower_prio_repeat.unwrap_or(defaults.lower_prio_repeat),
            extra: self.extra.or(defaults.extra),
        }
    }

    /// The defaults of all instances. `minimal`: with `vrrp_min_garp`, a single frame.
    pub(super) fn of_all(&self, minimal: bool) -> Garp {
        let mut base = Garp::default();
        if minimal {
            base.delay = Duration::ZERO;
            base.repeat = 1;
        }
        let garp = self.of_instance(&base);
        Garp {
            lower_prio_delay: self.lower_prio_delay.unwrap_or(garp.delay),
            lower_prio_repeat: self.lower_prio_repeat.unwrap_or(garp.repeat),
            ..garp
        }
    }
}

fn seconds(context: &mut Context<'_>, statement: &Statement) -> Option<Duration> {
    let number = context.number(statement, 0..=LONGEST_S, Tail::Dropped, "ignored");
    number.map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// `least`: keepalived takes 1 for 0 where this is 1.
fn frames(context: &mut Context<'_>, statement: &Statement, least: u32) -> Option<u32> {
    let number = context.number(statement, 0..=MOST_FRAMES, Tail::Dropped, "ignored")?;
    let word = statement.values.first()?;
    if number < least && word.text == "0" {
        context.refuse::<()>(
            statement,
            word,
            "at least 1",
            "1 is used, as keepalived does",
        );
    }
    Some(number.max(least))
}

/// `[all] SECONDS`.
fn extra(context: &mut Context<'_>, statement: &Statement) -> Option<ExtraGarp> {
    let mut words = statement.values.iter().peekable();
    let all = words.next_if(|word| word.text == "all").is_some();
    let Some(word) = words.next() else {
        let keyword = &statement.keyword.text;
        context.push(
            Diagnostic::warning(
                Code::MissingValue,
                format!("{} has no time", quote(keyword)),
            )
            .at(statement.head(), "ignored, as keepalived does"),
        );
        return None;
    };
    let seconds = word.text.parse::<u32>().ok().filter(|s| *s <= LONGEST_S);
    let Some(seconds) = seconds else {
        return context.refuse(
            statement,
            word,
            "whole seconds",
            "ignored, as keepalived does",
        );
    };
    let interval = Duration::from_secs(u64::from(seconds));
    Some(ExtraGarp { all, interval })
}
