//! Carries out what the machine of the health checks wants.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::lateness::Lateness;
use super::places::Places;
use super::{Observers, Probed};
use crate::agent::drive::{Clock, Effects};
use crate::config::model::Probe;
use crate::health::Outcome;
use crate::health::check::Start;
use crate::health::monitor::{Action, CheckId, Input, Monitor};
use crate::health::report::{News, Report};
use crate::plan::table::Health;

/// Starts probes, publishes verdicts and says what became of servers.
pub(super) struct Prober<P> {
    probe: P,
    publish: watch::Sender<Health>,
    shared: Arc<Shared>,
}

/// What all probes under way have.
struct Shared {
    clock: Clock,
    /// Weak, so that the driver ends when [`Checks`](super::Checks) is dropped.
    outcomes: mpsc::WeakSender<Input>,
    places: Arc<Places>,
    observers: Observers,
    lateness: Mutex<Lateness>,
}

impl<P> Prober<P> {
    pub(super) fn new(
        probe: P,
        clock: Clock,
        outcomes: mpsc::WeakSender<Input>,
        places: &Arc<Places>,
        observers: Observers,
        publish: watch::Sender<Health>,
    ) -> Self {
        Self {
            probe,
            publish,
            shared: Arc::new(Shared {
                clock,
                outcomes,
                places: Arc::clone(places),
                observers,
                lateness: Mutex::default(),
            }),
        }
    }
}

impl<P, F> Effects<Monitor> for Prober<P>
where
    P: Fn(Arc<Probe>) -> F + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    fn carry_out(&mut self, monitor: &Monitor, action: Action) {
        match action {
            Action::Probe(check, start) => {
                let probe = (self.probe)(Arc::clone(&start.probe));
                tokio::spawn(run(Arc::clone(&self.shared), check, start, probe));
            }
            Action::Verdict(server, verdict) => self.publish.send_modify(|health| {
                health.insert(server, verdict);
            }),
            Action::Verdicts => {
                self.publish.send_replace(monitor.health().clone());
            }
            Action::Report(report) => {
                tell(&report);
                (self.shared.observers.reported)(&report);
            }
            Action::Rest(rest) => info!(service = %rest.service, "{rest}"),
        }
    }
}

/// Carries out actions that came about before the driver ran.
pub(super) fn carry_out<E: Effects<Monitor>>(
    effects: &mut E,
    monitor: &Monitor,
    actions: Vec<Action>,
) {
    for action in actions {
        effects.carry_out(monitor, action);
    }
}

async fn run(
    shared: Arc<Shared>,
    check: CheckId,
    start: Start,
    probe: impl Future<Output = Outcome>,
) {
    let place = shared.places.take(&start.probe, start.slow).await;
    let late = start.due.until(shared.clock.now());
    shared.note(late);
    let began = Instant::now();
    let outcome = probe.await;
    let took = began.elapsed();
    drop(place);
    (shared.observers.probed)(&Probed {
        outcome: &outcome,
        took,
        late,
    });
    match &outcome {
        Outcome::Passed | Outcome::Weighed(_) => {}
        Outcome::Failed(failure) => debug!("check of {} failed: {failure}", name(&start.probe)),
        Outcome::Inconclusive(reason) => {
            let name = name(&start.probe);
            warn!("{name} cannot be checked, its verdict stands: {reason}");
        }
    }
    if let Some(outcomes) = shared.outcomes.upgrade() {
        // The machine is gone only if the agent stops.
        let input = Input::Finished(check, outcome, took);
        outcomes.send(input).await.ok();
    }
}

impl Shared {
    fn note(&self, late: std::time::Duration) {
        // Nobody panics while holding it.
        let lateness = self.lateness.lock();
        let mut lateness = lateness.unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = lateness.note(late, Instant::now()) {
            warn!("{said}");
        }
    }
}

fn name(probe: &Probe) -> String {
    match probe.target() {
        Some(address) => address.to_string(),
        None => probe.name().to_owned(),
    }
}

fn tell(report: &Report) {
    let (service, _) = report.server;
    match report.news {
        News::Up | News::Weighed { .. } => info!(%service, "{report}"),
        News::Down { .. } | News::Retried { .. } | News::StillDown { .. } => {
            warn!(%service, "{report}");
        }
    }
}
