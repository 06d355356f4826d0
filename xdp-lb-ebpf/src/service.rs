//! Which virtual service a packet is for, and whether it is ours to balance.

use xdp_lb_common::addr::{Address, FAMILY_V4, FAMILY_V6, Mac};
use xdp_lb_common::flow::FlowV6;
use xdp_lb_common::host::{self, host_key, mac_bits};
use xdp_lb_common::lease;
use xdp_lb_common::limits::{HOST_SLOTS, MAX_PORTS, MAX_PROBES, SERVICE_INDEX_SLOTS};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::schedule::{self, Rule};
use xdp_lb_common::service::{
    Control, SERVICE_HAS_HOSTS, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, Service, ServiceSlot,
    index_start_v4, index_start_v6,
};
use xdp_lb_common::tick::LongTick;

use crate::family::{Family, halves, joined};
use crate::maps::{CONTROL, HOSTS, PORTS, SERVICE_INDEX, SERVICES};
use crate::packet::{Frame, Packet};

/// The words that control the tables, looked up once a packet.
#[derive(Clone, Copy)]
pub struct Words(*const Control);

/// The control words.
#[inline(always)]
pub fn control() -> Result<Words, Reason> {
    Ok(Words(CONTROL.get_ptr(0).ok_or(Reason::Inconsistent)?))
}

impl Words {
    /// The bank of the service index and of the host table that is in force.
    #[inline(always)]
    fn bank(self) -> u32 {
        // SAFETY: a map value; userspace changes the word while packets read, as those below.
        unsafe { (&raw const (*self.0).bank).read_volatile() as u32 & 1 }
    }

    /// The agent's last sign of life.
    #[inline(always)]
    fn heartbeat(self) -> LongTick {
        // SAFETY: as above.
        LongTick(unsafe { (&raw const (*self.0).heartbeat).read_volatile() } as u32)
    }

    /// The smallest MTU of all interfaces that packets leave by.
    #[inline(always)]
    pub fn smallest_mtu(self) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).smallest_mtu).read_volatile() as u32 }
    }

    /// Whether a packet for no service may be a reply whose addresses are to be translated.
    #[inline(always)]
    fn translates(self) -> bool {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).translates).read_volatile() != 0 }
    }
}

/// Whether a packet for no service may be a reply whose addresses are to be translated.
#[inline(always)]
pub fn translates() -> bool {
    control().is_ok_and(Words::translates)
}

/// A virtual service.
pub struct Found {
    /// Its index.
    pub index: u32,
    at: *const Service,
}

impl Found {
    /// Its settings. Userspace writes them word by word while packets read.
    #[inline(always)]
    pub fn get(&self) -> &Service {
        // SAFETY: a map value, valid as long as the program runs; every word is published whole.
        unsafe { &*self.at }
    }

    /// Whether clients stick to a real server.
    #[inline(always)]
    pub fn is_persistent(&self) -> bool {
        self.get().flags & SERVICE_PERSISTENT != 0
    }

    /// Whether each datagram is scheduled by itself.
    #[inline(always)]
    pub fn is_one_packet(&self) -> bool {
        self.get().flags & SERVICE_ONE_PACKET != 0
    }

    /// How new connections are placed.
    #[inline(always)]
    pub fn rule(&self) -> schedule::Word {
        // SAFETY: a map value; userspace changes the word while packets read.
        unsafe { (&raw const self.get().rule).read_volatile() }
    }

    /// Whether the scheduler hashes, and so knows a client again.
    #[inline(always)]
    pub fn is_hashed(&self) -> bool {
        Rule::of(self.rule()).is_hash()
    }
}

/// Looks the service of a packet up: by its port, then by any port.
#[inline(always)]
pub fn find(control: Words, packet: &Packet) -> Option<Found> {
    let bank = control.bank();
    let flow = &packet.flow;
    let index = match probe(bank, flow.vip_be, flow.vip_port_be, flow.protocol) {
        Some(index) => index,
        None => probe(bank, flow.vip_be, 0, flow.protocol)?,
    };
    at(index)
}

