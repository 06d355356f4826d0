//! Keeps [`Network`] true: a task that feeds [`View`] from netlink and does what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Error;
use super::netlink::{Event, Netlink, Notifications, address};
use super::view::{Action, Hop, Input, Neighbour, Resolution, Snapshot, Unreached, View};
use crate::plan::desired::Reach;
use crate::plan::table::Network;

/// Time between attempts to reach a kernel that does not answer.
const RECONNECT: Duration = Duration::from_secs(1);
/// Notifications taken in before anything else happens, so that a flood of them (a routing daemon's
/// start) cannot hold up a change that matters.
const BATCH: usize = 1024;

/// The running watcher; dropping it ends the task, and the receivers see their channel close.
#[derive(Debug)]
pub struct Watcher {
    targets: mpsc::UnboundedSender<BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Watches the network namespace of the calling thread, and how each of `targets` is reached.
    ///
    /// Returns once links, addresses and the routes to all targets are known, and every next hop
    /// that was not has been asked for; the answers come later, as changes. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// When netlink is not to be had at all. What happens later (notifications lost, a connection
    /// that broke) is repaired and logged.
    pub async fn start(
        targets: BTreeSet<IpAddr>,
    ) -> Result<(Self, watch::Receiver<Network>), Error> {
        let mut view = View::default();
        let start = Instant::now();
        view.handle(Duration::ZERO, Input::Targets(targets));
        let mut shell = Shell::open(view, start)?;
        shell.synchronise().await?;
        shell.settle().await?;
        let (publish, network) = watch::channel(shell.view.network());
        let (sender, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(follow(shell, receiver, publish));
        let watcher = Self {
            targets: sender,
            task,
        };
        Ok((watcher, network))
    }

    /// Watches these targets from now on.
    pub fn set_targets(&self, targets: BTreeSet<IpAddr>) {
        // The task never ends by itself, so that there is always somebody to hear this.
        if self.targets.send(targets).is_err() {
            tracing::error!("the network watcher has ended");
        }
    }
}

/// Runs for ever; opens new sockets when a connection breaks.
async fn follow(
    mut shell: Shell,
    mut targets: mpsc::UnboundedReceiver<BTreeSet<IpAddr>>,
    publish: watch::Sender<Network>,
) {
    loop {
        let Err(error) = shell.run(&mut targets, &publish).await else {
            return;
        };
        tracing::warn!("{error}; connecting to the kernel again");
        loop {
            tokio::time::sleep(RECONNECT).await;
            match shell.reopen().await {
                Ok(()) => break,
                Err(error) => tracing::warn!("{error}; trying again"),
            }
        }
    }
}

struct Shell {
    view: View,
    start: Instant,
    notifications: Notifications,
    kernel: Netlink,
    told: BTreeMap<IpAddr, Result<Reach, Unreached>>,
}

impl Shell {
    fn open(view: View, start: Instant) -> Result<Self, Error> {
        Ok(Self {
            view,
            start,
            notifications: Notifications::open()?,
            kernel: Netlink::open()?,
            told: BTreeMap::new(),
        })
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        self.notifications = Notifications::open()?;
        self.kernel = Netlink::open()?;
        self.synchronise().await
    }

