//! What stands beside the elections: what they hear of and whom they tell, and the scripts at both ends
//! of an agent's life.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::notify::{Notification, Notifier, Teller, run_once};
use super::track::{Report, Trackers};
use crate::config::model::Config;
use crate::plan::table::Health;
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

    /// Where to tell what became of real servers and services.
    pub fn teller(&self) -> Teller {
        self.notifier.teller()
    }

    /// The director stops: services with `omega` are told to be down.
    pub fn stopping(&self, health: &Health) {
        self.notifier.teller().stopping(health);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Command, Script, SyncGroup, Tracked, Weight};
    use crate::plan::testing::websocket;

    fn script(name: &str, program: &str) -> Script {
        Script {
            name: name.to_owned(),
            command: Command {
                line: program.to_owned(),
                program: program.to_owned(),
                arguments: Vec::new(),
                user: None,
            },
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            weight: Weight::default(),
            fall: 1,
            rise: 1,
            starts_failed: false,
        }
    }

    fn tracked(names: &[&str]) -> Vec<Tracked> {
        let tracked = names.iter().map(|name| Tracked {
            name: (*name).to_owned(),
            weight: Weight::default(),
        });
        tracked.collect()
    }

    #[tokio::test]
    async fn the_elections_are_not_told_of_scripts_that_cannot_be_run() {
        let mut config = websocket();
        config.scripts = vec![script("good", "/bin/true"), script("gone", "/nowhere/true")];
        config.vrrp_instances[0].trackers.scripts = tracked(&["good", "gone"]);
        config.sync_groups.push(SyncGroup {
            name: "G".to_owned(),
            members: vec!["VI_1".to_owned()],
            trackers: crate::config::model::Trackers {
                scripts: tracked(&["gone"]),
                ..Default::default()
            },
            tracking_weight: false,
            notify: crate::config::model::Notify::default(),
        });
        let config = Arc::new(config);
        let (_, notifications) = mpsc::unbounded_channel();
        let report: Report = Arc::new(|_| {});
        let started = Outside::start(config.clone(), report, notifications, "lb1".to_owned());
        let mut outside = started.await;
        let usable = outside.usable(config.clone());
        assert_eq!(
            usable.vrrp_instances[0].trackers.scripts,
            tracked(&["good"])
        );
        assert_eq!(usable.sync_groups[0].trackers.scripts, []);

        let mut repaired = Arc::unwrap_or_clone(config);
        repaired.scripts[1] = script("gone", "/bin/true");
        let repaired = Arc::new(repaired);
        outside.reload(&repaired).await;
        assert_eq!(*outside.usable(repaired.clone()), *repaired);
        outside.finish(&repaired).await;
    }
}
