//! What a run saw: numbers and names, no judgement.

use serde::Serialize;

use crate::lab::clients::HttpRun;
use crate::lab::masters::Reign;
use crate::lab::steps::Step;

/// Everything a run saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// What the directors ran.
    pub(crate) program: String,
    /// One is master.
    pub(crate) one: Phase,
    /// Both are; by which one the clients asked.
    pub(crate) both: [Phase; 2],
    /// Whether one was master again after they heard each other again.
    pub(crate) healed_calm: bool,
    /// The longest time, s, in which the VIP did not answer then.
    pub(crate) healed_dark: f64,
    /// The script at work.
    pub(crate) monitor: Monitor,
    /// The master without power.
    pub(crate) power: Power,
    /// Who was master when.
    pub(crate) reigns: Vec<Reign>,
    /// What the directors left when they were stopped.
    pub(crate) left: Vec<String>,
    /// What was done and how long it took.
    pub(crate) steps: Vec<Step>,
    /// The ends of the directors' logs.
    #[serde(skip)]
    pub(crate) log: String,
}

/// Clients asked while the switch counted the frames to the VIP's service.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Phase {
    /// What they got.
    pub(crate) http: HttpRun,
    /// Frames that they sent.
    pub(crate) from_client: u64,
    /// Frames that each director sent on.
    pub(crate) from_directors: [u64; 2],
}

/// nginx on the master is gone.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Monitor {
    /// Seconds until the script had started it again.
    pub(crate) restarted: Option<f64>,
    /// Where it cannot: seconds until the other was master.
    pub(crate) gave_up: Option<f64>,
}

/// The master loses its power and gets it back.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Power {
    /// Seconds until the other was master.
    pub(crate) taken_over: Option<f64>,
    /// The longest time, s, in which the VIP did not answer.
    pub(crate) dark: f64,
    /// Seconds until its nginx was out of the other's table.
    pub(crate) removed: Option<f64>,
    /// Clients that came then.
    pub(crate) alone: HttpRun,
    /// Seconds from power to being master again.
    pub(crate) returned: Option<f64>,
    /// Clients that came then.
    pub(crate) again: Phase,
}
