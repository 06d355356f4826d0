//! Drives state sync ([`crate::sync`]) on a thread of its own.
//!
//! `driver` is the loop: datagrams, the clock and scans of the tables in, datagrams out; `books` the
//! tables as the mirror sees them; `sockets` what it speaks by, `source` from where; [`key`] the cluster's secret. A scan
//! compares the state words of all ways with those that were told, every 50 ms for tables of usual
//! size, so the packet path does nothing for state sync at all.

pub mod key;

mod books;
mod driver;
mod sockets;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use tracing::warn;

use super::drive::Clock;
use super::vrrp::Inputs;
use crate::config::model::{Config, StateSync};
use crate::dataplane::ebpf::shared::Shared;
use crate::plan::pool::Overrides;
use crate::sync::key::{Keys, fingerprint};
use crate::sync::mirror::Mirror;
use crate::sync::record::{ServiceName, Stamp};
use crate::sync::report::Report;
use crate::sync::view::views;
use crate::sync::{Settings, mirror};
use books::Books;
use driver::Driver;
use sockets::Transport;

/// What the thread is told.
enum Command {
    Configured {
        views: BTreeMap<ServiceName, u64>,
        vips: BTreeSet<IpAddr>,
    },
    Report(oneshot::Sender<Report>),
    Input(mirror::Input),
    End,
}

/// Speaks to the thread. It ends with the last of these.
#[derive(Clone)]
pub struct Syncing {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    wake: UnixStream,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.send(Command::End);
    }
}

impl fmt::Debug for Syncing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syncing").finish_non_exhaustive()
    }
}

impl Inner {
    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            return;
        }
        match (&self.wake).write(&[1]) {
            Ok(_) => {}
            // It is full of calls already.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => warn!("the thread of state sync cannot be woken up: {error}"),
        }
    }
}

/// Whom the thread tells what.
pub struct Listeners {
    /// The elections: whether a worse master is to be left alone.
    pub routers: Inputs,
    /// Takes overrides that a peer has told.
    pub adopt: watch::Sender<Overrides>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}

/// State sync as the rest of the agent has it.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The thread; `None`: it is not configured.
    pub thread: Option<Syncing>,
    /// Overrides that another director was told.
    pub adopted: watch::Receiver<Overrides>,
}

impl Synced {
    /// None.
    pub fn none() -> Self {
        let (_, adopted) = watch::channel(Overrides::new());
        let thread = None;
        Self { thread, adopted }
    }
}

impl Syncing {
    /// Starts the thread, in the network namespace of the calling one.
    pub fn start(
        config: &Config,
        sync: &StateSync,
        keys: Keys,
        shared: Shared,
        listeners: Listeners,
    ) -> io::Result<Self> {
        let clock = Clock::start();
        let settings = Settings {
            cluster: cluster(config),
            session: random()?,
            epoch: wall(),
            peers: sync.peers.clone(),
            longest: usize::from(longest(config, sync)),
            hash_key: fingerprint(shared.hash_key()),
            keys: keys.clone(),
        };
        let mut books = Books::new(shared, keys);
        books.set_views(views(config));
        let (commands, received) = mpsc::channel();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let mirror = Mirror::new(clock.now(), settings);
        let transport = transport(config, sync);
        let driver = Driver::new(
            clock,
            (received, woken),
            (mirror, books),
            (transport, config.moving_vips()),
            (listeners, sync.wait),
        );
        std::thread::Builder::new()
            .name("sync".to_owned())
            .spawn(move || driver.run())?;
        let inner = Arc::new(Inner { commands, wake });
        Ok(Self { inner })
    }

    /// The configuration changed.
    pub fn configure(&self, config: &Config) {
        self.inner.send(Command::Configured {
            views: views(config),
            vips: config.moving_vips(),
        });
    }

    /// These are the overrides in force, changed at that moment, milliseconds since 1970. Those that
    /// nobody ever changed are no news.
    pub fn overridden(&self, changed: u64, overrides: &Overrides) {
        if changed == 0 {
            return;
        }
        let stamp = Stamp {
            millis: changed,
            session: 0,
        };
        let overrides = overrides.iter().map(|(server, said)| (*server, *said));
        self.inner.send(Command::Input(mirror::Input::Overrides {
            stamp,
            overrides: overrides.collect(),
        }));
    }

    /// How it stands; `None` when the thread has ended.
    pub async fn report(&self) -> Option<Report> {
        let (reply, report) = oneshot::channel();
        self.inner.send(Command::Report(reply));
        report.await.ok()
    }
}

/// `syncid`: what `lvs_sync_daemon` says, else the VRID of its instance.
fn cluster(config: &Config) -> u8 {
    let Some(daemon) = &config.global.sync else {
        return 0;
    };
    let of_instance = || {
        let name = daemon.instance.as_ref()?;
        let mut instances = config.vrrp_instances.iter();
        let instance = instances.find(|instance| instance.name == *name)?;
        Some(instance.virtual_router_id)
    };
    daemon.id.or_else(of_instance).unwrap_or(0)
}

fn longest(config: &Config, sync: &StateSync) -> u16 {
    let daemon = config.global.sync.as_ref();
    let of_daemon = daemon.and_then(|daemon| daemon.max_length);
    let longest = sync.max_length.or(of_daemon);
    longest.unwrap_or(StateSync::MAX_LENGTH)
}

fn transport(config: &Config, sync: &StateSync) -> Transport {
    let daemon = config.global.sync.as_ref();
    let interface = daemon.map(|daemon| daemon.interface.clone());
    // Peers are where the routes say, unless the block itself says otherwise.
    let interface = interface.filter(|_| sync.peers.is_empty());
    Transport {
        peers: sync.peers.clone(),
        group: daemon.map_or(StateSync::GROUP, |daemon| daemon.group),
        ttl: daemon.map_or(1, |daemon| daemon.ttl),
        port: sync
            .port
            .or_else(|| daemon.map(|daemon| daemon.port))
            .unwrap_or(StateSync::PORT),
        interface: sync.interface.clone().or(interface),
    }
}

/// Milliseconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A number that nobody can guess, not 0.
fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}