    /// Until the watcher is dropped (`Ok`) or a connection breaks.
    async fn run(
        &mut self,
        targets: &mut mpsc::UnboundedReceiver<BTreeSet<IpAddr>>,
        publish: &watch::Sender<Network>,
    ) -> Result<(), Error> {
        loop {
            self.settle().await?;
            self.tell();
            let network = self.view.network();
            publish.send_if_modified(|published| {
                let changed = *published != network;
                *published = network;
                changed
            });
            let deadline = self.view.deadline().map(|due| self.start + due);
            tokio::select! {
                event = self.notifications.next() => self.take(event).await?,
                wanted = targets.recv() => match wanted {
                    Some(wanted) => self.view.handle(self.start.elapsed(), Input::Targets(wanted)),
                    None => return Ok(()),
                },
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Takes in a notification and those that wait behind it.
    async fn take(&mut self, first: Option<Event>) -> Result<(), Error> {
        use futures_util::FutureExt;

        let mut lost = false;
        let mut next = first;
        for _ in 0..BATCH {
            match next {
                Some(Event::Changed(input)) => self.view.handle(self.start.elapsed(), input),
                Some(Event::Lost) => lost = true,
                None => return Err(broken()),
            }
            match self.notifications.next().now_or_never() {
                Some(event) => next = event,
                None => break,
            }
        }
        if lost {
            tracing::debug!("netlink notifications were lost: reading all tables again");
            self.synchronise().await?;
        }
        Ok(())
    }

    /// Reads all tables. Notifications are subscribed to already, so that what changes meanwhile
    /// follows.
    async fn synchronise(&mut self) -> Result<(), Error> {
        let links = self.kernel.links().await?;
        let addresses = self.kernel.addresses().await?;
        let addresses = addresses
            .iter()
            .filter_map(|entry| Some((entry.header.index, address(entry)?)));
        let snapshot = Snapshot {
            links,
            addresses: addresses.collect(),
            neighbours: self.kernel.neighbours().await?,
        };
        self.view
            .handle(self.start.elapsed(), Input::Snapshot(snapshot));
        Ok(())
    }

    /// Does what is due, and what is due because of that.
    async fn settle(&mut self) -> Result<(), Error> {
        loop {
            let mut actions = Vec::new();
            self.view.expire(self.start.elapsed(), &mut actions);
            if actions.is_empty() {
                return Ok(());
            }
            for action in actions {
                let input = match action {
                    Action::LookUpRoute(target) => {
                        Input::Route(target, self.kernel.route(target).await?)
                    }
                    Action::Resolve(hop) => {
                        Input::Neighbour(hop, resolve(&self.kernel, hop).await?)
                    }
                };
                self.view.handle(self.start.elapsed(), input);
            }
        }
    }

    /// Logs which targets became reachable, and which ceased to be, and why.
    fn tell(&mut self) {
        let now: BTreeMap<_, _> = self
            .view
            .targets()
            .map(|target| (target, self.view.reach(target)))
            .collect();
        for (target, reach) in &now {
            if self.told.get(target) == Some(reach) {
                continue;
            }
            match reach {
                Ok(Reach::Local) => tracing::info!("real server {target} is this host"),
                Ok(Reach::Direct { mac, on_link, .. }) => {
                    let whose = if *on_link { "" } else { " of its gateway" };
                    tracing::info!("real server {target} is reached at MAC {mac}{whose}");
                }
                Err(why) if why.is_transient() => {
                    tracing::debug!("real server {target} is not reached yet: {why}");
                }
                Err(why) => tracing::warn!("real server {target} is not reached: {why}"),
            }
        }
        self.told = now;
    }
}

/// Has a neighbour resolved, and looks how far that is: not every state is notified of (INCOMPLETE
/// and DELAY are not).
async fn resolve(kernel: &Netlink, hop: Hop) -> Result<Neighbour, Error> {
    // The notification that somebody fixed its MAC may not have been read yet, and to ask would undo that.
    let before = kernel.neighbour(hop).await?;
    if let Some(fixed) = before.filter(|entry| entry.resolution == Resolution::Fixed) {
        return Ok(fixed);
    }
    match kernel.resolve(hop).await {
        // The interface went, or the neighbour table is full: asked again when due.
        Err(error @ Error::Refused { .. }) => tracing::debug!("{error}"),
        asked => asked?,
    }
    let entry = kernel.neighbour(hop).await?;
    Ok(entry.unwrap_or(Neighbour {
        resolution: Resolution::Pending,
        mac: None,
    }))
}

fn broken() -> Error {
    Error::NoAnswer {
        operation: "follow changes of the network".to_owned(),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