/// Looks the service of an IPv6 packet up.
#[inline(always)]
pub fn find_v6(control: Words, packet: &Packet<FlowV6>) -> Option<Found> {
    let bank = control.bank();
    let flow = &packet.flow;
    let index = match probe_v6(bank, flow.vip, flow.vip_port_be, flow.protocol) {
        Some(index) => index,
        None => probe_v6(bank, flow.vip, 0, flow.protocol)?,
    };
    at(index)
}

/// The service of an IPv6 address, if there is one.
#[inline(always)]
fn probe_v6(bank: u32, vip: Address, port_be: u16, protocol: u8) -> Option<u32> {
    let start = index_start_v6(vip, port_be, protocol);
    let slot = slot(bank, start)?;
    if slot.family == 0 {
        return None;
    }
    if is_slot_of_v6(slot, vip, port_be, protocol) {
        return Some(slot.service);
    }
    let (high, low) = halves(vip);
    let ports = u64::from(port_be) << 8 | u64::from(protocol);
    match probe_on_v6(bank << 31 | start, high, low, ports) {
        u64::MAX => None,
        index => Some(index as u32),
    }
}

/// As [`probe_on`]; the highest bit of `place` is the bank.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn probe_on_v6(place: u32, high: u64, low: u64, ports: u64) -> u64 {
    let vip = joined(high, low);
    for step in 1..MAX_PROBES {
        let Some(slot) = slot(place >> 31, place + step) else {
            return u64::MAX;
        };
        if slot.family == 0 {
            return u64::MAX;
        }
        if is_slot_of_v6(slot, vip, (ports >> 8) as u16, ports as u8) {
            return slot.service.into();
        }
    }
    u64::MAX
}

#[inline(always)]
fn is_slot_of_v6(slot: &ServiceSlot, vip: Address, port_be: u16, protocol: u8) -> bool {
    let is_of_address = slot.family == FAMILY_V6 && is_same(slot.vip, vip);
    is_of_address && slot.port_be == port_be && slot.protocol == protocol
}

/// Whether two addresses are the same; without a call to `memcmp`.
#[inline(always)]
pub fn is_same(one: Address, other: Address) -> bool {
    let (left, right) = (halves(one), halves(other));
    (left.0 ^ right.0) | (left.1 ^ right.1) == 0
}

/// The service of an index.
#[inline(always)]
pub fn at(index: u32) -> Option<Found> {
    Some(Found {
        index,
        at: SERVICES.get_ptr(index)?,
    })
}

/// The service of an address, if there is one.
#[inline(always)]
fn probe(bank: u32, vip_be: u32, port_be: u16, protocol: u8) -> Option<u32> {
    let start = index_start_v4(vip_be, port_be, protocol);
    let slot = slot(bank, start)?;
    if slot.family == 0 {
        return None;
    }
    if is_slot_of(slot, vip_be, port_be, protocol) {
        return Some(slot.service);
    }
    let ports = u64::from(port_be) << 8 | u64::from(protocol);
    match probe_on(bank, start, vip_be, ports) {
        u64::MAX => None,
        index => Some(index as u32),
    }
}

/// Goes on where another service stands in the first slot. Global, so that the verifier checks it
/// once; all ones for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn probe_on(bank: u32, start: u32, vip_be: u32, ports: u64) -> u64 {
    for step in 1..MAX_PROBES {
        let Some(slot) = slot(bank, start + step) else {
            return u64::MAX;
        };
        if slot.family == 0 {
            return u64::MAX;
        }
        if is_slot_of(slot, vip_be, (ports >> 8) as u16, ports as u8) {
            return slot.service.into();
        }
    }
    u64::MAX
}

#[inline(always)]
fn slot(bank: u32, at: u32) -> Option<&'static ServiceSlot> {
    SERVICE_INDEX.get((bank & 1) * SERVICE_INDEX_SLOTS + (at & (SERVICE_INDEX_SLOTS - 1)))
}

