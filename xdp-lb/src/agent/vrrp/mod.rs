//! Elections: drives the virtual routers of [`crate::vrrp`] on a thread of its own, so that nothing
//! else of the agent delays an advert.
//!
//! In: the configuration ([`settings`]), links and addresses, what trackers see ([`Inputs`]), adverts.
//! Out: adverts; [`Claims`] for the reconciler, which opens gates, adds addresses and announces them,
//! and the [`Peers`] that were heard; [`Notification`]s for scripts; [`Report`]s for operators. `driver`
//! is the loop, `sockets` what it listens to and speaks by, `delays` when a change of a link counts, `outlet` what it tells the rest of the
//! agent, `turns` how that knows that the thread lives. [`alive`] and
//! [`predecessor`] let an agent that restarts in time go on as master.

pub mod alive;
pub mod predecessor;
pub mod settings;

mod delays;
mod driver;
mod outlet;
mod sockets;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, warn};

use super::drive::Clock;
use super::notify::Notification;
use crate::config::model::Config;
use crate::machine::Now;
use crate::plan::carriers::Peers;
use crate::plan::table::{Network, Ownership};
use crate::vrrp::group::Input;
use crate::vrrp::router::{Predecessor, Snapshot};

use driver::Driver;
use outlet::Outlet;
use turns::Turns;

/// Real-time priority of the thread, of 1 to 99: before everything that is not real-time.
const REAL_TIME: u8 = 1;

/// How long a start waits to hear who owns what at once. It takes milliseconds.
const JUDGEMENT: Duration = Duration::from_secs(1);

/// What the elections want of the reconciler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Who owns its addresses: they stand and its gates are open.
    pub ownership: Ownership,
    /// The last announcement that each owner wanted.
    pub bursts: BTreeMap<String, Burst>,
    /// The agent stops: what is owned no more has a successor, whom not every client knows yet.
    pub is_stopping: bool,
}

/// Announcements of all addresses of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Grows with each.
    pub number: u64,
    /// Frames for each address.
    pub repeat: u8,
    /// Time between two frames.
    pub gap: Duration,
}

/// All routers at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The moment, on the clock that the snapshots' own times are of.
    pub now: Now,
    /// The routers.
    pub routers: Vec<Snapshot>,
}

/// What the thread is told.
#[derive(Debug)]
enum Command {
    Configure(Arc<Config>, BTreeMap<String, Predecessor>),
    /// Links and addresses.
    Network(Network),
    Input(Input),
    Report(oneshot::Sender<Report>),
    Stop,
    Leave,
}

/// Speaks to the thread.
#[derive(Clone, Debug)]
pub struct Inputs {
    commands: mpsc::UnboundedSender<Command>,
    wake: Arc<UnixStream>,
}

impl Inputs {
    /// Something that is tracked changed.
    pub fn tell(&self, input: Input) {
        self.send(Command::Input(input));
    }

    /// All routers as they are now; `None` when the thread has ended.
    pub async fn report(&self) -> Option<Report> {
        let (reply, report) = oneshot::channel();
        self.send(Command::Report(reply));
        report.await.ok()
    }

    fn send(&self, command: Command) {
        // A thread that has ended needs to know nothing.
        if self.commands.send(command).is_err() {
            return;
        }
        match (&*self.wake).write(&[1]) {
            Ok(_) => {}
            // It is full of calls already.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => warn!("the VRRP thread cannot be woken up: {error}"),
        }
    }
}

/// The running elections. Dropping them ends the thread as [`Elections::leave`] does.
pub struct Elections {
    inputs: Inputs,
    claims: watch::Receiver<Claims>,
    peers: watch::Receiver<Peers>,
    turns: Turns,
    network: watch::Receiver<Network>,
    /// For the first configuration.
    predecessors: BTreeMap<String, Predecessor>,
    ended: oneshot::Receiver<()>,
    follower: JoinHandle<()>,
}

impl fmt::Debug for Elections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elections").finish_non_exhaustive()
    }
}

impl Drop for Elections {
    fn drop(&mut self) {
        self.follower.abort();
        self.inputs.send(Command::Leave);
    }
}

impl Elections {
    /// Starts the thread, in the network namespace of the calling one, without routers. Until there
    /// are some, what predecessors owned is owned. Must be called inside a tokio runtime.
    pub fn start(
        network: watch::Receiver<Network>,
        predecessors: BTreeMap<String, Predecessor>,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<Notification>)> {
        let owned = predecessors.keys().map(|name| (name.clone(), true));
        let (publish, claims) = watch::channel(Claims {
            ownership: owned.collect(),
            bursts: BTreeMap::new(),
            is_stopping: false,
        });
        let (tell, peers) = watch::channel(Peers::new());
        let (notify, notifications) = mpsc::unbounded_channel();
        let (commands, received) = mpsc::unbounded_channel();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let outlet = Outlet::new(publish, tell, notify);
        let turns = Turns::default();
        let driver = Driver::new(Clock::start(), received, woken, outlet, turns.clone());
        let (ending, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || {
                hurry();
                driver.run();
                // Whoever waited may have gone.
                ending.send(()).ok();
            })?;
        let wake = Arc::new(wake);
        let inputs = Inputs { commands, wake };
        // Before any configuration: routers begin with what is known.
        let known = links_and_addresses(&network.borrow());
        inputs.send(Command::Network(known.clone()));
        let follower = tokio::spawn(follow(network.clone(), known, inputs.clone()));
        let elections = Self {
            inputs,
            claims,
            peers,
            turns,
            network,
            predecessors,
            ended,
            follower,
        };
        Ok((elections, notifications))
    }

