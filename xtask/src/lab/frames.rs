//! Counting the service's frames where the switch sees them.

use anyhow::Result;
use xdp_lb_tests::capture::{Capture, Way};

use super::cluster::Cluster;
use super::findings::Frames;
use super::seed::Seed;

/// Running counts.
pub(crate) struct Captures {
    to_director: Capture,
    from_director: Capture,
    replies_to_director: Capture,
    replies_to_client: Capture,
}

impl Captures {
    /// Starts counting.
    pub(crate) fn start(cluster: &mut Cluster, seed: &Seed) -> Result<Self> {
        let Cluster {
            lan,
            client,
            director,
            ..
        } = &*cluster;
        let (vip, port, scratch) = (seed.vip, seed.port, cluster.scratch());
        let requests = format!("dst host {vip} and tcp dst port {port}");
        let replies = format!("src host {vip} and tcp src port {port}");
        let start = |name: &str, at: &str, way, filter: &str| {
            Capture::start((name, scratch), (lan.switch(), at), way, filter)
        };
        let (director, client) = (&*director.name, &*client.name);
        let captures = Self {
            to_director: start("to-director", director, Way::ToHost, &requests)?,
            from_director: start("from-director", director, Way::FromHost, &requests)?,
            replies_to_director: start("replies-to-director", director, Way::ToHost, &replies)?,
            replies_to_client: start("replies-to-client", client, Way::ToHost, &replies)?,
        };
        let all = [
            &captures.to_director,
            &captures.from_director,
            &captures.replies_to_director,
            &captures.replies_to_client,
        ];
        for capture in all {
            cluster.ledger.process(capture.process())?;
        }
        Ok(captures)
    }

    /// Ends the counts and returns them.
    pub(crate) fn finish(self) -> Result<Frames> {
        Ok(Frames {
            to_director: self.to_director.finish()?,
            from_director: self.from_director.finish()?,
            replies_to_director: self.replies_to_director.finish()?,
            replies_to_client: self.replies_to_client.finish()?,
        })
    }
}
