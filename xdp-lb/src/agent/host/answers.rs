//! What operators and monitoring are answered: the servers beside the agent, and what they ask it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::agent::looks;
use crate::agent::reconciler::{Inspection, View};
use crate::agent::sync::Syncing;
use crate::agent::vrrp::{Inputs, Report};
use crate::control::looks::Looks;
use crate::control::orders::Orders;
use crate::control::snapshot::SnapshotInputs;
use crate::control::{self, Snapshot, Snapshots};
use crate::machine::Now;
use crate::sync::report as sync_report;
use crate::sys::instance::Name;
use crate::telemetry::http;
use crate::telemetry::metrics::HealthMetrics;

/// The servers beside the agent.
#[derive(Default)]
pub(super) struct Servers {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Servers {
    /// The control socket and the metrics.
    pub(super) fn start(
        (control, orders, lens): (control::server::Bound, Orders, looks::Seen),
        (metrics, health): (http::Bound, HealthMetrics),
        snapshots: Snapshots,
    ) -> Self {
        let mut servers = Self::default();
        let stop = servers.stop.clone();
        servers.add_control(control, snapshots.clone(), orders, lens);
        servers.add("metrics", http::serve(metrics, snapshots, health, stop));
        servers
    }

    fn add<E: std::error::Error + Send>(
        &mut self,
        what: &'static str,
        server: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            if let Err(reason) = server.await {
                error!("the {what} is not served any more: {reason}");
            }
        });
    }

    /// The control socket, and what answers there about decisions.
    fn add_control(
        &mut self,
        control: control::server::Bound,
        snapshots: Snapshots,
        orders: Orders,
        lens: looks::Seen,
    ) {
        let (looks, looked) = Looks::channel();
        let answers = looks::answer(looked, lens, snapshots.clone());
        self.add("answers about decisions", answers.map(Ok::<_, Infallible>));
        let agent = control::server::Agent {
            snapshots,
            orders,
            looks,
        };
        self.add("control socket", control.serve(agent, self.stop.clone()));
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Turns what operators and monitoring ask into questions to the agent.
pub(super) async fn report(
    name: Name,
    mut asked: mpsc::Receiver<oneshot::Sender<Arc<Snapshot>>>,
    inspect: mpsc::Sender<Inspection>,
    (routers, syncing): (Inputs, Option<Syncing>),
) {
    let started = Instant::now();
    while let Some(reply) = asked.recv().await {
        let name = name.clone();
        let routers = routers.report().await;
        let sync = match &syncing {
            Some(syncing) => syncing.report().await,
            None => None,
        };
        let inspection: Inspection = Box::new(move |view: &View<'_>| {
            let snapshot = snapshot(
                &name,
                started.elapsed(),
                (routers.as_ref(), sync.as_ref()),
                view,
            );
            // Whoever asked may have gone.
            drop(reply.send(Arc::new(snapshot)));
        });
        if inspect.send(inspection).await.is_err() {
            return;
        }
    }
}

/// Without `routers` no election is held any more: states follow who owns what.
fn snapshot(
    name: &Name,
    uptime: Duration,
    (routers, sync): (Option<&Report>, Option<&sync_report::Report>),
    view: &View<'_>,
) -> Snapshot {
    Snapshot::build(&SnapshotInputs {
        instance: name.as_str(),
        version: env!("CARGO_PKG_VERSION"),
        uptime,
        config: view.config,
        desired: view.desired,
        health: view.health,
        pools: view.pools,
        overrides: view.overrides,
        pools_now: view.now,
        ownership: view.ownership,
        vrrp: routers.map_or(&[], |report| &report.routers),
        vrrp_now: routers.map_or(Now::ZERO, |report| report.now),
        sync,
        network: view.network,
        counters: view.counters,
        attached: view.attached,
        remarks: view.remarks,
        refused: view.refused,
    })
}