    /// For trackers, and for whoever asks.
    pub fn inputs(&self) -> Inputs {
        self.inputs.clone()
    }

    /// What is owned.
    pub fn claims(&self) -> watch::Receiver<Claims> {
        self.claims.clone()
    }

    /// Other directors that were heard as master.
    pub fn peers(&self) -> watch::Receiver<Peers> {
        self.peers.clone()
    }

    /// Says, asked at least once a second, whether the thread lives.
    pub fn is_alive(&self) -> impl Fn() -> bool + Send + 'static {
        self.turns.go_on()
    }

    /// Whether there is a mastership to go on with, which must not wait.
    pub fn is_urgent(&self) -> bool {
        !self.predecessors.is_empty()
    }

    /// Begins with a configuration, or changes to it.
    pub fn configure(&mut self, config: Arc<Config>) {
        let predecessors = std::mem::take(&mut self.predecessors);
        // What an instance stands on may have been made for it a moment ago.
        let known = links_and_addresses(&self.network.borrow());
        self.inputs.send(Command::Network(known));
        self.inputs.send(Command::Configure(config, predecessors));
    }

    /// Waits for the word on the first configuration; `false` if there is none.
    pub async fn judged(&mut self) -> bool {
        matches!(timeout(JUDGEMENT, self.claims.changed()).await, Ok(Ok(())))
    }

    /// All routers give up; [`Elections::ended`] when they have. The second time they wait for
    /// nobody.
    pub fn stop(&self) {
        self.inputs.send(Command::Stop);
    }

    /// Ends the thread without a word to anybody; [`Elections::ended`] when it has.
    pub fn leave(&self) {
        self.inputs.send(Command::Leave);
    }

    /// Waits for the end of the thread; `false` if that was no regular one.
    pub async fn ended(&mut self) -> bool {
        (&mut self.ended).await.is_ok()
    }
}

/// Tells the thread about links and addresses.
async fn follow(mut network: watch::Receiver<Network>, mut told: Network, inputs: Inputs) {
    loop {
        let known = links_and_addresses(&network.borrow_and_update());
        if told != known {
            inputs.send(Command::Network(known.clone()));
            told = known;
        }
        if network.changed().await.is_err() {
            error!("changes of links and addresses are not seen any more");
            return;
        }
    }
}

fn links_and_addresses(network: &Network) -> Network {
    Network {
        links: network.links.clone(),
        addresses: network.addresses.clone(),
        reach: BTreeMap::new(),
        strayed: 0,
    }
}

/// Makes the thread a real-time one: a busy host must not delay adverts.
fn hurry() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let set = REAL_TIME.try_into().map(|priority| {
        let priority = ThreadPriority::Crossplatform(priority);
        set_thread_priority_and_policy(thread_native_id(), priority, policy)
    });
    if let Ok(Err(reason)) = set {
        warn!(
            "adverts may be late on a busy host: no real-time priority ({reason:?}); allow it by \
             CAP_SYS_NICE or LimitRTPRIO="
        );
    }
}

#[cfg(test)]
impl Elections {
    /// Elections without a thread: these instances own their addresses until they are told to stop, and
    /// hear nobody else but whom the sender names.
    pub(crate) fn fake(owned: &[&str]) -> (Self, watch::Sender<Peers>) {
        let owned = owned.iter().map(|name| ((*name).to_owned(), true));
        let (publish, claims) = watch::channel(Claims {
            ownership: owned.collect(),
            bursts: BTreeMap::new(),
            is_stopping: false,
        });
        let (tell, peers) = watch::channel(Peers::new());
        let turns = Turns::default();
        let (commands, mut received) = mpsc::unbounded_channel();
        let (wake, woken) = UnixStream::pair().unwrap();
        let (ending, ended) = oneshot::channel();
        let thread = turns.clone();
        let follower = tokio::spawn(async move {
            let _held = (publish, woken);
            loop {
                thread.count();
                let told = timeout(turns::LONGEST_WAIT, received.recv()).await;
                if let Ok(Some(Command::Stop | Command::Leave) | None) = told {
                    break;
                }
            }
            ending.send(()).ok();
        });
        let wake = Arc::new(wake);
        let elections = Self {
            inputs: Inputs { commands, wake },
            claims,
            peers,
            turns,
            network: watch::channel(Network::default()).1,
            predecessors: BTreeMap::new(),
            ended,
            follower,
        };
        (elections, tell)
    }
}
