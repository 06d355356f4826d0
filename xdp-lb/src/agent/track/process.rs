//! Which processes a `vrrp_track_process` means, and whether there are enough of them. Pure.

use std::time::Duration;

use crate::config::model::{MatchArguments, TrackProcess};
use crate::machine::Now;
use crate::vrrp::priority::Condition;

/// Bytes of a process's name that the kernel keeps.
const NAME: usize = 15;

/// Whether the command line has to be looked at, and not the name alone.
pub fn needs_command(wanted: &TrackProcess) -> bool {
    wanted.full_command || wanted.process.len() > 1 || wanted.arguments != MatchArguments::Exact
}

/// Whether it is that process: of this name, or with this command line.
pub fn matches(wanted: &TrackProcess, name: &[u8], command: &[&[u8]]) -> bool {
    let mut words = wanted.process.iter().map(String::as_bytes);
    if !needs_command(wanted) {
        return words.next().is_some_and(|program| {
            let kept = program.get(..NAME).unwrap_or(program);
            kept == name
        });
    }
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    if words.next() != Some(*program) {
        return false;
    }
    let words: Vec<_> = words.collect();
    let mut pairs = words.iter().zip(arguments);
    let enough = arguments.len() >= words.len();
    match wanted.arguments {
        MatchArguments::Exact => words == *arguments,
        // Without arguments of its own it wants a process that has none.
        MatchArguments::Initial | MatchArguments::Partial if words.is_empty() => {
            arguments.is_empty()
        }
        MatchArguments::Partial => enough && pairs.all(|(word, argument)| word == argument),
        MatchArguments::Initial => {
            let last = words.len() - 1;
            let is_alike = |(n, (word, argument)): (usize, (&&[u8], &&[u8]))| {
                word == argument || (n == last && argument.starts_with(word))
            };
            enough && pairs.enumerate().all(is_alike)
        }
    }
}

/// Whether there are enough processes, and not too many.
#[derive(Clone, Debug, Default)]
pub struct Quorum {
    count: u32,
    told: Option<bool>,
    /// What is to be told unless it changes back, and when.
    pending: Option<(Now, Condition)>,
}

impl Quorum {
    /// They were counted; the first time decides at once. More processes are believed after
    /// `fork_delay`, fewer after `terminate_delay`.
    pub fn count(&mut self, now: Now, wanted: &TrackProcess, count: u32) -> Option<Condition> {
        let is_more = count > self.count;
        self.count = count;
        let is_good = count >= wanted.quorum && wanted.quorum_max.is_none_or(|most| count <= most);
        let condition = if is_good {
            Condition::Up
        } else {
            Condition::Down { failures: 1 }
        };
        if self.told == Some(is_good) {
            self.pending = None;
        } else if self.pending.is_none() {
            let delay = match (self.told, is_more) {
                (None, _) => Duration::ZERO,
                (Some(_), true) => wanted.fork_delay,
                (Some(_), false) => wanted.terminate_delay,
            };
            self.pending = Some((now.after(delay), condition));
        }
        self.expire(now)
    }

    /// When [`Quorum::expire`] is due.
    pub fn deadline(&self) -> Option<Now> {
        self.pending.map(|(at, _)| at)
    }

