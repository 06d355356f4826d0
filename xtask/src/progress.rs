//! Commands that take long: one live line on a terminal, a line now and then elsewhere, the whole
//! output in a log file, and its end on the screen if the command fails.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, PipeReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::tree;

/// How many lines of a failed command's output are shown.
const TAIL: usize = 15;
/// How often there is a sign of life where there is no live line.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Narrower than a terminal: a live line that wraps cannot be wiped.
const WIDTH: usize = 78;
/// Where no line is wiped, longer ones do no harm.
const LOG_WIDTH: usize = 120;

/// A message for people: on stderr, so that stdout stays data.
#[expect(clippy::print_stderr, reason = "the one place that speaks to people")]
pub(crate) fn say(message: fmt::Arguments<'_>) {
    eprintln!("{message}");
}

/// Runs a command. `what` says in a few words what it does: "installing nginx".
pub(crate) fn run(what: &str, mut command: Command) -> Result<()> {
    let shown = tree::show(&command);
    let directory = tree::target()?.join("xtask-log");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("{}.log", slug(what)));
    let log = File::create(&path).with_context(|| path.display().to_string())?;
    let (output, input) = io::pipe()?;
    let mut step = Step::begin(what);
    command
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input);
    let mut child = command
        .spawn()
        .with_context(|| format!("`{shown}` does not run"))?;
    // The command holds the writing end; the output ends when the child's copies are the last.
    drop(command);
    let tail = step.follow(output, log)?;
    let status = child.wait()?;
    step.end(status.success());
    if !status.success() {
        for line in tail {
            say(format_args!("    {line}"));
        }
        bail!(
            "{what}: `{shown}` failed ({status}); the whole output is in {}",
            path.display()
        );
    }
    Ok(())
}

/// A running command as a person sees it.
struct Step<'a> {
    what: &'a str,
    /// There is a terminal, so that a line can be overwritten.
    live: bool,
    start: Instant,
    last: Instant,
}

impl<'a> Step<'a> {
    fn begin(what: &'a str) -> Self {
        let now = Instant::now();
        let live = io::stderr().is_terminal();
        if !live {
            say(format_args!("{what} …"));
        }
        Self {
            what,
            live,
            start: now,
            last: now,
        }
    }

    /// Reads the output to its end; returns the last lines.
    fn follow(&mut self, output: PipeReader, mut log: File) -> io::Result<VecDeque<String>> {
        let mut tail = VecDeque::with_capacity(TAIL);
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            log.write_all(&line)?;
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            line.clear();
            if text.is_empty() {
                continue;
            }
            self.show(&text);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text);
        }
        Ok(tail)
    }

    fn show(&mut self, text: &str) {
        let seconds = self.start.elapsed().as_secs();
        let width = if self.live { WIDTH } else { LOG_WIDTH };
        let line = format!("{} ({seconds} s): {text}", self.what);
        let printable = line.chars().filter(|c| !c.is_control());
        let line: String = printable.take(width).collect();
        if self.live {
            write!(io::stderr(), "\r\x1b[K{line}").ok();
        } else if self.last.elapsed() >= SIGN_OF_LIFE {
            self.last = Instant::now();
            say(format_args!("{line}"));
        }
    }

    fn end(&self, success: bool) {
        let wipe = if self.live { "\r\x1b[K" } else { "" };
        let outcome = if success { "done" } else { "failed" };
        let seconds = self.start.elapsed().as_secs_f32();
        say(format_args!(
            "{wipe}{}: {outcome} in {seconds:.0} s",
            self.what
        ));
    }
}

/// A file name: `installing nginx` is `installing-nginx`.
fn slug(what: &str) -> String {
    what.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(60)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_the_status_and_a_log_with_both_streams() {
        let error = run("test of a failure", sh("echo one; echo two >&2; exit 3")).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("sh -c") && message.contains("exit status: 3"),
            "{message}"
        );
        let log = message.rsplit(' ').next().unwrap();
        assert_eq!(fs::read_to_string(log).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn only_the_last_lines_are_kept_for_the_screen() {
        let (output, input) = io::pipe().unwrap();
        let mut child = sh("seq 100").stdout(input).spawn().unwrap();
        let log = tempfile::tempfile().unwrap();
        let tail = Step::begin("counting").follow(output, log).unwrap();
        child.wait().unwrap();
        assert_eq!(tail.len(), TAIL);
        assert_eq!(tail.back().map(String::as_str), Some("100"));
    }
}
