//! Drives the health checks: starts probes, passes their outcomes on, tells of verdicts.
//!
//! [`Checks`] is what the agent holds; [`prober`] carries out what the machine wants; [`places`] is how
//! many probes may be under way, so that those that time out keep nobody waiting; [`rest`] says which
//! checks rest because their VIP is elsewhere.

mod lateness;
mod places;
mod prober;
mod rest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

pub(in crate::agent) use self::places::Places;
use self::prober::{Prober, carry_out};
use super::drive::{Clock, drive};
use crate::config::model::{Config, Probe};
use crate::health::Outcome;
use crate::health::monitor::{Input, Monitor};
use crate::health::report::{News, Report};
use crate::health::target::{Suspendable, resting, suspendable, targets};
use crate::machine::Machine as _;
use crate::plan::installed::ServerKey;
use crate::plan::table::{Health, Network, by_pool};
use crate::probe;

/// Inputs that wait for the machine.
const WAITING: usize = 256;

/// A probe that ended.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    /// How.
    pub outcome: &'a Outcome,
    /// How long it took.
    pub took: Duration,
    /// How long after its time it began.
    pub late: Duration,
}

/// Who is told of what happens. None of them may wait.
#[derive(Clone)]
pub struct Observers {
    /// Of each probe that ended.
    pub probed: Arc<dyn Fn(&Probed<'_>) + Send + Sync>,
    /// Of what became of a server.
    pub reported: Arc<dyn Fn(&Report) + Send + Sync>,
    /// Of how long after a verdict the tables obeyed it.
    pub obeyed: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Observers {
    /// Nobody is told.
    pub fn none() -> Self {
        Self {
            probed: Arc::new(|_| {}),
            reported: Arc::new(|_| {}),
            obeyed: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}

/// What checks begin with, beside the configuration.
#[derive(Debug)]
pub struct Beginning<'a> {
    /// The verdicts of a predecessor.
    pub inherited: &'a BTreeMap<ServerKey, bool>,
    /// Spreads the first checks over their warm-up.
    pub seed: u64,
    /// The network: checks with `ha_suspend` rest while their VIP is not in it.
    pub network: watch::Receiver<Network>,
    /// Who is told.
    pub observers: Observers,
}

/// The running checks. They end when this is dropped.
#[derive(Debug)]
pub struct Checks {
    inputs: mpsc::Sender<Input>,
    verdicts: watch::Receiver<Health>,
    /// What probes that start from now on are given; `None` when they need nothing.
    context: Option<watch::Sender<Arc<probe::Context>>>,
    clock: Clock,
    places: Arc<Places>,
    observers: Observers,
    suspendable: watch::Sender<Suspendable>,
    rest: JoinHandle<()>,
}

impl Checks {
    /// Starts the checks of a configuration. Must be called inside a tokio runtime.
    pub fn start(config: &Config, beginning: Beginning<'_>) -> Self {
        let (sender, context) = watch::channel(Arc::new(probe::Context::new(config)));
        let probe = move |probe: Arc<Probe>| {
            let context = context.borrow().clone();
            async move { probe::run(&probe, &context).await }
        };
        let places = Places::of_this_process(wanted(config));
        let mut checks = Self::start_with(config, beginning, places, probe);
        checks.context = Some(sender);
        checks
    }

    pub(super) fn start_with<P, F>(
        config: &Config,
        beginning: Beginning<'_>,
        places: Places,
        probe: P,
    ) -> Self
    where
        P: Fn(Arc<Probe>) -> F + Send + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Beginning {
            inherited,
            seed,
            network,
            observers,
        } = beginning;
        let clock = Clock::start();
        let inherited = by_pool(config, inherited);
        let mut monitor = Monitor::new(clock.now(), targets(config), &inherited, seed);
        if config.global.notify_at_start {
            tell_all(monitor.health(), &inherited, &observers);
        }
        let suspendable = suspendable(config);
        let rests = resting(&suspendable, &network.borrow());
        let mut actions = Vec::new();
        monitor.handle(clock.now(), Input::Resting(rests.clone()), &mut actions);
        let (inputs, receiver) = mpsc::channel(WAITING);
        let (publish, verdicts) = watch::channel(monitor.health().clone());
        let places = Arc::new(places);
        let told = observers.clone();
        let mut prober = Prober::new(probe, clock, inputs.downgrade(), &places, told, publish);
        carry_out(&mut prober, &monitor, actions);
        tokio::spawn(drive(monitor, clock, receiver, prober));
        let (suspendable, wanted) = watch::channel(suspendable);
        let rest = tokio::spawn(rest::follow(wanted, network, rests, inputs.downgrade()));
        Self {
            inputs,
            verdicts,
            context: None,
            clock,
            places,
            observers,
            suspendable,
            rest,
        }
    }

    /// The verdicts, as they change.
    pub fn verdicts(&self) -> watch::Receiver<Health> {
        self.verdicts.clone()
    }

    /// The clock of the moments in the verdicts.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Who is told.
    pub fn observers(&self) -> Observers {
        self.observers.clone()
    }

    /// Checks what a new configuration asks for; what is checked as before goes on undisturbed.
    pub async fn reload(&self, config: &Config) {
        if let Some(context) = &self.context {
            context.send_replace(Arc::new(probe::Context::new(config)));
        }
        self.places.suit(wanted(config));
        let input = Input::Targets(targets(config));
        if self.inputs.send(input).await.is_err() {
            warn!("health checks have ended; the new configuration has none");
        }
        self.suspendable.send_replace(suspendable(config));
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.rest.abort();
    }
}

/// How many probes may want to be under way at once: each check has one.
fn wanted(config: &Config) -> usize {
    let servers = config
        .services()
        .flat_map(|(_, service)| &service.real_servers);
    servers.map(|server| server.checks.len()).sum()
}

/// `rs_init_notifies`: the verdicts at the start are news. With `alpha` there is none yet.
fn tell_all(health: &Health, inherited: &BTreeMap<ServerKey, bool>, observers: &Observers) {
    for (server, health) in health {
        let news = match &health.reason {
            None => News::Up,
            Some(_) if !inherited.contains_key(server) => continue,
            Some(reason) => News::Down {
                reason: Arc::clone(reason),
                failures: 0,
            },
        };
        let server = *server;
        (observers.reported)(&Report { server, news });
    }
}
