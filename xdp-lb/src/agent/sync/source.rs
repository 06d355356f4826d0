//! Which address datagrams to another director come from.
//!
//! Peers know a director by it, so it must not be a VIP, nor change when one comes or goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::net::source::{Way, here, instead_of, natural};

/// How long a choice stands: addresses and routes come and go.
const STANDS: Duration = Duration::from_secs(1);

/// The choices.
#[derive(Debug, Default)]
pub(super) struct Sources {
    vips: BTreeSet<IpAddr>,
    interface: Option<String>,
    chosen: BTreeMap<SocketAddr, (Instant, Option<SocketAddr>)>,
}

impl Sources {
    /// No VIP is ever chosen while there is anything else. Datagrams leave by `interface`, if there is
    /// one.
    pub(super) fn new(vips: BTreeSet<IpAddr>, interface: Option<String>) -> Self {
        Self {
            vips,
            interface,
            chosen: BTreeMap::new(),
        }
    }

    /// Where a datagram to this peer or group comes from; `None`: that is for the kernel to say.
    pub(super) fn of(&mut self, to: SocketAddr) -> Option<SocketAddr> {
        let known = self.chosen.get(&to).copied();
        if let Some((since, chosen)) = known
            && since.elapsed() < STANDS
        {
            return chosen;
        }
        let before = known.and_then(|(_, chosen)| chosen);
        let chosen = self.choose(to, before);
        self.chosen.insert(to, (Instant::now(), chosen));
        chosen
    }

    /// What was chosen does not do any more.
    pub(super) fn forget(&mut self) {
        self.chosen.clear();
    }

    fn choose(&self, to: SocketAddr, before: Option<SocketAddr>) -> Option<SocketAddr> {
        let way = Way {
            to,
            interface: self.interface.as_deref(),
            mark: 0,
        };
        let natural = natural(&way).ok()?;
        if !self.vips.contains(&natural.ip()) {
            return Some(natural);
        }
        let before = before.map(|before| before.ip());
        instead_of(natural.ip(), (to.ip(), before), &here(), &self.vips)
    }
}
