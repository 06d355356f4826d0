//! The program once more, over the tables of the running one, in another mode: to look at what it
//! decides. Both read and write the same maps, but for those that are of the mode alone.

use std::net::SocketAddr;

use aya::Ebpf as Object;
use aya::maps::{Array, Map, MapData};
use xdp_lb_common::addr::FAMILY_NONE;
use xdp_lb_common::backend::BackendName;
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::service::ServiceName;

use super::capture::{Plain, Watched};
use super::key::pinned_key;
use super::load::{self, PINNED, Purpose, STAGES};
use super::tables::{server_key, service_key};
use super::trace::Dry;
use super::{Options, attach};
use crate::config::model::ServiceKey;
use crate::dataplane::Error;
use crate::dataplane::decision::{Capture, Lens, Trace};
use crate::dataplane::mmap::MappedArray;
use crate::dataplane::pins::Pins;

/// Opens the packet path of an instance to look at it.
pub struct Glass {
    options: Options,
    plain: Plain,
}

impl Glass {
    /// For the packet path that was opened with these options, and its programs.
    pub(super) fn new(options: &Options, plain: Plain) -> Self {
        Self {
            options: options.clone(),
            plain,
        }
    }

    /// The program, to be asked.
    pub fn dry(&self) -> Result<Dry, Error> {
        Dry::open(&self.options)
    }
}

impl Lens for Glass {
    fn trace(&self) -> Result<Box<dyn Trace>, Error> {
        Ok(Box::new(self.dry()?))
    }

    fn capture(&self) -> Result<Box<dyn Capture>, Error> {
        Ok(Box::new(Watched::open(&self.options, self.plain.clone())?))
    }
}

/// The object loaded for a purpose, its programs in the kernel and attached to nothing.
pub(super) fn load(options: &Options, purpose: &Purpose) -> Result<(Object, HashKey), Error> {
    let pins = Pins::new(&options.instance);
    // The loader would make a map that is missing.
    if let Some(missing) = PINNED.iter().find(|map| !pins.map(map).exists()) {
        return Err(Error::Load(format!(
            "the tables are gone: {} is missing",
            pins.map(missing).display()
        )));
    }
    let key = pinned_key(&pins.map("KEY"))
        .ok_or_else(|| Error::Load("the hash key is not pinned".to_owned()))?;
    let mut object = load::object(options, key, purpose)?;
    load::load_programs(&mut object)?;
    if purpose.own.contains(&STAGES) {
        load::lead_on(&mut object)?;
    }
    Ok((object, key))
}

/// A map of the object.
pub(super) fn take(object: &mut Object, name: &str) -> Result<Map, Error> {
    object
        .take_map(name)
        .ok_or_else(|| Error::Load(format!("the object holds no map '{name}'")))
}

/// An array of the object, in the memory of this process.
pub(super) fn mapped<T: aya::Pod>(
    object: &mut Object,
    name: &str,
    len: u32,
) -> Result<MappedArray<T>, Error> {
    let Map::Array(map) = take(object, name)? else {
        return Err(Error::Load(format!("the map '{name}' is of another type")));
    };
    MappedArray::new(map.fd(), len)
        .map_err(|error| Error::Load(format!("cannot map the table '{name}': {error}")))
}

/// What the indexes of the tables mean.
pub(super) struct Names {
    services: Array<MapData, ServiceName>,
    backends: Array<MapData, BackendName>,
}

impl Names {
    pub(super) fn open(object: &mut Object) -> Result<Self, Error> {
        let wrong = |_wrong_type| Error::Load("the map of names is of another type".to_owned());
        Ok(Self {
            services: take(object, "SERVICE_NAMES")?.try_into().map_err(wrong)?,
            backends: take(object, "BACKEND_NAMES")?.try_into().map_err(wrong)?,
        })
    }

    /// The service of an index.
    pub(super) fn service(&self, index: u32) -> Option<ServiceKey> {
        service_key(&self.services.get(&index, 0).ok()?)
    }

    /// The real server of an index.
    pub(super) fn server(&self, index: u32) -> Option<SocketAddr> {
        let name = self.backends.get(&index, 0).ok()?;
        if name.family == FAMILY_NONE {
            return None;
        }
        server_key(&name).map(|(_service, address)| address)
    }
}

/// The entry program of an object.
pub(super) fn entry(object: &mut Object) -> Result<&mut aya::programs::Xdp, Error> {
    attach::program(object, attach::PROGRAM)
}
