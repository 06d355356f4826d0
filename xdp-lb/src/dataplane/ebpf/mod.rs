//! The XDP program and its pinned maps.
//!
//! [`load`] brings the program and its maps into the kernel or takes over those of a predecessor;
//! [`attach`] puts it on interfaces; [`apply`] carries out changes; [`read`] reads counters, [`standing`]
//! keeps what schedulers need to know of each server. All
//! table memory is written word by word in an order that leaves no reader with half a truth: new
//! things are complete before anything points at them, old ones are unlinked before they are reused.

mod apply;
mod attach;
mod load;
#[cfg(feature = "bpf-log")]
mod log;
mod read;
pub mod shared;
mod standing;
mod tables;

use std::net::SocketAddr;
use std::sync::mpsc;

use aya::Ebpf as Object;
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::tick::Clock;

use super::pins::Pins;
use super::{Counters, Dataplane, Error, Inherited};
use crate::config::model::ServiceKey;
use crate::plan::diff::Change;
use shared::{Named, Shared};
use tables::Tables;

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
    /// The key of the tables' hash, if they are made anew; `None`: a random one.
    pub hash_key: Option<HashKey>,
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
            hash_key: None,
        }
    }
}

/// A real server of a service.
type ServerKey = (ServiceKey, SocketAddr);

/// The data plane in the kernel. Dropping it leaves everything pinned and running.
pub struct Ebpf {
    object: Object,
    pins: Pins,
    tables: Tables,
    inherited: Inherited,
    took_over: bool,
    /// What the programs are still to be loaded by; those of a predecessor forward till then.
    later: Option<(Options, HashKey)>,
    /// Messages for the operator about what could not be taken over.
    notes: Vec<String>,
    /// What [`Self::share`] needs again.
    origin: (Options, HashKey),
    /// Who is told of names that come and go.
    names: Option<mpsc::Sender<Named>>,
}

impl Ebpf {
    /// Loads the program; takes over pinned maps of a predecessor whose layout and sizes fit, else
    /// starts with empty ones. The predecessor's program goes on until the first interface is attached.
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
        let services = known.map(|(key, index)| Named::Service(*key, index));
        let known = self.tables.backend_ids.iter();
        let servers = known.map(|((key, address), index)| Named::Server(*key, *address, index));
        for named in services.chain(servers) {
            // The receiver stands below.
            sender.send(named).ok();
        }
        self.names = Some(sender);
        let (options, key) = &self.origin;
        Shared::open(shared::Origin {
            pins: &self.pins,
            sizes: &load::Sizes::new(options),
            options,
            key: *key,
            now: read::tick(&mut self.object)?,
            names,
        })
    }

    /// Tells state sync what a change made of names.
    fn tell_names(&mut self, change: &Change) {
        let Some(names) = &self.names else { return };
        let service = |key: &ServiceKey| match self.tables.service_ids.find(key) {
            Some(index) => Named::Service(*key, index),
            None => Named::NoService(*key),
        };
        let server = |key: &ServiceKey, address: SocketAddr| match self
            .tables
            .backend_ids
            .find(&(*key, address))
        {
            Some(index) => Named::Server(*key, address, index),
            None => Named::NoServer(*key, address),
        };
        let told = match change {
            Change::SetService(key, _) | Change::RemoveService(key) => [Some(service(key)), None],
            Change::SetServer(key, of) => [Some(service(key)), Some(server(key, of.address))],
            Change::RemoveServer(key, address) => [Some(server(key, *address)), None],
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
