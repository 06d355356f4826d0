//! When an agent was last alive, beyond its death: a file in the instance's folder.
//!
//! It holds a time of the clock that counts from the boot of the machine, which nobody sets, and
//! whether the agent left in good order: then its last advert was sent at that very time, else up to
//! an interval before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::task::JoinHandle;
use tracing::warn;

/// How often it is written: a fraction of the shortest time in which anybody could take over from an
/// agent that restarts.
const EVERY: Duration = Duration::from_millis(250);

/// What a predecessor's file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// How long ago it was alive.
    pub ago: Duration,
    /// It left in good order.
    pub left: bool,
}

/// Reads the file of a predecessor; `None` if there was none, or if it says nothing.
pub fn last_seen(path: &Path) -> Option<LastSeen> {
    parse(&fs::read_to_string(path).ok()?, boot_time()?)
}

fn parse(text: &str, now: Duration) -> Option<LastSeen> {
    let (time, left) = match text.trim_end().split_once(' ') {
        Some((time, "left")) => (time, true),
        Some(_) => return None,
        None => (text.trim_end(), false),
    };
    let at = Duration::from_millis(time.parse().ok()?);
    // A time that is still to come is of another boot.
    let ago = now.checked_sub(at)?;
    Some(LastSeen { ago, left })
}

/// The clock that counts from the boot of the machine.
pub(in crate::agent) fn boot_time() -> Option<Duration> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Some(time.into())
}

/// Writes the file for as long as it lives.
#[derive(Debug)]
pub struct Alive {
    file: File,
    task: JoinHandle<()>,
}

impl Alive {
    /// Must be called inside a tokio runtime.
    pub fn start(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let beating = file.try_clone()?;
        let task = tokio::spawn(async move {
            let mut is_told = false;
            loop {
                if let Err(error) = write(&beating, false)
                    && !is_told
                {
                    is_told = true;
                    warn!("a restart cannot know how long this agent was away: {error}");
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Ok(Self { file, task })
    }

    /// The agent leaves in good order, now.
    pub fn leave(self) {
        self.task.abort();
        if let Err(error) = write(&self.file, true) {
            warn!("a successor cannot know when this agent left: {error}");
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One write of one length, so that whoever is killed leaves no half of it.
fn write(file: &File, left: bool) -> io::Result<()> {
    let now = boot_time().unwrap_or_default().as_millis();
    let how = if left { "left" } else { "" };
    file.write_all_at(format!("{now:020} {how:4}\n").as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_reads_how_long_ago_and_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        assert_eq!(last_seen(&path), None);
        let file = File::create(&path).unwrap();
        for left in [false, true, false] {
            write(&file, left).unwrap();
            let seen = last_seen(&path).unwrap();
            assert_eq!(seen.left, left);
            assert!(seen.ago < Duration::from_secs(10), "{seen:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        let now = Duration::from_secs(10);
        let text = "00000000000000009000     \n";
        let seen = parse(text, now).unwrap();
        assert_eq!((seen.ago, seen.left), (Duration::from_secs(1), false));
        for text in [
            "",
            "\n",
            "soon",
            "00000000000000011000     \n",
            "9000 gone\n",
        ] {
            assert_eq!(parse(text, now), None, "{text:?}");
        }
    }
}
