//! What a director chose, as text, and what two of them chose, side by side.
//!
//! ```text
//! # Linux 6.12.95+deb12-cloud-amd64
//! == wrr 3:1
//! open 2111
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::case::Case;

/// The lines of each case, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// Who chose.
    pub whose: String,
    /// Their lines.
    pub lines: BTreeMap<String, Vec<String>>,
}

impl Choices {
    /// Reads them.
    pub fn parse(text: &str) -> Self {
        let mut choices = Self::default();
        let mut name = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(whose) = line.strip_prefix("# ") {
                whose.clone_into(&mut choices.whose);
            } else if let Some(next) = line.strip_prefix("== ") {
                next.clone_into(&mut name);
                choices.lines.insert(name.clone(), Vec::new());
            } else if let Some(lines) = choices.lines.get_mut(&name) {
                lines.push(line.to_owned());
            }
        }
        choices
    }
}

/// A case as two directors played it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The case.
    pub name: String,
    /// The scheduler.
    pub scheduler: String,
    /// Packets with a choice.
    pub choices: usize,
    /// Those chosen otherwise.
    pub differing: usize,
    /// The first one, in words.
    pub first: Option<String>,
    /// Why that is so on purpose.
    pub differs: Option<String>,
}

impl Row {
    /// Compares.
    pub fn of(case: &Case, ipvs: &[String], ours: &[String]) -> Self {
        let mut row = Self {
            name: case.name.clone(),
            scheduler: case.scheduler.clone(),
            choices: 0,
            differing: 0,
            first: None,
            differs: case.differs.clone(),
        };
        for at in 0..ipvs.len().max(ours.len()) {
            let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
            let (theirs, ours) = (line(ipvs), line(ours));
            let (left, right) = (picks(&theirs), picks(&ours));
            row.choices += left.len();
            let pairs = left.iter().zip(right.iter());
            let differing =
                pairs.filter(|(a, b)| a != b).count() + left.len().abs_diff(right.len());
            row.differing += differing;
            if differing > 0 && row.first.is_none() {
                row.first = Some(format!("step {}: IPVS {theirs}, ours {ours}", at + 1));
            }
        }
        row
    }

    /// Whether it is as the case says.
    pub const fn is_as_told(&self) -> bool {
        (self.differing > 0) == self.differs.is_some()
    }
}

fn picks(line: &str) -> &[u8] {
    let (_, picks) = line.split_once(' ').unwrap_or_default();
    picks.as_bytes()
}

/// A table of them.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    for row in rows {
        let outcome = match (row.differing, &row.differs) {
            (0, None) => "equal".to_owned(),
            (0, Some(why)) => format!("EQUAL, although: {why}"),
            (n, Some(why)) => format!("{n} differ, on purpose: {why}"),
            (n, None) => format!("{n} DIFFER"),
        };
        // Writing to a string cannot fail.
        let _never = writeln!(
            text,
            "{:6} {:width$} {:6}  {outcome}",
            row.scheduler, row.name, row.choices
        );
        if let (Some(first), false) = (&row.first, row.is_as_told()) {
            let first: String = first.chars().take(240).collect();
            let _never = writeln!(text, "       {first}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::*;

    fn row(ipvs: &[&str], ours: &[&str], differs: Option<&str>) -> Row {
        let lines = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        let cases = case::parse("== a\nrr\nservers 1\nopen 1\n");
        let mut case = cases.unwrap().remove(0);
        case.differs = differs.map(str::to_owned);
        Row::of(&case, &lines(ipvs), &lines(ours))
    }

    #[test]
    fn what_differs_is_counted_and_the_first_is_shown() {
        let same = row(&["open 321", "again 3"], &["open 321", "again 3"], None);
        assert_eq!(
            (same.choices, same.differing, same.is_as_told()),
            (4, 0, true)
        );
        let other = row(&["open 321", "open 3"], &["open 312"], None);
        assert_eq!((other.choices, other.differing), (4, 3));
        assert!(!other.is_as_told());
        assert!(table(&[other]).contains("step 1: IPVS open 321, ours open 312"));
    }

    #[test]
    fn a_difference_on_purpose_must_be_one() {
        assert!(row(&["open 3"], &["open 2"], Some("why")).is_as_told());
        assert!(!row(&["open 3"], &["open 3"], Some("why")).is_as_told());
    }

    #[test]
    fn choices_are_read_by_case() {
        let choices = Choices::parse("# Linux 6\n== a b\nopen 12\nagain -\n== c\n");
        assert_eq!(choices.whose, "Linux 6");
        assert_eq!(choices.lines["a b"], ["open 12", "again -"]);
        assert_eq!(choices.lines["c"], [""; 0]);
    }
}
