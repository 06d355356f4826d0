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
    /// What probes that start from now on are given; `None` when they need nothing.
    context: Option<watch::Sender<Arc<probe::Context>>>,
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
        let (sender, context) = watch::channel(Arc::new(probe::Context::new(config)));
        let probe = move |probe: Probe| {
            let context = context.borrow().clone();
            async move { probe::run(&probe, &context).await }
        };
        let mut checks = Self::start_with(config, inherited, seed, observer, probe);
        checks.context = Some(sender);
        checks
    }

    pub(super) fn start_with<P, F>(
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
        Self {
            inputs,
            verdicts,
            context: None,
        }
    }

    /// The verdicts, as they change.
    pub fn verdicts(&self) -> watch::Receiver<Health> {
        self.verdicts.clone()
    }

    /// Checks what a new configuration asks for; what is checked as before goes on undisturbed.
    pub async fn reload(&self, config: &Config) {
        if let Some(context) = &self.context {
            context.send_replace(Arc::new(probe::Context::new(config)));
        }
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
        let name = match target.target() {
            Some(address) => address.to_string(),
            None => target.name().to_owned(),
        };
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
                Outcome::Passed | Outcome::Weighed(_) => {}
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::health::Failure;
    use crate::plan::testing::websocket;

    fn nobody() -> Observer {
        Arc::new(|_, _| {})
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_is_published_and_one_that_returns_too() {
        let dead = Arc::new(AtomicUsize::new(102));
        let probe = {
            let dead = dead.clone();
            move |probe: Probe| {
                let dead = format!("192.168.1.{}:80", dead.load(Ordering::SeqCst));
                async move {
                    if probe
                        .target()
                        .is_some_and(|target| target.to_string() == dead)
                    {
                        Outcome::Failed(Failure::Refused)
                    } else {
                        Outcome::Passed
                    }
                }
            }
        };
        let config = websocket();
        let checks = Checks::start_with(&config, &BTreeMap::new(), 1, nobody(), probe);
        let mut verdicts = checks.verdicts();
        let up = |health: &Health| health.values().map(|h| h.up).collect::<Vec<_>>();
        assert_eq!(up(&verdicts.borrow_and_update()), [true, true]);
        verdicts.changed().await.unwrap();
        assert_eq!(up(&verdicts.borrow_and_update()), [false, true]);
        dead.store(0, Ordering::SeqCst);
        verdicts.changed().await.unwrap();
        assert_eq!(up(&verdicts.borrow_and_update()), [true, true]);
        drop(checks);
        assert!(verdicts.changed().await.is_err(), "the checks have ended");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_probes_are_under_way_and_each_is_observed() {
        let mut config = websocket();
        let server = config.virtual_servers[0].real_servers[0].clone();
        config.virtual_servers[0].real_servers = (0..2 * MAX_PROBES)
            .map(|port| {
                let mut server = server.clone();
                server.address.set_port(u16::try_from(port).unwrap());
                server
            })
            .collect();
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let probe = {
            let (under_way, most) = (under_way.clone(), most.clone());
            move |_| {
                let (under_way, most) = (under_way.clone(), most.clone());
                async move {
                    let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    Outcome::Passed
                }
            }
        };
        let (seen, mut observed) = mpsc::unbounded_channel();
        let observer: Observer = Arc::new(move |outcome, took| {
            seen.send((outcome.clone(), took)).unwrap();
        });
        let _checks = Checks::start_with(&config, &BTreeMap::new(), 1, observer, probe);
        for _ in 0..2 * MAX_PROBES {
            let (outcome, took) = observed.recv().await.unwrap();
            assert_eq!(outcome, Outcome::Passed);
            assert!(
                took < Duration::from_secs(2),
                "{took:?}: waiting is not counted"
            );
        }
        assert_eq!(most.load(Ordering::SeqCst), MAX_PROBES);
    }

    #[tokio::test]
    async fn a_reload_reads_the_certificates_anew() {
        let mut config = websocket();
        let checks = Checks::start(&config, &BTreeMap::new(), 1, nobody());
        let context = checks.context.as_ref().unwrap().subscribe();
        assert!(context.borrow().tls.is_ok());
        config.ssl.ca = Some("/nonexistent/ca.pem".into());
        checks.reload(&config).await;
        let why = context.borrow().tls.clone().unwrap_err();
        assert!(why.contains("cannot read /nonexistent/ca.pem"), "{why}");
    }
}
