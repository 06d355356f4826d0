//! What trackers make of a router's priority.
//!
//! A tracker is an interface, a script, a file or a process that the priority of a router depends on.
//! With weight 0 its failure is a fault: the router takes no part. Otherwise the weight is added while
//! it is well (positive) or subtracted while it is not (negative), the other way round with `reverse`.
//! The sum stays within 1 to 254; the owner's 255 never changes (RFC 9568 section 5.2.4).

use std::fmt;

use super::Priority;

/// What kind of thing is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `track_interface`.
    Interface,
    /// `track_script`.
    Script,
    /// `track_file`.
    File,
    /// `track_process`.
    Process,
}

/// Something that a priority depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    /// What kind of thing.
    pub kind: Kind,
    /// The interface, or the name of the `vrrp_script`, `track_file` or `vrrp_track_process`.
    pub name: String,
    /// What it counts; 0: its failure is a fault. A file's value is multiplied by it.
    pub weight: i16,
    /// Well and failed change places, and so does the sign.
    pub reverse: bool,
}

/// How a tracked thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Up, succeeding, running. What is not known yet counts as this.
    Up,
    /// Down, failed this many times in a row, or not running.
    Down {
        /// Failures in a row; 1 where they are not counted, 0 while nothing has succeeded yet.
        failures: u32,
    },
    /// The number in a file.
    Value(i32),
}

/// A tracker and how it is: the reason of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What kind of thing.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// How it is.
    pub condition: Condition,
}

/// What all trackers of a router make of its priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The effective priority.
    pub priority: Priority,
    /// Why the router takes no part; the first of the reasons.
    pub fault: Option<Cause>,
}

/// The trackers of one router, and how they are.
#[derive(Clone, Debug, Default)]
pub struct Trackers(Vec<(Tracker, Condition)>);

impl Trackers {
    /// Trackers that are all well.
    pub fn new(trackers: Vec<Tracker>) -> Self {
        let well = |tracker: Tracker| {
            let condition = match tracker.kind {
                Kind::File => Condition::Value(0),
                Kind::Interface | Kind::Script | Kind::Process => Condition::Up,
            };
            (tracker, condition)
        };
        Self(trackers.into_iter().map(well).collect())
    }

    /// Other trackers; those of the same kind and name stay as they are.
    pub fn replace(&mut self, trackers: Vec<Tracker>) {
        let old = std::mem::replace(self, Self::new(trackers));
        for (tracker, condition) in old.0 {
            self.set(tracker.kind, &tracker.name, condition);
        }
    }

    /// Something changed. `None`: this router does not track it, or it is as before.
    pub fn set(&mut self, kind: Kind, name: &str, condition: Condition) -> Option<Cause> {
        let mut changed = None;
        for (tracker, current) in &mut self.0 {
            if tracker.kind == kind && tracker.name == name && *current != condition {
                *current = condition;
                changed = Some(Cause {
                    kind,
                    name: name.to_owned(),
                    condition,
                });
            }
        }
        changed
    }

    /// The effective priority and whether there is a fault. Without `weights` (a member of a sync
    /// group without `sync_group_tracking_weight`) only weight 0 counts.
    pub fn assess(&self, base: Priority, weights: bool) -> Assessment {
        let fault = self.0.iter().find(|(t, c)| is_fault(t, *c));
        let fault = fault.map(|(tracker, condition)| Cause {
            kind: tracker.kind,
            name: tracker.name.clone(),
            condition: *condition,
        });
        let priority = if base.is_owner() || !weights {
            base
        } else {
            let deltas = self.0.iter().map(|(t, c)| delta(t, *c));
            let sum = deltas.fold(i64::from(base.get()), i64::saturating_add);
            clamp(sum)
        };
        Assessment { priority, fault }
    }
}

fn clamp(sum: i64) -> Priority {
    let bounded = sum.clamp(
        i64::from(Priority::LOWEST.get()),
        i64::from(Priority::HIGHEST.get()),
    );
    Priority::from_wire(u8::try_from(bounded).unwrap_or(u8::MAX))
}

/// A product of value and weight below this is a fault, as in keepalived.
const FILE_FLOOR: i64 = -253;

fn is_fault(tracker: &Tracker, condition: Condition) -> bool {
    match condition {
        Condition::Value(value) if tracker.weight == 0 => (value != 0) != tracker.reverse,
        Condition::Value(_) => delta(tracker, condition) < FILE_FLOOR,
        Condition::Up => tracker.weight == 0 && tracker.reverse,
        Condition::Down { .. } => tracker.weight == 0 && !tracker.reverse,
    }
}

fn delta(tracker: &Tracker, condition: Condition) -> i64 {
    let weight = i64::from(tracker.weight);
    let amount = match condition {
        Condition::Value(value) => i64::from(value) * weight,
        Condition::Up => weight.max(0),
        Condition::Down { .. } => weight.min(0),
    };
    if tracker.reverse { -amount } else { amount }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "interface",
            Self::Script => "script",
            Self::File => "file",
            Self::Process => "process",
        })
    }
}

