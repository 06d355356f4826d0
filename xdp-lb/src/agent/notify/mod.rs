//! Tells scripts, FIFOs and people what became of instances and sync groups.
//!
//! In go [`Notification`]s, from any thread; [`told`] says who is told what of each, as keepalived
//! would. Scripts run in order and one at a time for each instance and group, lines reach every FIFO in
//! the order of the notifications, mail goes to the server of the configuration. Nobody who tells
//! something ever waits for whoever is told.

mod alert;
mod pipes;
mod scripts;
pub mod told;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use self::pipes::Pipes;
use self::scripts::Scripts;
pub use self::scripts::run_once;
pub use self::told::Notification;
use self::told::{Deed, Told};
use crate::config::model::{Command, Config, Deleted, Notify};
use crate::sys::command::resolve::Resolver;
use crate::telemetry::mail::{Mailer, Retry, Settings};

/// Notifications that wait. They wait for nothing but this task's turn.
const WAITING: usize = 1024;

/// Who tells. Notifications wait until the first configuration is there.
#[derive(Debug)]
pub struct Notifier {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// Takes notifications, from any thread.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::Sender<Order>);

#[derive(Debug)]
enum Order {
    Tell(Notification),
    Configure(Arc<Config>, Resolver, oneshot::Sender<()>),
    Finish(Duration, oneshot::Sender<()>),
}

impl Notifier {
    /// Makes the FIFOs, starts what reads them, says what cannot be run. `host` is this host's name.
    /// Must be called inside a tokio runtime.
    pub async fn start(config: Arc<Config>, resolver: &Resolver, host: String) -> Self {
        let (orders, receiver) = mpsc::channel(WAITING);
        let outlets = Outlets {
            host,
            told: Told::default(),
            scripts: Scripts::new(resolver.clone()),
            pipes: Pipes::default(),
            mailer: None,
        };
        let task = tokio::spawn(outlets.run(receiver));
        let notifier = Self { orders, task };
        notifier.reload(config, resolver).await;
        notifier
    }

    /// Where to tell.
    pub fn teller(&self) -> Teller {
        Teller(self.orders.clone())
    }

    /// Takes a new configuration. Instances that it removes are told of as it says when they stop: so
    /// this comes before the VRRP machine gets it.
    pub async fn reload(&self, config: Arc<Config>, resolver: &Resolver) {
        let (done, is_done) = oneshot::channel();
        let order = Order::Configure(config, resolver.clone(), done);
        // The task is gone only by a defect, which its own panic tells of.
        if self.orders.send(order).await.is_ok() {
            is_done.await.ok();
        }
    }

    /// Waits until everybody has been told, `limit` at most and a few seconds for what must be killed.
    /// What is told later is lost.
    pub async fn finish(mut self, limit: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Finish(limit, done)).await.is_ok() {
            is_done.await.ok();
        }
        (&mut self.task).await.ok();
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Teller {
    /// Tells; never waits.
    pub fn tell(&self, notification: Notification) {
        if let Err(error) = self.0.try_send(Order::Tell(notification)) {
            warn!(
                "nobody is told of a change, which comes too late or with too many others: {error}"
            );
        }
    }
}

struct Outlets {
    host: String,
    told: Told,
    scripts: Scripts,
    pipes: Pipes,
    mailer: Option<(Settings, Mailer)>,
}

impl Outlets {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Tell(notification) => self.tell(&notification),
                Order::Configure(config, resolver, done) => {
                    self.configure(&config, &resolver);
                    done.send(()).ok();
                }
                Order::Finish(limit, done) => {
                    self.finish(limit).await;
                    done.send(()).ok();
                    return;
                }
            }
        }
    }

    fn tell(&mut self, notification: &Notification) {
        let whose = (notification.subject, notification.name.as_str());
        for deed in self.told.deeds(notification) {
            match deed {
                Deed::Run(command, arguments) => self.scripts.run(whose, &command, arguments),
                Deed::Line(line) => self.pipes.write(&line),
                Deed::Mail { subject, body } => {
                    if let Some((_, mailer)) = &self.mailer
                        && let Err(error) = mailer.send(subject, body)
                    {
                        warn!("{error}");
                    }
                }
            }
        }
    }

    fn configure(&mut self, config: &Config, resolver: &Resolver) {
        self.told.configure(config, &self.host);
        let commands = notifies(config).flat_map(commands);
        self.scripts.configure(resolver, commands, &self.told);
        self.pipes.configure(&config.global, resolver);
        let is_mailed = notifies(config).any(|notify| notify.mail);
        let settings = is_mailed.then(|| alert::settings(&config.global.mail, &self.host));
        self.mail_by(settings.flatten());
    }

    fn mail_by(&mut self, settings: Option<Settings>) {
        if self.mailer.as_ref().map(|(settings, _)| settings) == settings.as_ref() {
            return;
        }
        if let Some((settings, old)) = self.mailer.take() {
            tokio::spawn(old.finish(settings.timeout));
        }
        self.mailer =
            settings.and_then(
                |settings| match Mailer::start(&settings, Retry::default()) {
                    Ok(mailer) => Some((settings, mailer)),
                    Err(error) => {
                        warn!("no mail is sent: {error}");
                        None
                    }
                },
            );
    }

    async fn finish(self, limit: Duration) {
        let mail = async {
            if let Some((_, mailer)) = self.mailer {
                mailer.finish(limit).await;
            }
        };
        tokio::join!(self.scripts.finish(limit), self.pipes.finish(limit), mail);
    }
}

fn notifies(config: &Config) -> impl Iterator<Item = &Notify> {
    let instances = config.vrrp_instances.iter();
    let groups = config.sync_groups.iter().map(|group| &group.notify);
    instances.map(|instance| &instance.notify).chain(groups)
}

fn commands(notify: &Notify) -> impl Iterator<Item = &Command> {
    let deleted = match &notify.deleted {
        Deleted::Runs(command) => Some(command),
        Deleted::Fault | Deleted::Named => None,
    };
    let all = [
        notify.master.as_ref(),
        notify.backup.as_ref(),
        notify.fault.as_ref(),
        notify.stop.as_ref(),
        deleted,
        notify.any.as_ref(),
        notify.lower_priority.as_ref(),
    ];
    all.into_iter().flatten()
}
