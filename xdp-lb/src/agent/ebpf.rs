//! The XDP program as the agent's packet path.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::seams::PacketPath;
use crate::dataplane::decision::Lens;
use crate::dataplane::ebpf::Ebpf;
use crate::dataplane::ebpf::shared::Shared;
use crate::dataplane::{AttachedMode, Error, Wish};

impl PacketPath for Ebpf {
    fn prepare(&mut self) -> Result<bool, Error> {
        Self::prepare(self)
    }

    fn attach(&mut self, interface: &str, ifindex: u32, wish: Wish) -> Result<AttachedMode, Error> {
        Self::attach(self, interface, ifindex, wish)
    }

    fn detach_others(&mut self, wanted: &BTreeSet<u32>) -> Result<(), Error> {
        for (ifindex, _) in self.attached()? {
            if !wanted.contains(&ifindex) {
                self.detach(ifindex)?;
            }
        }
        Ok(())
    }

    fn remove(self) -> Result<(), Error> {
        Self::remove(self)
    }

    fn took_over(&self) -> bool {
        Self::took_over(self)
    }

    fn lens(&self) -> Option<Arc<dyn Lens>> {
        Some(Arc::new(self.glass()))
    }

    fn share(&mut self) -> Result<Option<Shared>, Error> {
        Self::share(self).map(Some)
    }
}