impl fmt::Display for Cause {
    /// `script chk_nginx failed 2 times`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, .. } = self;
        match (self.condition, kind) {
            (Condition::Value(value), _) => write!(f, "{kind} {name} says {value}"),
            (Condition::Up, Kind::Interface | Kind::File) => write!(f, "{kind} {name} is up"),
            (Condition::Up, Kind::Script) => write!(f, "{kind} {name} succeeds"),
            (Condition::Up, Kind::Process) => write!(f, "{kind} {name} runs"),
            (Condition::Down { .. }, Kind::Interface | Kind::File) => {
                write!(f, "{kind} {name} is down")
            }
            (Condition::Down { failures: 0 }, Kind::Script) => {
                write!(f, "{kind} {name} has not succeeded yet")
            }
            (Condition::Down { failures: 1 }, Kind::Script) => write!(f, "{kind} {name} failed"),
            (Condition::Down { failures }, Kind::Script) => {
                write!(f, "{kind} {name} failed {failures} times")
            }
            (Condition::Down { .. }, Kind::Process) => write!(f, "{kind} {name} does not run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UP: Condition = Condition::Up;
    const DOWN: Condition = Condition::Down { failures: 2 };

    fn tracker(kind: Kind, weight: i16, reverse: bool) -> Tracker {
        let name = "t".to_owned();
        Tracker {
            kind,
            name,
            weight,
            reverse,
        }
    }

    #[test]
    fn a_weight_counts_as_in_keepalived() {
        use Kind::{File, Interface, Process, Script};
        for (kind, weight, reverse, condition, priority, fault) in [
            (Script, 0, false, UP, 100, false),
            (Script, 0, false, DOWN, 100, true),
            (Script, 0, true, UP, 100, true),
            (Script, 0, true, DOWN, 100, false),
            (Script, 5, false, UP, 105, false),
            (Script, 5, false, DOWN, 100, false),
            (Script, 5, true, UP, 95, false),
            (Script, -2, false, UP, 100, false),
            (Script, -2, false, DOWN, 98, false),
            (Script, -2, true, DOWN, 102, false),
            (Interface, -253, false, DOWN, 1, false),
            (Process, 253, false, UP, 254, false),
            (File, 1, false, Condition::Value(-20), 80, false),
            (File, -2, false, Condition::Value(10), 80, false),
            (File, 1, true, Condition::Value(10), 90, false),
            (File, 1, false, Condition::Value(-253), 1, false),
            (File, 1, false, Condition::Value(-254), 1, true),
            (File, 0, false, Condition::Value(0), 100, false),
            (File, 0, false, Condition::Value(7), 100, true),
            (File, 0, true, Condition::Value(0), 100, true),
            (File, 254, false, Condition::Value(i32::MAX), 254, false),
        ] {
            let mut trackers = Trackers::new(vec![tracker(kind, weight, reverse)]);
            trackers.set(kind, "t", condition);
            let got = trackers.assess(Priority::new(100).unwrap(), true);
            let case = format!("{kind} weight {weight} reverse {reverse} {condition:?}");
            assert_eq!(got.priority.get(), priority, "{case}");
            assert_eq!(got.fault.is_some(), fault, "{case}");
        }
    }

    #[test]
    fn the_owner_keeps_its_priority_but_not_its_health() {
        let trackers = vec![tracker(Kind::Script, -50, false), {
            let mut fatal = tracker(Kind::Process, 0, false);
            "p".clone_into(&mut fatal.name);
            fatal
        }];
        let mut trackers = Trackers::new(trackers);
        trackers.set(Kind::Script, "t", DOWN);
        assert_eq!(
            trackers.assess(Priority::OWNER, true),
            Assessment {
                priority: Priority::OWNER,
                fault: None
            }
        );
        trackers.set(Kind::Process, "p", Condition::Down { failures: 1 });
        let fault = trackers.assess(Priority::OWNER, true).fault.unwrap();
        assert_eq!(fault.to_string(), "process p does not run");
    }

    #[test]
    fn members_of_a_sync_group_ignore_weights_unless_told_otherwise() {
        let mut trackers = Trackers::new(vec![tracker(Kind::Script, -50, false)]);
        let unproven = Condition::Down { failures: 0 };
        let cause = trackers.set(Kind::Script, "t", unproven).unwrap();
        assert_eq!(cause.to_string(), "script t has not succeeded yet");
        let cause = trackers.set(Kind::Script, "t", DOWN).unwrap();
        assert_eq!(cause.to_string(), "script t failed 2 times");
        let base = Priority::new(100).unwrap();
        assert_eq!(trackers.assess(base, false).priority.get(), 100);
        assert_eq!(trackers.assess(base, true).priority.get(), 50);
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_trackers_that_stay() {
        let mut trackers = Trackers::new(vec![tracker(Kind::Script, -50, false)]);
        assert!(trackers.set(Kind::Script, "t", DOWN).is_some());
        assert!(trackers.set(Kind::Script, "t", DOWN).is_none(), "no change");
        assert!(trackers.set(Kind::Process, "t", DOWN).is_none(), "not ours");
        trackers.replace(vec![tracker(Kind::Script, -10, false)]);
        let base = Priority::new(100).unwrap();
        assert_eq!(trackers.assess(base, true).priority.get(), 90);
    }

    proptest! {
        #[test]
        fn no_sum_of_weights_leaves_1_to_254(
            base in 1_u8..=255,
            weights in prop::collection::vec((-254_i16..=254, any::<bool>(), any::<i32>()), 0..9)
        ) {
            let mut trackers = Trackers(Vec::new());
            for (weight, reverse, value) in weights {
                let kind = if value % 2 == 0 { Kind::File } else { Kind::Script };
                let condition = match (kind, value % 3) {
                    (Kind::File, _) => Condition::Value(value),
                    (_, 0) => UP,
                    _ => DOWN,
                };
                trackers.0.push((tracker(kind, weight, reverse), condition));
            }
            let base = Priority::new(base).unwrap();
            let priority = trackers.assess(base, true).priority;
            prop_assert_eq!(priority.is_owner(), base.is_owner());
            prop_assert!(priority >= Priority::LOWEST);
        }
    }
}
