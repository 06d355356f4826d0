//! Tells scripts, FIFOs and people what became of instances and sync groups, real servers and services.
//!
//! In go [`Notification`]s and [`PoolEvent`]s, from any thread; [`told`] and [`pool`] say who is told
//! what of each, as keepalived would. Scripts run in order and one at a time for each instance, group,
//! real server and service, lines reach every FIFO in
//! the order of the notifications, mail goes to the server of the configuration. Nobody who tells
//! something ever waits for whoever is told.

mod alert;
mod pipes;
pub mod pool;
mod scripts;
pub mod told;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::warn;

use self::pipes::{About, Pipes};
pub use self::pool::PoolEvent;
use self::pool::PoolTold;
pub use self::scripts::run_once;
use self::scripts::{Queue, Scripts};
pub use self::told::Notification;
use self::told::{Deed, Told};
use crate::config::model::{Command, Config, Deleted, Notify, ServiceKey};
use crate::health::report::{News, Report};
use crate::plan::table::Health;
use crate::sys::command::notify::Subject;
use crate::sys::command::resolve::Resolver;
use crate::telemetry::mail::{Mailer, Retry, Settings};

/// Who tells. Notifications wait until the first configuration is there.
#[derive(Debug)]
pub struct Notifier {
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

/// Takes notifications, from any thread. They wait for nothing but a task's turn.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::UnboundedSender<Order>);

#[derive(Debug)]
enum Order {
    Tell(Notification),
    TellOfPool(PoolEvent),
    Stopping(Health),
    Configure(Arc<Config>, Resolver, oneshot::Sender<()>),
    Finish(Duration, oneshot::Sender<()>),
}

impl Notifier {
    /// Makes the FIFOs, starts what reads them, says what cannot be run. `host` is this host's name.
    /// Must be called inside a tokio runtime.
    pub async fn start(config: Arc<Config>, resolver: &Resolver, host: String) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let outlets = Outlets {
            host,
            told: Told::default(),
            pools: PoolTold::default(),
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
        if self.orders.send(order).is_ok() {
            is_done.await.ok();
        }
    }

    /// Waits until everybody has been told, `limit` at most and a few seconds for what must be killed.
    /// What is told later is lost.
    pub async fn finish(mut self, limit: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Finish(limit, done)).is_ok() {
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
        self.order(Order::Tell(notification));
    }

    /// Tells what became of a real server, if it is up or down now; never waits.
    pub fn report(&self, report: &Report) {
        let (up, reason) = match &report.news {
            News::Up => (true, "its checks pass".to_owned()),
            News::Down {
                reason,
                failures: 0,
            } => (false, reason.to_string()),
            News::Down { reason, failures } => {
                (false, format!("{reason} ({failures} of {failures})"))
            }
            News::Retried { .. } | News::StillDown { .. } | News::Weighed { .. } => return,
        };
        let server = report.server;
        self.order(Order::TellOfPool(PoolEvent::Server { server, up, reason }));
    }

    /// Tells that a service has gained or lost its quorum; never waits.
    pub fn quorum_changed(&self, service: ServiceKey, gained: bool) {
        self.order(Order::TellOfPool(PoolEvent::Quorum { service, gained }));
    }

    /// Tells that the director stops, with the last verdicts on the real servers; never waits.
    pub fn stopping(&self, health: &Health) {
        self.order(Order::Stopping(health.clone()));
    }

    fn order(&self, order: Order) {
        if let Err(error) = self.0.send(order) {
            warn!("nobody is told of a change, which comes too late: {error}");
        }
    }
}

struct Outlets {
    host: String,
    told: Told,
    pools: PoolTold,
    scripts: Scripts,
    pipes: Pipes,
    mailer: Option<(Settings, Mailer)>,
}

impl Outlets {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Tell(notification) => self.tell(&notification),
                Order::TellOfPool(event) => {
                    let (whose, deeds) = self.pools.deeds(&event);
                    self.carry_out(&Queue::Pool(whose), About::Pools, deeds);
                }
                Order::Stopping(health) => {
                    for (whose, deeds) in self.pools.at_the_end(&health) {
                        self.carry_out(&Queue::Pool(whose), About::Pools, deeds);
                    }
                }
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
        let queue = Queue::of(notification.subject, &notification.name);
        let deeds = self.told.deeds(notification);
        self.carry_out(&queue, About::Vrrp, deeds);
    }

    fn carry_out(&mut self, queue: &Queue, about: About, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Run(command, arguments) => {
                    self.scripts.run(queue.clone(), &command, arguments);
                }
                Deed::Line(line) => self.pipes.write(about, &line),
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

    fn configure(&mut self, config: &Arc<Config>, resolver: &Resolver) {
        self.told.configure(config, &self.host);
        self.pools.configure(config, &self.host);
        let commands = notifies(config).flat_map(commands);
        let commands = commands.chain(pool::commands(config));
        let (told, pools) = (&self.told, &self.pools);
        self.scripts
            .configure(resolver, commands, |queue| match queue {
                Queue::Instance(name) => told.knows(Subject::Instance, name),
                Queue::Group(name) => told.knows(Subject::Group, name),
                Queue::Pool(whose) => pools.knows(whose),
            });
        self.pipes.configure(&config.global, resolver);
        let is_mailed = notifies(config).any(|notify| notify.mail) || pool::is_mailed(config);
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
