//! The XDP program and its pinned maps.
//!
//! [`load`] brings the program and its maps into the kernel, with the constants of [`image`] and the hash
//! [`key`], or takes over those of a predecessor; [`attach`] puts it on interfaces; [`apply`] carries out
//! changes, with [`ports`] for interfaces and [`publish`] for what packets look up as a whole; [`read`]
//! reads counters, [`standing`] keeps what schedulers need to know of each server. [`flows`] is the memory of
//! connections, which [`shared`] opens to state sync and [`moving`] fills anew in another size. [`trace`] and
//! [`capture`] load the program [`again`] to look at what it decides, [`bare`] has none of it loaded. All
//! table memory is written word by word in an order that leaves no reader with half a truth: new
//! things are complete before anything points at them, old ones are unlinked before they are reused.

mod again;
mod apply;
mod attach;
mod bare;
mod capture;
mod flows;
mod found;
mod image;
mod key;
mod load;
#[cfg(feature = "bpf-log")]
mod log;
mod moving;
mod ports;
mod publish;
mod read;
pub mod shared;
mod standing;
mod tables;
mod trace;

use std::net::SocketAddr;
use std::sync::mpsc;

use aya::Ebpf as Object;
use xdp_lb_common::answer;
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::tick::Clock;

use super::pins::Pins;
use super::{Counters, Dataplane, Error, Inherited};
use crate::config::model::ServiceKey;
use crate::plan::diff::Change;
use crate::sync::record::ServiceName;
pub use again::Glass;
pub use bare::Bare;
use capture::Plain;
use shared::{Named, Shared};
use tables::Tables;
pub use trace::Dry;

/// What the data plane is made for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the instance, which names the pin folder.
    pub instance: String,
    /// Connections the table is made for; rounded up to a power of two.
    pub connections: u32,
    /// Persistence templates the table is made for; rounded up to a power of two.
    pub templates: u32,
    /// How the kernel counts time.
    pub clock: Clock,
    /// Life of idle connections.
    pub timeouts: Timeouts,
    /// The cluster's key for new tables; `None`: one by chance.
    pub key: Option<HashKey>,
    /// Frames come in one buffer, as before Linux 5.18, and none is longer than a page.
    pub whole_frames: bool,
    /// What clients of a service without an eligible server are told: one of
    /// [`xdp_lb_common::answer::empty_pool`].
    pub empty_pool: u32,
    /// Packets that each CPU answers a second at most.
    pub answers_per_second: u32,
}

impl Options {
    /// The defaults on a kernel with this clock.
    pub fn new(instance: &str, clock: Clock) -> Self {
        Self {
            instance: instance.to_owned(),
            connections: xdp_lb_common::limits::DEFAULT_CONNECTIONS,
            templates: xdp_lb_common::limits::DEFAULT_TEMPLATES,
            clock,
            timeouts: Timeouts::defaults(clock),
            key: None,
            whole_frames: false,
            empty_pool: answer::empty_pool::UNREACHABLE,
            answers_per_second: answer::PER_SECOND,
        }
    }
}

/// A real server of a service.
type ServerKey = (ServiceKey, SocketAddr);

/// The data plane in the kernel. Dropping it leaves everything pinned and running.
pub struct Ebpf {
    object: Object,
    options: Options,
    /// The key of the tables' hash.
    key: HashKey,
    pins: Pins,
    tables: Tables,
    inherited: Inherited,
    took_over: bool,
    waiting: Waiting,
    plain: Plain,
    /// Messages for the operator about what could not be taken over.
    notes: Vec<String>,
    /// Who is told of names that come and go.
    names: Option<mpsc::Sender<Named>>,
    /// What comes into tables of another size from those of a predecessor.
    moving: Option<moving::Moving>,
}

/// Which programs are still to come into the kernel; those of a predecessor forward till then.
enum Waiting {
    No,
    ForStart,
    At(load::Loading),
}

impl Ebpf {
    /// Loads the program; takes over pinned maps of a predecessor whose layout fits, else starts with
    /// empty ones. Of tables whose size changes the entries are taken over. The predecessor's program goes on until the first interface is attached.
    pub fn open(options: &Options) -> Result<Self, Error> {
        load::open(options)
    }

