//! What happened to all connections from one mark to the next: numbers, no judgement.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::wire::Name;

/// A connection that has stood for less than this is young: state of it may not have reached the other
/// director yet.
pub(super) const YOUNG: Duration = Duration::from_millis(200);

/// Why a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// The socket got an error, as after an RST.
    Reset,
    /// The other end closed it.
    Ended,
    /// A heartbeat went unanswered for too long.
    Silent,
    /// Another server answered than the first time.
    OtherServer,
    /// What came is no answer to the last heartbeat.
    Garbled,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::Ended => "ended",
            Self::Silent => "silent",
            Self::OtherServer => "other server",
            Self::Garbled => "garbled",
        })
    }
}

/// A count per server; `?` is one that broke before its server said its name.
pub(crate) type ByServer = BTreeMap<String, u64>;

/// Segments that a connection's kernel sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resent {
    /// All.
    pub(super) all: u32,
    /// Those of which the receiver said that it had them already (DSACK).
    pub(super) needless: u32,
}

/// Everything from one mark to the next.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Window {
    /// How long it was.
    pub(crate) seconds: f64,
    /// Connections that stood when it began.
    pub(crate) standing: ByServer,
    /// Heartbeats sent.
    pub(crate) sent: u64,
    /// Heartbeats answered.
    pub(crate) answered: u64,
    /// Connections that broke, by server and cause.
    pub(crate) broken: BTreeMap<String, BTreeMap<Cause, u64>>,
    /// Of these, those that were older than 200 ms when the window began.
    pub(crate) grown: u64,
    /// Who answered instead, for those that another server answered.
    pub(crate) intruders: ByServer,
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// Attempts to open one that failed, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Connections that were closed for a new one.
    pub(crate) renewed: u64,
    /// Connections that came to another server than the one before from the same client, by target.
    pub(crate) strayed: Vec<u64>,
    /// Segments sent again and missing at the receiver: packets lost.
    pub(crate) lost: u64,
    /// Segments sent again that had arrived: somebody was slow.
    pub(crate) needless: u64,
    /// The longest time that each connection waited for an answer.
    pub(crate) silence: Silence,
}

impl Window {
    /// An empty one of connections to so many targets.
    pub(super) fn of(targets: usize) -> Self {
        Self {
            strayed: vec![0; targets],
            ..Self::default()
        }
    }

    /// How many broke.
    pub(crate) fn broken_in_all(&self) -> u64 {
        self.broken.values().flat_map(BTreeMap::values).sum()
    }

    /// How many stood when it began.
    pub(crate) fn stood(&self) -> u64 {
        self.standing.values().sum()
    }

    /// What broke, in words: `rs1: 5 reset, 2 silent; rs2: 1 ended`.
    pub(crate) fn breaks(&self) -> String {
        let servers = self.broken.iter().map(|(server, causes)| {
            let causes = causes
                .iter()
                .map(|(cause, count)| format!("{count} {cause}"));
            format!("{server}: {}", causes.collect::<Vec<_>>().join(", "))
        });
        servers.collect::<Vec<_>>().join("; ")
    }
}

/// How silences of many connections are distributed, s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Silence {
    /// Half of them had none longer.
    pub(crate) p50: f64,
    /// 99 % had none longer.
    pub(crate) p99: f64,
    /// Nobody had one longer.
    pub(crate) max: f64,
}

impl Silence {
    /// The distribution of these.
    pub(super) fn of(mut each: Vec<Duration>) -> Self {
        each.sort_unstable();
        let rank = |percent: usize| {
            let rank = (each.len() * percent).div_ceil(100).saturating_sub(1);
            let found = each.get(rank).copied().unwrap_or_default();
            found.as_secs_f64()
        };
        Self {
            p50: rank(50),
            p99: rank(99),
            max: rank(100),
        }
    }
}

/// A name, or that there was none yet.
pub(super) fn named(server: Option<Name>) -> String {
    server.map_or_else(|| "?".to_owned(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_a_distribution_are_values_that_were_there() {
        let each = (1..=200).rev().map(Duration::from_millis).collect();
        let silence = Silence {
            p50: 0.1,
            p99: 0.198,
            max: 0.2,
        };
        assert_eq!(Silence::of(each), silence);
        assert_eq!(Silence::of(Vec::new()), Silence::default());
        let one = Silence::of(vec![Duration::from_millis(7)]);
        assert!((one.p50 - 0.007).abs() < 1e-9 && (one.max - 0.007).abs() < 1e-9);
    }

    #[test]
    fn breaks_are_told_by_server_and_cause() {
        let causes = BTreeMap::from([(Cause::Reset, 5), (Cause::Silent, 2)]);
        let window = Window {
            broken: BTreeMap::from([
                ("rs1".to_owned(), causes),
                ("rs2".to_owned(), BTreeMap::from([(Cause::Ended, 1)])),
            ]),
            ..Window::default()
        };
        assert_eq!(window.breaks(), "rs1: 5 reset, 2 silent; rs2: 1 ended");
        assert_eq!(window.broken_in_all(), 8);
    }
}