#[inline(always)]
fn is_slot_of(slot: &ServiceSlot, vip_be: u32, port_be: u16, protocol: u8) -> bool {
    slot.vip.words_be[0] == vip_be
        && slot.port_be == port_be
        && slot.protocol == protocol
        && slot.family == FAMILY_V4
}

/// Whether the packet is this director's to balance: addressed to it, its VIP owned, its agent heard
/// of, and not balanced by somebody else before.
#[inline(always)]
pub fn ours<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &Found,
    control: Words,
    now: LongTick,
) -> Result<(), Reason> {
    let settings = service.get();
    open(service, control, now)?;
    if !is_addressed_here(frame, packet) && !is_to_virtual_mac(packet, service) {
        return Err(Reason::OtherHost);
    }
    let [first, second] = mac_bits(packet.source);
    if settings.flags & SERVICE_HAS_HOSTS != 0
        && settings.host_filter & first != 0
        && settings.host_filter_2 & second != 0
        && packet
            .flow
            .is_balanced_already(packet.source.0, service.index)
    {
        return Err(Reason::AlreadyBalanced);
    }
    Ok(())
}

/// Whether the VIP is owned and the agent heard of.
#[inline(always)]
pub fn open(service: &Found, control: Words, now: LongTick) -> Result<(), Reason> {
    let settings = service.get();
    // SAFETY: a map value; userspace opens and closes the gate while packets read.
    let active = unsafe { (&raw const settings.active).read_volatile() };
    if active == 0 {
        return Err(Reason::NotActive);
    }
    if !lease::holds(settings.lease_ticks, control.heartbeat(), now) {
        return Err(Reason::LeaseOver);
    }
    Ok(())
}

/// Switches flood frames of hosts they do not know yet; an interface in promiscuous mode sees them.
#[inline(always)]
pub fn is_addressed_here<F>(frame: &Frame, packet: &Packet<F>) -> bool {
    mac_of(frame.ifindex()) == packet.destination.0
}

/// The MAC of an interface; all ones for one that is in no table.
#[inline(always)]
pub fn mac_of(ifindex: u32) -> u64 {
    match PORTS.get(ifindex & (MAX_PORTS - 1)) {
        Some(port) if port.ifindex == ifindex as u64 => port.mac,
        _ => port_mac(ifindex),
    }
}

/// The VIP may have a MAC of its own, which moves with it from director to director.
#[inline(always)]
fn is_to_virtual_mac<F>(packet: &Packet<F>, service: &Found) -> bool {
    let settings = service.get();
    // SAFETY: a map value; userspace changes the word whole while packets read.
    let mac = unsafe { (&raw const settings.virtual_mac).read_volatile() };
    mac != 0 && mac == packet.destination.0
}

/// The MAC of an interface that does not stand in its first slot; all ones for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn port_mac(ifindex: u32) -> u64 {
    for step in 1..MAX_PROBES {
        let Some(port) = PORTS.get((ifindex + step) & (MAX_PORTS - 1)) else {
            return u64::MAX;
        };
        if port.ifindex == ifindex as u64 {
            return port.mac;
        }
    }
    u64::MAX
}

/// 1 if the frame comes from a host of the service while its IP source is not that host's, else 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_balanced_already(source: u64, service: u32, client_be: u32) -> u32 {
    let mut client = Address::default();
    client.words_be[0] = client_be;
    by_host(source, service, (FAMILY_V4 as u32, &client))
}

/// [`is_balanced_already`] for an IPv6 client.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_balanced_already_v6(source: u64, service: u32, high: u64, low: u64) -> u32 {
    by_host(source, service, (FAMILY_V6 as u32, &joined(high, low)))
}

/// 1 if the frame comes from a host of the service and none of that host's addresses is the client's.
#[inline(always)]
fn by_host(source: u64, service: u32, client: (u32, &Address)) -> u32 {
    let Ok(control) = control() else { return 0 };
    let bank = control.bank();
    let key = host_key(Mac(source), service);
    host::is_foreign(key, client, |at| HOSTS.get(bank * HOST_SLOTS + at)) as u32
}
