//! Remembers which VIPs an agent put on links, beyond its death.
//!
//! A start after a crash with another configuration finds addresses that nobody wants. It may remove
//! those that are known to be ours and no others: the administrator's own look just the same. The
//! file stands in the instance's folder under `/run`, so that it does not outlive the addresses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing::warn;

use crate::plan::desired::OwnedAddress;

/// The VIPs that this agent and its predecessors added.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    added: BTreeSet<(u32, IpNet)>,
}

impl Journal {
    /// Opens the journal, which may not exist yet. One that cannot be read counts as empty.
    pub fn open(path: PathBuf) -> Self {
        let added = match fs::read_to_string(&path) {
            Ok(text) => text.lines().filter_map(parse).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => {
                warn!(
                    "{}: {error}; VIPs of an agent before are not known",
                    path.display()
                );
                BTreeSet::new()
            }
        };
        Self { path, added }
    }

    /// The VIPs in it, as far as they name an address to the kernel.
    pub fn addresses(&self) -> BTreeSet<OwnedAddress> {
        let address = |&(ifindex, address): &(u32, IpNet)| OwnedAddress {
            ifindex,
            address,
            label: None,
            broadcast: None,
            scope: 0,
        };
        self.added.iter().map(address).collect()
    }

    /// A VIP was added.
    pub fn add(&mut self, address: &OwnedAddress) {
        if self.added.insert((address.ifindex, address.address)) {
            self.write();
        }
    }

    /// A VIP was removed.
    pub fn remove(&mut self, address: &OwnedAddress) {
        if self.added.remove(&(address.ifindex, address.address)) {
            self.write();
        }
    }

    /// Replaces the file; an empty journal has none.
    fn write(&self) {
        let written = if self.added.is_empty() {
            fs::remove_file(&self.path)
        } else {
            let mut text = String::new();
            for (ifindex, address) in &self.added {
                // Writing to a string cannot fail.
                writeln!(text, "{ifindex} {address}").ok();
            }
            let unfinished = self.path.with_extension("new");
            fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &self.path))
        };
        if let Err(error) = written {
            warn!(
                "{}: {error}; if this agent is killed, the next one does not know its VIPs",
                self.path.display()
            );
        }
    }
}

fn parse(line: &str) -> Option<(u32, IpNet)> {
    let (ifindex, address) = line.split_once(' ')?;
    Some((ifindex.parse().ok()?, address.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(ifindex: u32, address: &str) -> OwnedAddress {
        OwnedAddress {
            ifindex,
            address: address.parse().unwrap(),
            label: None,
            broadcast: None,
            scope: 0,
        }
    }

    #[test]
    fn it_remembers_what_was_added_and_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips");
        let mut journal = Journal::open(path.clone());
        let (a, b) = (vip(2, "192.168.1.200/24"), vip(3, "2001:db8::1/128"));
        journal.add(&a);
        journal.add(&b);
        journal.add(&a);
        assert_eq!(
            Journal::open(path.clone()).addresses(),
            [a.clone(), b.clone()].into()
        );
        journal.remove(&a);
        assert_eq!(Journal::open(path.clone()).addresses(), [b.clone()].into());
        journal.remove(&b);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }

    #[test]
    fn a_line_it_cannot_read_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips");
        fs::write(&path, "2 192.168.1.200/24\nnonsense\n3 10.0.0.1/99\n").unwrap();
        let known = Journal::open(path).addresses();
        assert_eq!(known, [vip(2, "192.168.1.200/24")].into());
    }
}
