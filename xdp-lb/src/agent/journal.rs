//! Remembers which VIPs, routes, rules and interfaces an agent put in place, beyond its death.
//!
//! A start after a crash with another configuration finds what nobody wants. It may remove
//! those that are known to be ours and no others: the administrator's own look just the same. The
//! file stands in the instance's folder under `/run`, so that it does not outlive the addresses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing::warn;

use crate::plan::belongings::Belonging;
use crate::plan::desired::OwnedAddress;

/// What this agent and its predecessors added.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    kept: Kept,
}

/// What names an address to the kernel.
type Named = (u32, IpNet, Option<IpAddr>);

/// What stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    /// Index of the interface, address and prefix length, other end of a point-to-point link.
    addresses: BTreeSet<Named>,
    belongings: Vec<Belonging>,
    /// Settings of the kernel that interfaces with a virtual MAC need otherwise, as they were.
    settings: Vec<(PathBuf, String)>,
}

/// Begins the line of something that came with a VIP.
const WITH: &str = "with ";
/// Stands between an address and the other end of its link.
const PEER: &str = " peer ";
/// Begins the line of a setting.
const BEFORE: &str = "before ";

impl Journal {
    /// Opens the journal, which may not exist yet. One that cannot be read counts as empty.
    pub fn open(path: PathBuf) -> Self {
        let kept = match fs::read_to_string(&path) {
            Ok(text) => parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => {
                warn!(
                    "{}: {error}; VIPs of an agent before are not known",
                    path.display()
                );
                Kept::default()
            }
        };
        Self { path, kept }
    }

    /// The VIPs in it, as far as they name an address to the kernel.
    pub fn addresses(&self) -> BTreeSet<OwnedAddress> {
        let address = |&(ifindex, address, peer): &Named| OwnedAddress {
            peer,
            ..OwnedAddress::new(ifindex, address)
        };
        self.kept.addresses.iter().map(address).collect()
    }

    /// What came with VIPs, the first first.
    pub fn belongings(&self) -> &[Belonging] {
        &self.kept.belongings
    }

    /// Settings of the kernel that were changed, as they were, the first first.
    pub fn settings(&self) -> &[(PathBuf, String)] {
        &self.kept.settings
    }

    /// Something that comes with a VIP was put in place.
    pub fn put(&mut self, belonging: &Belonging) {
        if !self.kept.belongings.contains(belonging) {
            self.kept.belongings.push(belonging.clone());
            self.write();
        }
    }

    /// It was taken out.
    pub fn take(&mut self, belonging: &Belonging) {
        let before = self.kept.belongings.len();
        self.kept.belongings.retain(|other| other != belonging);
        if self.kept.belongings.len() != before {
            self.write();
        }
    }

    /// These settings are changed now.
    pub fn set_settings(&mut self, settings: &[(PathBuf, String)]) {
        if self.kept.settings != settings {
            self.kept.settings = settings.to_vec();
            self.write();
        }
    }

    /// A VIP was added.
    pub fn add(&mut self, address: &OwnedAddress) {
        if self.kept.addresses.insert(named(address)) {
            self.write();
        }
    }

    /// A VIP was removed.
    pub fn remove(&mut self, address: &OwnedAddress) {
        if self.kept.addresses.remove(&named(address)) {
            self.write();
        }
    }

    /// Replaces the file; an empty journal has none.
    fn write(&self) {
        let written = if self.kept == Kept::default() {
            fs::remove_file(&self.path)
        } else {
            let text = text(&self.kept);
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

fn text(kept: &Kept) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail, nor has any of it a key that is no string.
    for (ifindex, address, peer) in &kept.addresses {
        let peer = peer.map(|peer| format!("{PEER}{peer}")).unwrap_or_default();
        writeln!(text, "{ifindex} {address}{peer}").ok();
    }
    for belonging in &kept.belongings {
        if let Ok(line) = serde_json::to_string(belonging) {
            writeln!(text, "{WITH}{line}").ok();
        }
    }
    for (path, value) in &kept.settings {
        writeln!(text, "{BEFORE}{value} {}", path.display()).ok();
    }
    text
}

/// A line that is not understood, of another version perhaps, is left out.
fn parse(text: &str) -> Kept {
    let mut kept = Kept::default();
    for line in text.lines() {
        if let Some(belonging) = line.strip_prefix(WITH) {
            kept.belongings.extend(serde_json::from_str(belonging).ok());
        } else if let Some(setting) = line.strip_prefix(BEFORE) {
            let setting = setting.split_once(' ');
            let setting = setting.map(|(value, path)| (PathBuf::from(path), value.to_owned()));
            kept.settings.extend(setting);
        } else {
            kept.addresses.extend(address(line));
        }
    }
    kept
}

fn address(line: &str) -> Option<Named> {
    let (ifindex, address) = line.split_once(' ')?;
    let (address, peer) = match address.split_once(PEER) {
        Some((address, peer)) => (address, Some(peer.parse().ok()?)),
        None => (address, None),
    };
    Some((ifindex.parse().ok()?, address.parse().ok()?, peer))
}

fn named(address: &OwnedAddress) -> Named {
    (address.ifindex, address.address, address.peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(ifindex: u32, address: &str) -> OwnedAddress {
        OwnedAddress::new(ifindex, address.parse().unwrap())
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
