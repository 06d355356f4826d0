//! What all reports have in common: the frame for people, the frame for machines.

use serde::Serialize;
use serde_json::{Value, json as value};

use super::check::Check;
use super::steps::Step;

/// For machines: the findings, the verdicts and the verdict.
pub(crate) fn json(scenario: &str, checks: &[Check], findings: &impl Serialize) -> Value {
    value!({
        "scenario": scenario,
        "pass": passed(checks),
        "checks": checks,
        "findings": findings,
    })
}

/// A report for people.
pub(crate) struct Page<'a> {
    /// The scenario's name.
    pub(crate) scenario: &'a str,
    /// What is run, in a sentence.
    pub(crate) intro: &'a str,
    /// What was done.
    pub(crate) steps: &'a [Step],
    /// The ends of logs, shown when something does not hold.
    pub(crate) log: &'a str,
}

impl Page<'_> {
    /// The whole report; each section has a title and a body.
    pub(crate) fn text<'a>(
        &self,
        sections: impl IntoIterator<Item = (&'a str, String)>,
        checks: &[Check],
    ) -> String {
        let mut parts = vec![format!("xdp-lb lab: {}\n  {}\n", self.scenario, self.intro)];
        let last = [("Time", time(self.steps)), ("Verdict", verdicts(checks))];
        let sections = sections.into_iter().chain(last);
        parts.extend(sections.map(|(title, body)| format!("{title}\n{body}")));
        let failed = checks.iter().filter(|check| !check.pass).count();
        if failed == 0 {
            parts.push(format!("PASS: all {} checks hold.\n", checks.len()));
        } else {
            parts.push(format!("The log ends\n{}", indented(self.log)));
            parts.push(format!(
                "FAIL: {failed} of {} checks do not hold.\n",
                checks.len()
            ));
        }
        format!("\n{}", parts.join("\n"))
    }
}

fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.pass)
}

fn time(steps: &[Step]) -> String {
    let total: f64 = steps.iter().map(|step| step.seconds).sum();
    let mut rows: Vec<_> = steps
        .iter()
        .map(|step| vec![step.name.clone(), format!("{:.1} s", step.seconds)])
        .collect();
    rows.push(vec!["in all".to_owned(), format!("{total:.1} s")]);
    table("lr", rows)
}

fn verdicts(checks: &[Check]) -> String {
    let rows = checks.iter().map(|check| {
        let verdict = if check.pass { "PASS" } else { "FAIL" };
        vec![verdict.to_owned(), check.what.clone(), check.seen.clone()]
    });
    table("lll", rows)
}

/// Each line two columns in.
pub(crate) fn indented(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n") + "\n"
}

/// Rows in columns two spaces apart; `alignment` has an `l` or an `r` for each.
pub(crate) fn table(alignment: &str, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..alignment.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(alignment.chars());
        let padded: Vec<_> = cells
            .map(|((cell, &width), side)| match side {
                'r' => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            })
            .collect();
        format!("  {}", padded.join("  ").trim_end())
    };
    let lines: Vec<_> = rows.iter().map(line).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1"], ["long →", "23"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table("lr", rows), "  a        1\n  long →  23\n");
    }
}