    /// Removes program, links and maps.
    pub fn remove(self) -> Result<(), Error> {
        let Self {
            pins,
            object,
            tables,
            ..
        } = self;
        drop(tables);
        drop(object);
        pins.remove()
    }

    /// The tables of connections once more, for state sync, which is told from now on of all names that
    /// come and go.
    pub fn share(&mut self) -> Result<Shared, Error> {
        let (sender, names) = mpsc::channel();
        let known = self.tables.service_ids.iter();
        let services =
            known.filter_map(|(key, index)| Some(Named::Service(ServiceName::of(key)?, index)));
        let known = self.tables.backend_ids.iter();
        let servers = known.filter_map(|((key, address), index)| {
            Some(Named::Server(ServiceName::of(key)?, *address, index))
        });
        for named in services.chain(servers) {
            // The receiver stands below.
            sender.send(named).ok();
        }
        self.names = Some(sender);
        Shared::open(shared::Origin {
            pins: &self.pins,
            sizes: &load::Sizes::new(&self.options),
            options: &self.options,
            key: self.key,
            now: read::tick(&mut self.object)?,
            names,
        })
    }

    /// Tells state sync what a change made of names.
    fn tell_names(&mut self, change: &Change) {
        let Some(names) = &self.names else { return };
        let service = |key: &ServiceKey| {
            let name = ServiceName::of(key)?;
            Some(match self.tables.service_ids.find(key) {
                Some(index) => Named::Service(name, index),
                None => Named::NoService(name),
            })
        };
        let server = |key: &ServiceKey, address: SocketAddr| {
            let name = ServiceName::of(key)?;
            Some(match self.tables.backend_ids.find(&(*key, address)) {
                Some(index) => Named::Server(name, address, index),
                None => Named::NoServer(name, address),
            })
        };
        let told = match change {
            Change::SetService(key, _) | Change::RemoveService(key) => [service(key), None],
            Change::SetServer(key, of) => [service(key), server(key, of.address)],
            Change::RemoveServer(key, address) => [server(key, *address), None],
            Change::SetPort(..)
            | Change::RemovePort(_)
            | Change::SetActive(..)
            | Change::PurgeServer(..)
            | Change::AddAddress(_)
            | Change::RemoveAddress(_)
            | Change::Put(_)
            | Change::Take(_) => return,
        };
        for named in told.into_iter().flatten() {
            // State sync may have ended.
            names.send(named).ok();
        }
    }

    /// Whether tables of a predecessor were taken over.
    pub fn took_over(&self) -> bool {
        self.took_over
    }

    /// What the operator should know about the start: what could not be taken over and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Looks after the tables now, whenever that was done last.
    pub fn tend_now(&mut self) -> Result<(), Error> {
        let now = read::tick(&mut self.object)?;
        self.tables.tend_again(now.short())
    }

    /// What looks at the decisions of this packet path.
    pub fn glass(&self) -> Glass {
        Glass::new(&self.options, self.plain.clone())
    }

    /// The loaded object, for tests and benches that run its programs directly.
    pub fn object(&mut self) -> &mut Object {
        &mut self.object
    }
}

impl Dataplane for Ebpf {
    fn apply(&mut self, change: &Change) -> Result<(), Error> {
        let applied = apply::apply(&mut self.tables, change);
        self.tell_names(change);
        applied
    }

    fn heartbeat(&mut self) -> Result<(), Error> {
        let now = read::tick(&mut self.object)?;
        self.tables.heartbeat(now);
        self.catch_up(now.short());
        Ok(())
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        let now = read::tick(&mut self.object)?;
        read::counters(&mut self.tables, now.short())
    }

    fn tend(&mut self) -> Result<(), Error> {
        if self.tables.is_tended() {
            return Ok(());
        }
        let now = read::tick(&mut self.object)?;
        self.tables.tend(now.short())
    }

    fn inherited(&self) -> &Inherited {
        &self.inherited
    }
}
