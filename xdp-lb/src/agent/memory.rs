//! What a successor has to know of pools, beyond the death of the agent: quorums within their margin,
//! and servers that grow.
//!
//! The file stands in the instance's folder under `/run`: a full stop forgets it, a restart does not.
//! Moments are of the clock that counts from the boot of the machine.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tracing::warn;

use crate::agent::vrrp::alive::boot_time;
use crate::plan::pool::memory::Memory;

/// The file.
#[derive(Debug, Default)]
pub struct MemoryFile {
    /// `None`: it is forgotten with the agent.
    path: Option<PathBuf>,
}

impl MemoryFile {
    /// The file of an instance.
    pub const fn new(path: PathBuf) -> Self {
        Self { path: Some(path) }
    }

    /// What a predecessor left. A file that cannot be read counts as empty.
    pub fn read(&self) -> Memory {
        let Some(path) = &self.path else {
            return Memory::default();
        };
        match fs::read_to_string(path) {
            Ok(text) => parse(&text, boot_time().unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => {
                warn!(
                    "{}: {error}; servers in slow start have their full weight at once",
                    path.display()
                );
                Memory::default()
            }
        }
    }

    /// Replaces the file; there is none when there is nothing to tell.
    pub fn write(&self, memory: &Memory) {
        let Some(path) = &self.path else { return };
        let written = if *memory == Memory::default() {
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        } else {
            let unfinished = path.with_extension("new");
            let text = text(memory, boot_time().unwrap_or_default());
            fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, path))
        };
        if let Err(error) = written {
            warn!(
                "{}: {error}; a restart gives servers in slow start their full weight at once",
                path.display()
            );
        }
    }
}

fn text(memory: &Memory, now: Duration) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (service, is_met) in &memory.quorums {
        let side = if *is_met { "met" } else { "lost" };
        writeln!(text, "{service} quorum {side}").ok();
    }
    for ((service, server), age) in &memory.growing {
        let came = now.saturating_sub(*age).as_millis();
        writeln!(text, "{service} {server} {came}").ok();
    }
    text
}

fn parse(text: &str, now: Duration) -> Memory {
    let mut memory = Memory::default();
    for line in text.lines() {
        parse_line(line, now, &mut memory);
    }
    memory
}

/// From the right: the name of a group may have spaces in it. A line that makes no sense says nothing.
fn parse_line(line: &str, now: Duration, memory: &mut Memory) -> Option<()> {
    let mut words = line.rsplitn(3, ' ');
    let (value, what) = (words.next()?, words.next()?);
    let service = words.next()?.parse().ok()?;
    if let ("quorum", "met" | "lost") = (what, value) {
        memory.quorums.insert(service, value == "met");
    } else {
        let came = Duration::from_millis(value.parse().ok()?);
        // A time that is still to come is of another boot.
        let age = now.checked_sub(came)?;
        memory.growing.insert((service, what.parse().ok()?), age);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{server_address, service_key};

    fn memory(age: u64) -> Memory {
        let group = "tcp/group:web one".parse().unwrap();
        Memory {
            quorums: [(service_key(0), true), (group, false)].into(),
            growing: [((group, server_address(1)), Duration::from_secs(age))].into(),
        }
    }

    #[test]
    fn a_successor_knows_for_how_long_a_server_has_been_back() {
        let text = text(&memory(7), Duration::from_secs(100));
        assert_eq!(parse(&text, Duration::from_secs(130)), memory(37));
        let another_boot = parse(&text, Duration::from_secs(92));
        assert!(another_boot.growing.is_empty(), "{another_boot:?}");
    }

    #[test]
    fn a_line_it_cannot_read_says_nothing() {
        let text = "nonsense\ntcp/1.2.3.4:80 quorum perhaps\ntcp/1.2.3.4:80 x 1\n\
                    tcp/1.2.3.4:80 10.0.0.1:80 -1\nx quorum met\n";
        assert_eq!(parse(text, Duration::from_secs(1)), Memory::default());
    }

    #[test]
    fn there_is_a_file_while_there_is_something_to_tell() {
        let folder = tempfile::tempdir().unwrap();
        let file = MemoryFile::new(folder.path().join("pools"));
        assert_eq!(file.read(), Memory::default());
        file.write(&memory(7));
        let read = file.read();
        assert_eq!(read.quorums, memory(7).quorums);
        assert_eq!(read.growing.len(), 1);
        file.write(&Memory::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
