//! What the kernel's verifier says of a program.

use std::io::Error;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, bail};
use aya::programs::{ProgramError, Xdp};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lines of what the verifier says that are kept of a program which it refuses.
const TAIL: usize = 20;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the program.
    Loaded(Stats),
    /// It does not: the kernel's error, and the last lines of the verifier.
    Refused(String),
}

/// What a program costs to verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions after the verifier's changes, of the program and the functions it calls.
    pub instructions: u64,
    /// Instructions that the verifier walked, of a million.
    pub verified: u64,
    /// States it made.
    pub states: u64,
    /// States it held at once.
    pub peak: u64,
    /// Octets of stack of the program and of each function.
    pub stack: String,
}

impl Stats {
    /// The deepest stack of a function.
    pub fn deepest(&self) -> u64 {
        let depths = self.stack.split('+').filter_map(|depth| depth.parse().ok());
        depths.max().unwrap_or(0)
    }
}

/// Loads a program and tells what that took; it stays loaded.
///
/// The loader keeps what the verifier said only if the load fails. So it is made to fail first, at its
/// very end: the process may open no more files, and the kernel has verified the program before it finds
/// that out. No other thread may open files meanwhile.
///
/// # Errors
/// When the program is loaded already, or the kernel says nothing of it.
pub fn examine(program: &mut Xdp) -> Result<Verdict> {
    let said = match without_files(|| program.load())? {
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            let said = verifier_log.to_string();
            if io_error.raw_os_error() != Some(Errno::EMFILE as i32) {
                return Ok(Verdict::Refused(refusal(&io_error, &said)));
            }
            said
        }
        Err(error) => return Err(error.into()),
        Ok(()) => bail!("the kernel gave a descriptor although there was none left"),
    };
    let mut stats = parse(&said).with_context(|| format!("the verifier said: {said}"))?;
    program.load().context("a program that was just verified")?;
    let size = program.info()?.size_translated().unwrap_or(0);
    stats.instructions = u64::from(size) / 8;
    Ok(Verdict::Loaded(stats))
}

fn without_files<T>(what: impl FnOnce() -> T) -> Result<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The least number that is free is the first that must not be given.
    let free = std::fs::File::open("/dev/null")?.as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, free.try_into()?, hard)?;
    let done = what();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(done)
}

fn refusal(error: &Error, said: &str) -> String {
    let lines: Vec<_> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tail = lines
        .get(lines.len().saturating_sub(TAIL)..)
        .unwrap_or_default();
    format!("{error}\n{}", tail.join("\n"))
}

/// Reads what `BPF_LOG_STATS` prints.
fn parse(said: &str) -> Option<Stats> {
    let processed = said
        .lines()
        .rev()
        .find(|line| line.starts_with("processed "))?;
    let words: Vec<_> = processed.split_whitespace().collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    let stack = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("stack depth "));
    Some(Stats {
        instructions: 0,
        verified: after("processed")?,
        states: after("total_states")?,
        peak: after("peak_states")?,
        stack: stack
            .unwrap_or_default()
            .split_whitespace()
            .next()?
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_the_verifier_are_read() {
        let said = "verification time 1021 usec\nstack depth 176+0+48\nprocessed 8834 insns (limit \
                    1000000) max_states_per_insn 15 total_states 423 peak_states 223 mark_read 34\n";
        let stats = parse(said).unwrap();
        assert_eq!((stats.verified, stats.states, stats.peak), (8834, 423, 223));
        assert_eq!((stats.stack.as_str(), stats.deepest()), ("176+0+48", 176));
        assert_eq!(parse("R1 invalid mem access 'scalar'"), None);
    }

    #[test]
    fn a_refusal_ends_with_what_was_said_last() {
        let said: Vec<_> = (0..40).map(|n| format!("line {n}\n\n")).collect();
        let said = said.concat();
        let told = refusal(&Error::from_raw_os_error(13), &said);
        assert!(
            told.starts_with("Permission denied") && told.ends_with("line 39"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1 + TAIL);
    }
}
