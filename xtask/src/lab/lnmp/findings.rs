//! What a run saw: numbers and names, no judgement.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::lab::findings::Stop;
use crate::lab::steps::Step;

/// Everything a run saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// What clients got, phase by phase, in order.
    pub(crate) phases: Vec<Phase>,
    /// The director's end.
    pub(crate) stop: Option<Stop>,
    /// What was done and how long it took.
    pub(crate) steps: Vec<Step>,
    /// The end of the director's log.
    #[serde(skip)]
    pub(crate) log: String,
}

/// Clients asked while things were as its name says.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Phase {
    /// How things were.
    pub(crate) name: String,
    /// Seconds from the event until the director's list showed it.
    pub(crate) noticed: Option<f64>,
    /// Seconds from the event until a client got what it should, as far as somebody looked.
    pub(crate) served: Option<f64>,
    /// Pages by the server that made them; what went wrong stands under its error.
    pub(crate) pages: BTreeMap<String, u32>,
    /// Answers of MariaDB, likewise.
    pub(crate) rows: BTreeMap<String, u32>,
}
