//! What stands beside the elections: what they hear of and whom they tell, and the scripts at both ends
//! of an agent's life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::notify::{Notification, Notifier, run_once};
use super::track::{Report, Trackers};
use crate::config::model::Config;
use crate::sys::command::resolve::Resolver;

/// How long a first election waits for the first results of scripts.
const FIRST_RESULTS: Duration = Duration::from_secs(2);
/// How long an end waits for notify scripts and for whoever reads a FIFO.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Trackers and notifiers. Dropping them ends all scripts.
#[derive(Debug)]
pub struct Outside {
    notifier: Notifier,
    trackers: Trackers,
    /// Passes notifications on; ends with the thread of the elections.
    messenger: JoinHandle<()>,
}

/// Runs `startup_script`, if there is one.
pub async fn begin(config: &Config) {
    if let Some(script) = &config.global.startup_script {
        run_once("startup_script", script, &resolver(config)).await;
    }
}

/// Runs `shutdown_script`, if there is one.
async fn end(config: &Config) {
    if let Some(script) = &config.global.shutdown_script {
        run_once("shutdown_script", script, &resolver(config)).await;
    }
}

fn resolver(config: &Config) -> Resolver {
    Resolver::new(config.global.script_user.clone())
}

impl Outside {
    /// Starts everything: `report` gets what is tracked, `notifications` are passed on. `host` is this
    /// host's name. Must be called inside a tokio runtime, and before the elections get a
    /// configuration: routers begin with what is known.
    pub async fn start(
        config: Arc<Config>,
        report: Report,
        mut notifications: mpsc::UnboundedReceiver<Notification>,
        host: String,
    ) -> Self {
        let resolver = resolver(&config);
        let notifier = Notifier::start(config.clone(), &resolver, host).await;
        let trackers = Trackers::start(&config, &resolver, report).await;
        let teller = notifier.teller();
        let messenger = tokio::spawn(async move {
            while let Some(notification) = notifications.recv().await {
                teller.tell(notification);
            }
        });
        Self {
            notifier,
            trackers,
            messenger,
        }
    }

    /// Waits for the first results of scripts, but not for long.
    pub async fn settled(&self) {
        self.trackers.settled(FIRST_RESULTS).await;
    }

    /// Takes a new configuration, before the elections do.
    pub async fn reload(&mut self, config: &Arc<Config>) {
        let resolver = resolver(config);
        self.notifier.reload(config.clone(), &resolver).await;
        self.trackers.reload(config, &resolver).await;
    }

    /// The configuration for the elections: nobody tracks scripts that cannot be run.
    pub fn usable(&self, config: Arc<Config>) -> Arc<Config> {
        let unusable: Vec<&str> = self.trackers.unusable().collect();
        if unusable.is_empty() {
            return config;
        }
        let mut config = Arc::unwrap_or_clone(config);
        let instances = config.vrrp_instances.iter_mut();
        let instances = instances.map(|instance| &mut instance.trackers);
        let groups = config.sync_groups.iter_mut();
        let groups = groups.map(|group| &mut group.trackers);
        for trackers in instances.chain(groups) {
            let is_usable = |name: &str| !unusable.contains(&name);
            trackers.scripts.retain(|script| is_usable(&script.name));
        }
        Arc::new(config)
    }

    /// Ends it all, after the elections have: everybody has been told, and `shutdown_script` has run.
    pub async fn finish(self, config: &Config) {
        let Self {
            notifier,
            trackers,
            messenger,
        } = self;
        messenger.await.ok();
        trackers.stop().await;
        notifier.finish(LAST_WORDS).await;
        end(config).await;
    }
}
