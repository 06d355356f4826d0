//! Drives the health checks: starts probes, passes their outcomes on, tells of verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::drive::{Clock, Effects, drive};
use crate::config::model::{Config, Probe};
use crate::health::Outcome;
use crate::health::monitor::{Action, CheckId, Input, Monitor};
use crate::health::report::{Report, Verdict};
use crate::health::target::targets;
use crate::plan::installed::ServerKey;
use crate::plan::table::Health;
use crate::probe;

/// Probes under way at a time; more wait their turn.
pub const MAX_PROBES: usize = 256;

/// Inputs that wait for the machine.
const WAITING: usize = 256;

/// Is told of each probe that ended: how, and how long it took.
pub type Observer = Arc<dyn Fn(&Outcome, Duration) + Send + Sync>;

/// The running checks. They end when this is dropped.
#[derive(Debug)]
pub struct Checks {
    inputs: mpsc::Sender<Input>,
    verdicts: watch::Receiver<Health>,
}

impl Checks {
    /// Starts the checks of a configuration. `inherited` holds the verdicts of a predecessor, `seed`
    /// spreads the first checks over their warm-up.
    pub fn start(
        config: &Config,
        inherited: &BTreeMap<ServerKey, bool>,
        seed: u64,
        observer: Observer,
    ) -> Self {
        let probe = |probe: Probe| async move { probe::run(&probe).await };
        Self::start_with(config, inherited, seed, observer, probe)
    }

    fn start_with<P, F>(
        config: &Config,
        inherited: &BTreeMap<ServerKey, bool>,
        seed: u64,
        observer: Observer,
        probe: P,
    ) -> Self
    where
        P: Fn(Probe) -> F + Send + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let clock = Clock::start();
        let monitor = Monitor::new(clock.now(), targets(config), inherited, seed);
        let (inputs, receiver) = mpsc::channel(WAITING);
        let (publish, verdicts) = watch::channel(monitor.health().clone());
        let prober = Prober {
            probe,
            outcomes: inputs.downgrade(),
            places: Arc::new(Semaphore::new(MAX_PROBES)),
            observer,
            publish,
        };
        tokio::spawn(drive(monitor, clock, receiver, prober));
        Self { inputs, verdicts }
    }

    /// The verdicts, as they change.
    pub fn verdicts(&self) -> watch::Receiver<Health> {
        self.verdicts.clone()
    }

    /// Checks what a new configuration asks for; what is checked as before goes on undisturbed.
    pub async fn reload(&self, config: &Config) {
        let input = Input::Targets(targets(config));
        if self.inputs.send(input).await.is_err() {
            warn!("health checks have ended; the new configuration has none");
        }
    }
}

struct Prober<P> {
    probe: P,
    /// Weak, so that the driver ends when [`Checks`] is dropped.
    outcomes: mpsc::WeakSender<Input>,
    places: Arc<Semaphore>,
    observer: Observer,
    publish: watch::Sender<Health>,
}

impl<P, F> Effects<Monitor> for Prober<P>
where
    P: Fn(Probe) -> F + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    fn carry_out(&mut self, monitor: &Monitor, action: Action) {
        match action {
            Action::Probe(check, probe) => self.start(check, probe),
            Action::Report(report) => tell(&report),
            Action::Publish => {
                self.publish.send_replace(monitor.health().clone());
            }
        }
    }
}

impl<P, F> Prober<P>
where
    P: Fn(Probe) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    fn start(&self, check: CheckId, target: Probe) {
        let Probe::Tcp(tcp) = &target;
        let name = tcp.target;
        let probe = (self.probe)(target);
        let (outcomes, observer) = (self.outcomes.clone(), self.observer.clone());
        let places = self.places.clone();
        tokio::spawn(async move {
            let place = places.acquire_owned().await;
            let began = Instant::now();
            let outcome = probe.await;
            drop(place);
            observer(&outcome, began.elapsed());
            match &outcome {
                Outcome::Passed => {}
                Outcome::Failed(failure) => debug!("check of {name} failed: {failure}"),
                Outcome::Inconclusive(reason) => {
                    warn!("{name} cannot be checked, its verdict stands: {reason}");
                }
            }
            if let Some(outcomes) = outcomes.upgrade() {
                // The machine is gone only if the agent stops.
                outcomes.send(Input::Finished(check, outcome)).await.ok();
            }
        });
    }
}

fn tell(report: &Report) {
    let (service, _) = report.server;
    match report.verdict {
        Verdict::Up => info!(%service, "{report}"),
        Verdict::Down { .. } => warn!(%service, "{report}"),
    }
}