    /// Tells what has lasted long enough.
    pub fn expire(&mut self, now: Now) -> Option<Condition> {
        let (_, condition) = self.pending.take_if(|(at, _)| *at <= now)?;
        self.told = Some(condition == Condition::Up);
        Some(condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Weight;

    fn wanted(process: &str, arguments: MatchArguments) -> TrackProcess {
        TrackProcess {
            name: "p".to_owned(),
            process: process.split(' ').map(str::to_owned).collect(),
            arguments,
            full_command: false,
            weight: Weight::default(),
            quorum: 1,
            quorum_max: None,
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::ZERO,
        }
    }

    #[test]
    fn a_process_is_known_by_its_name_or_by_its_command_line() {
        use MatchArguments::{Exact, Initial, Partial};
        let name = b"haproxy";
        let command: [&[u8]; 4] = [b"/usr/sbin/haproxy", b"-W", b"-f", b"/etc/a.cfg"];
        for (process, arguments, is_meant) in [
            ("haproxy", Exact, true),
            ("hapro", Exact, false),
            ("/usr/sbin/haproxy", Exact, false),
            ("/usr/sbin/haproxy -W -f /etc/a.cfg", Exact, true),
            ("/usr/sbin/haproxy -W -f", Exact, false),
            ("haproxy -W -f /etc/a.cfg", Exact, false),
            ("/usr/sbin/haproxy -W", Partial, true),
            ("/usr/sbin/haproxy -W -f /etc", Partial, false),
            ("/usr/sbin/haproxy -W -f /etc", Initial, true),
            ("/usr/sbin/haproxy -W -", Initial, true),
            ("/usr/sbin/haproxy -V", Initial, false),
            ("/usr/sbin/haproxy -W -f /etc/a.cfg x", Initial, false),
            ("/usr/sbin/haproxy", Initial, false),
        ] {
            let wanted = wanted(process, arguments);
            assert_eq!(matches(&wanted, name, &command), is_meant, "{wanted:?}");
        }
    }

    #[test]
    fn the_whole_command_may_be_asked_for_and_long_names_are_cut_as_the_kernel_cuts_them() {
        let mut whole = wanted("/usr/sbin/nginx", MatchArguments::Exact);
        whole.full_command = true;
        assert!(matches(&whole, b"nginx", &[b"/usr/sbin/nginx"]));
        assert!(!matches(&whole, b"nginx", &[b"/usr/sbin/nginx", b"-q"]));
        assert!(!matches(&whole, b"nginx", &[]), "a kernel thread");
        let none = wanted("/usr/sbin/nginx", MatchArguments::Partial);
        assert!(matches(&none, b"nginx", &[b"/usr/sbin/nginx"]));
        let long = wanted("keepalived-helper", MatchArguments::Exact);
        assert!(matches(&long, b"keepalived-help", &[]));
    }

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    const DOWN: Option<Condition> = Some(Condition::Down { failures: 1 });
    const UP: Option<Condition> = Some(Condition::Up);

    #[test]
    fn the_first_count_decides_and_then_delays_are_kept() {
        let mut wanted = wanted("nginx", MatchArguments::Exact);
        wanted.fork_delay = Duration::from_secs(2);
        wanted.terminate_delay = Duration::from_secs(5);
        let mut quorum = Quorum::default();
        assert_eq!(quorum.count(at(0), &wanted, 1), UP);
        assert_eq!(quorum.count(at(1), &wanted, 0), None);
        assert_eq!(quorum.deadline(), Some(at(6)));
        assert_eq!(quorum.count(at(4), &wanted, 1), None, "it was restarted");
        assert_eq!(quorum.deadline(), None);
        assert_eq!(quorum.count(at(5), &wanted, 0), None);
        assert_eq!(quorum.count(at(9), &wanted, 0), None);
        assert_eq!(quorum.expire(at(10)), DOWN);
        assert_eq!(quorum.count(at(11), &wanted, 3), None);
        assert_eq!(quorum.expire(at(12)), None);
        assert_eq!(quorum.count(at(13), &wanted, 3), UP);
        assert_eq!(quorum.deadline(), None);
    }

    #[test]
    fn there_may_be_too_few_and_too_many() {
        let mut wanted = wanted("nginx", MatchArguments::Exact);
        (wanted.quorum, wanted.quorum_max) = (2, Some(3));
        wanted.fork_delay = Duration::from_secs(1);
        let mut quorum = Quorum::default();
        assert_eq!(quorum.count(at(0), &wanted, 1), DOWN);
        assert_eq!(quorum.count(at(1), &wanted, 2), None);
        assert_eq!(quorum.count(at(2), &wanted, 2), UP);
        assert_eq!(quorum.count(at(3), &wanted, 4), None, "a fork");
        assert_eq!(quorum.count(at(3), &wanted, 3), None, "and an exec");
        assert_eq!(quorum.count(at(4), &wanted, 4), None);
        assert_eq!(quorum.count(at(5), &wanted, 4), DOWN);
        let mut none = Quorum::default();
        (wanted.quorum, wanted.quorum_max) = (0, Some(0));
        assert_eq!(none.count(at(0), &wanted, 0), UP);
        assert_eq!(none.count(at(1), &wanted, 1), None);
        assert_eq!(none.expire(at(2)), DOWN);
    }
}
