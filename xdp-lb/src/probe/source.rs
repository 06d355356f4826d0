//! Where probes come from unless the file says so.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::model::Connection;
use crate::net::source::{Here, Way, here, instead_of, natural};

/// How long the addresses of this host are taken for what they were: to list them takes the kernel as
/// long as many probes.
const STANDS: Duration = Duration::from_secs(1);

/// Finds addresses that are no VIPs: real servers that have a VIP themselves answer to it themselves.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    vips: BTreeSet<IpAddr>,
    here: Mutex<Option<(Instant, Arc<[Here]>)>>,
}

impl Sources {
    /// None of these is a source.
    pub(crate) fn other_than(vips: BTreeSet<IpAddr>) -> Self {
        Self {
            vips,
            here: Mutex::default(),
        }
    }

    /// What to bind to, when the kernel would choose a VIP and there is something better.
    pub(super) fn instead(&self, connection: &Connection) -> Option<SocketAddr> {
        if self.vips.is_empty() {
            return None;
        }
        let way = Way {
            to: connection.target,
            interface: connection.interface.as_deref(),
            mark: connection.mark,
        };
        // Without a way the probe itself says why.
        let natural = natural(&way).ok()?.ip();
        let target = connection.target.ip();
        // A server on this host is talked to from its own address.
        if natural == target || !self.vips.contains(&natural) {
            return None;
        }
        let here = self.here_with(natural);
        instead_of(natural, (target, None), &here, &self.vips)
    }

    /// The addresses of this host, after `vip` came.
    fn here_with(&self, vip: IpAddr) -> Arc<[Here]> {
        // Nobody panics while holding it.
        let mut known = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, here)) = &*known
            && since.elapsed() < STANDS
            && here.iter().any(|of| of.address.ip() == vip)
        {
            return Arc::clone(here);
        }
        let (_, here) = known.insert((Instant::now(), here().into()));
        Arc::clone(here)
    }
}
