//! The figures of a benchmark, each with what it must not be above, as text and as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

/// The table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    rows: Vec<Row>,
}

/// A figure.
#[derive(Clone, Debug, Serialize)]
struct Row {
    when: String,
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// What it must not be above.
    limit: Option<f64>,
}

impl Row {
    fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.value > limit)
    }
}

impl Figures {
    /// Adds a figure: in what situation, what it says, its unit, and the limit that it has to keep.
    pub fn add(
        &mut self,
        when: &str,
        what: &'static str,
        (value, unit): (f64, &'static str),
        limit: Option<f64>,
    ) {
        self.rows.push(Row {
            when: when.to_owned(),
            what,
            value: (value * 100.0).round() / 100.0,
            unit,
            limit,
        });
    }

    /// For people.
    pub fn text(&self, heading: &str) -> String {
        let mut text = format!("{heading}\n");
        for row in &self.rows {
            let limit = match row.limit {
                Some(limit) if row.is_over() => format!("OVER {limit}"),
                Some(limit) => format!("limit {limit}"),
                None => String::new(),
            };
            let line = writeln!(
                text,
                "{:26} {:40} {:>10.2} {:4} {limit}",
                row.when, row.what, row.value, row.unit
            );
            debug_assert!(line.is_ok(), "writing to a string");
        }
        text
    }

    /// Writes them to a file, if one is wanted.
    ///
    /// # Errors
    /// When it cannot be written, and when a limit is not kept.
    pub fn finish(&self, json: Option<&Path>) -> Result<()> {
        if let Some(file) = json {
            let text = serde_json::to_string_pretty(self)?;
            std::fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
        }
        if self.rows.iter().any(Row::is_over) {
            bail!("a limit is not kept");
        }
        Ok(())
    }
}

/// The file for `--json`, the only option there is.
pub fn json_file(mut arguments: impl Iterator<Item = String>) -> Result<Option<PathBuf>> {
    let mut json = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--json" => {
                let value = arguments.next().context("--json wants a value")?;
                json = Some(value.into());
            }
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_limit_is_shown_and_fails() {
        let mut figures = Figures::default();
        figures.add("idle", "CPU time", (12.345, "%"), Some(20.0));
        figures.add("idle", "memory", (5.0, "MB"), None);
        figures.finish(None).unwrap();
        figures.add("busy", "CPU time", (20.01, "%"), Some(20.0));
        let text = figures.text("heading");
        assert!(text.starts_with("heading\nidle "), "{text}");
        assert!(text.contains("12.35 %    limit 20"), "{text}");
        assert!(text.contains("20.01 %    OVER 20"), "{text}");
        let said = figures.finish(None).unwrap_err().to_string();
        assert_eq!(said, "a limit is not kept");
    }

    #[test]
    fn the_file_for_json_is_taken_off_the_command_line() {
        let of = |words: &[&str]| json_file(words.iter().map(ToString::to_string));
        assert_eq!(of(&["--bench"]).unwrap(), None);
        let file = of(&["--json", "x.json", "--bench"]).unwrap();
        assert_eq!(file, Some("x.json".into()));
        assert!(of(&["--json"]).is_err());
        assert!(of(&["--jsn", "x"]).is_err());
    }
}
