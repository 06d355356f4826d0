//! The object with its maps and none of its programs in the kernel: for whoever asks the verifier about
//! each of them.

use aya::{Ebpf as Object, VerifierLogLevel};
use xdp_lb_common::hash::HashKey;

use super::image::NO_RING;
use super::load::{self, Purpose};
use super::{Options, read};
use crate::dataplane::Error;
use crate::dataplane::pins::Pins;

/// Maps of an instance of its own, removed on drop.
pub struct Bare {
    object: Object,
    pins: Pins,
}

impl Bare {
    /// Makes the maps, for programs of one of [`xdp_lb_common::watch::mode`]. They take frames in several
    /// buffers if the kernel has those. What the verifier says when it refuses one of them, or says of one
    /// that it takes, is as long as `log`.
    ///
    /// # Errors
    /// When the kernel refuses the maps, or any program whatsoever.
    pub fn open(options: &Options, mode: u32, log: VerifierLogLevel) -> Result<Self, Error> {
        let pins = Pins::new(&options.instance);
        pins.prepare()?;
        let opened = object(options, mode, log);
        let opened = opened.and_then(|mut object| {
            super::attach::program(&mut object, read::TICK)?
                .unload()
                .map_err(|error| load::refused("the smallest program", &error))?;
            Ok(object)
        });
        match opened {
            Ok(object) => Ok(Self { object, pins }),
            Err(error) => {
                // The error of the load is the one to tell.
                let _also_failed = pins.remove();
                Err(error)
            }
        }
    }

    /// The object.
    pub const fn object(&mut self) -> &mut Object {
        &mut self.object
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _failed = self.pins.remove();
    }
}

fn object(options: &Options, mode: u32, log: VerifierLogLevel) -> Result<Object, Error> {
    let purpose = Purpose {
        mode,
        own: &[],
        ring: NO_RING,
    };
    load::told(options, HashKey { k0: 1, k1: 2 }, &purpose, log)
}
