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
mod standing;
mod tables;

use std::net::SocketAddr;

use aya::Ebpf as Object;
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::tick::Clock;

use super::pins::Pins;
use super::{Counters, Dataplane, Error, Inherited};
use crate::config::model::ServiceKey;
use crate::plan::diff::Change;
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
    /// Messages for the operator about what could not be taken over.
    notes: Vec<String>,
}

impl Ebpf {
    /// Loads the program; takes over pinned maps of a predecessor whose layout and sizes fit, else
    /// starts with empty ones.
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
        apply::apply(&mut self.tables, change)
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
