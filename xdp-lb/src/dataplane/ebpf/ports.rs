//! Interfaces: what the program knows of those that packets come in and leave by.

use xdp_lb_common::backend::Port as PortSlot;
use xdp_lb_common::limits::{MAX_PORTS, MAX_PROBES};
use xdp_lb_common::vlan::{self, VlanSlot};

use super::apply::kernel;
use super::tables::{SMALLEST_MTU, Tables};
use crate::dataplane::Error;
use crate::plan::desired::Port;

impl Tables {
    pub(super) fn set_port(&mut self, ifindex: u32, port: Port) -> Result<(), Error> {
        self.mtus.insert(ifindex, port.mtu);
        self.note_smallest_mtu();
        let known = |slot: PortSlot| slot.ifindex == u64::from(ifindex);
        let at = slot_of(
            ifindex,
            |at| known(self.ports.read(at)),
            |at| self.ports.read(at).ifindex == 0,
        )?;
        let key = port
            .vlan
            .map_or(0, |network| vlan::key(network.parent, network.tags));
        if self.ports.read(at).vlan != key {
            self.forget_network(ifindex);
        }
        let line = PortSlot {
            ifindex: ifindex.into(),
            mac: port.mac.0,
            vlan: key,
            reserved: 0,
        };
        self.ports.write(at, &line);
        if key == 0 {
            let out = self.tx_ports.insert(ifindex, ifindex, None, 0);
            return out.map_err(|e| kernel(&e));
        }
        let at = slot_of(
            vlan::start(key),
            |at| self.vlans.read(at).key == key,
            |at| self.vlans.read(at).key == 0,
        )?;
        let network = VlanSlot {
            key,
            mac: port.mac.0,
            ifindex: ifindex.into(),
            reserved: 0,
        };
        self.vlans.write(at, &network);
        Ok(())
    }

    /// Packets that fit the smallest MTU need not be asked about. (Those of an interface whose MTU is not
    /// known all are.)
    fn note_smallest_mtu(&mut self) {
        let smallest = self.mtus.values().min().copied().unwrap_or_default();
        self.control.store(0, SMALLEST_MTU, smallest.into());
    }

    pub(super) fn remove_port(&mut self, ifindex: u32) {
        self.mtus.remove(&ifindex);
        self.note_smallest_mtu();
        for at in 0..MAX_PORTS {
            if self.ports.read(at).ifindex == u64::from(ifindex) {
                self.ports.write(at, &PortSlot::default());
            }
        }
        self.forget_network(ifindex);
        // The kernel forgets an interface that is deleted by itself.
        let _gone = self.tx_ports.remove(ifindex);
    }

    /// Frames of the VLAN that an interface was are nobody's.
    fn forget_network(&mut self, ifindex: u32) {
        for at in 0..MAX_PORTS {
            if self.vlans.read(at).ifindex == u64::from(ifindex) {
                self.vlans.write(at, &VlanSlot::default());
            }
        }
    }
}

/// The slot of an interface in an open-addressed table: its own, else a free one.
fn slot_of(
    start: u32,
    is_own: impl Fn(u32) -> bool,
    is_free: impl Fn(u32) -> bool,
) -> Result<u32, Error> {
    let mut slots = (0..MAX_PROBES).map(|step| (start.wrapping_add(step)) & (MAX_PORTS - 1));
    let own = slots.clone().find(|at| is_own(*at));
    own.or_else(|| slots.find(|at| is_free(*at)))
        .ok_or_else(|| Error::Full {
            table: "interfaces",
            capacity: u64::from(MAX_PORTS),
            hint: "name fewer with --interface",
        })
}
