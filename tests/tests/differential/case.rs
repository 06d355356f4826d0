//! A case: tables, and what happens one after the other.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::frames::{self, Flows};
use crate::world::World;

/// Tables, then steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// What it shows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What stands when it begins.
    pub world: World,
    /// What happens.
    pub steps: Vec<Step>,
}

/// A thing that happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// A frame, in hex, comes in by an interface.
    Frame {
        /// Index of the interface.
        port: u32,
        /// Its octets.
        hex: String,
        /// Octets of the headroom that are taken.
        #[serde(default, skip_serializing_if = "is_zero")]
        taken: usize,
    },
    /// The tables change.
    Tables(World),
    /// Of a change of the tables, only the first so many steps are carried out.
    Begun(World, usize),
    /// So many ticks pass, in which the agent is heard of.
    Later(u32),
    /// The agent has not been heard of for so many ticks.
    Silent(u32),
    /// Expired entries are swept out.
    Tended,
}

/// What a random case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Everything.
    Mixed,
    /// One service, whose servers change a lot.
    Scheduling,
    /// Whole connections of few clients.
    Tidy,
    /// More clients than the tables hold.
    Flood,
}

impl Case {
    /// A case by chance.
    pub(crate) fn random(dice: &mut Dice, style: Style) -> Self {
        let mut world = World::random(dice, style);
        let mut flows = Flows::new(dice, style);
        let mut case = Self {
            name: String::new(),
            world: world.clone(),
            steps: Vec::new(),
        };
        let steps = match style {
            Style::Flood => 14_000,
            Style::Mixed | Style::Scheduling | Style::Tidy => 60 + dice.roll(100),
        };
        for _ in 0..steps {
            let step = other_step(dice, style, &mut world)
                .unwrap_or_else(|| frames::random(dice, style, &world, &mut flows));
            case.steps.push(step);
        }
        case
    }

    /// As a fixture.
    pub(crate) fn json(&self) -> String {
        let steps = self
            .steps
            .iter()
            .map(|step| serde_json::to_string(step).unwrap());
        format!(
            "{{\"name\": {:?},\n \"world\": {},\n \"steps\": [\n  {}\n]}}",
            self.name,
            serde_json::to_string(&self.world).unwrap(),
            steps.collect::<Vec<_>>().join(",\n  ")
        )
    }
}

/// A step that is no frame, now and then.
fn other_step(dice: &mut Dice, style: Style, world: &mut World) -> Option<Step> {
    let one_in = match style {
        Style::Flood => 400,
        Style::Scheduling => 6,
        Style::Mixed | Style::Tidy => 10,
    };
    if dice.roll(one_in) != 0 {
        return None;
    }
    Some(match dice.roll(16) {
        0..9 => {
            world.change(dice, style);
            Step::Tables(world.clone())
        }
        9 => {
            let mut other = world.clone();
            other.change(dice, style);
            other.change(dice, style);
            Step::Begun(other, usize::try_from(dice.roll(6)).unwrap())
        }
        10..14 if style == Style::Flood => Step::Later(u32::try_from(dice.roll(12)).unwrap()),
        10..14 => Step::Later(some_time(dice)),
        14 => Step::Silent(u32::try_from(dice.roll(40)).unwrap()),
        _ => Step::Tended,
    })
}

/// Around the timeouts of states and templates, in ticks of about a second.
fn some_time(dice: &mut Dice) -> u32 {
    let about = [1, 2, 9, 19, 21, 40, 60, 118, 120, 235, 300, 586, 900, 1758];
    let pick = usize::try_from(dice.roll(about.len() as u64)).unwrap();
    about[pick] + u32::try_from(dice.roll(3)).unwrap()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Octets in hex.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

/// Octets from hex.
pub(crate) fn octets(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
