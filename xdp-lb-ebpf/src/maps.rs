//! The tables. Sizes are set by the loader; see `xdp_lb_common::limits`. Userspace maps the arrays
//! that are `MMAPABLE` and writes them word by word; their data is then page-aligned too, so that a
//! place fills exactly two cache lines.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMapHash, PerCpuArray, ProgramArray, RingBuf};
use xdp_lb_common::answer::Bucket;
use xdp_lb_common::backend::{Backend, BackendName, Port};
use xdp_lb_common::conn::table::PlaceMemory;
use xdp_lb_common::decided::Decided;
use xdp_lb_common::flow::FlowInfo;
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::host::HostSlot;
use xdp_lb_common::limits::{
    HOST_SLOTS, MAX_BACKENDS, MAX_PORTS, MAX_SERVICES, SCHEDULE_SLOTS, SERVICE_INDEX_SLOTS,
};
use xdp_lb_common::load::Load;
use xdp_lb_common::reason::Counters;
use xdp_lb_common::service::{Control, Service, ServiceName, ServiceSlot, Stats};
use xdp_lb_common::stage;
use xdp_lb_common::vlan::VlanSlot;
use xdp_lb_common::watch::{Decision, FILTERS, Filter, Unshown};

/// The programs that the entry goes on to, see [`stage`].
#[map]
pub static STAGES: ProgramArray = ProgramArray::with_max_entries(stage::STAGES, 0);

/// What one program hands on to the next, a copy per CPU.
#[map]
pub static DECIDED: PerCpuArray<Decided> = PerCpuArray::with_max_entries(1, 0);

/// How many packets each CPU may answer yet.
#[map]
pub static ANSWERS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(1, 0);

/// Control words.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Index of virtual services, two banks.
#[map]
pub static SERVICE_INDEX: Array<ServiceSlot> =
    Array::with_max_entries(2 * SERVICE_INDEX_SLOTS, BPF_F_MMAPABLE);

/// Virtual services.
#[map]
pub static SERVICES: Array<Service> = Array::with_max_entries(MAX_SERVICES, BPF_F_MMAPABLE);

/// Where each service is in its schedule.
#[map]
pub static CURSORS: Array<u64> = Array::with_max_entries(MAX_SERVICES, BPF_F_MMAPABLE);

/// Hosts whose frames were balanced already, two banks.
#[map]
pub static HOSTS: Array<HostSlot> = Array::with_max_entries(2 * HOST_SLOTS, BPF_F_MMAPABLE);

/// Backends.
#[map]
pub static BACKENDS: Array<Backend> = Array::with_max_entries(MAX_BACKENDS, BPF_F_MMAPABLE);

/// Connections, limits and weights of backends; same index.
#[map]
pub static LOADS: Array<Load> = Array::with_max_entries(MAX_BACKENDS, BPF_F_MMAPABLE);

/// Scheduling tables of all services, entries are backends.
#[map]
pub static SLOTS: Array<u32> = Array::with_max_entries(SCHEDULE_SLOTS, BPF_F_MMAPABLE);

/// Interfaces that frames come in by.
#[map]
pub static PORTS: Array<Port> = Array::with_max_entries(MAX_PORTS, BPF_F_MMAPABLE);

/// Networks that tagged frames come from.
#[map]
pub static VLANS: Array<VlanSlot> = Array::with_max_entries(MAX_PORTS, BPF_F_MMAPABLE);

/// Interfaces that frames can be sent out of, by index.
#[map]
pub static TX_PORTS: DevMapHash = DevMapHash::with_max_entries(MAX_PORTS, 0);

/// Connections.
#[map]
pub static CONNS: Array<PlaceMemory> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What connections are; same index as the way.
#[map]
pub static CONN_INFO: Array<FlowInfo> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A bit per place that a connection did not fit into.
#[map]
pub static OVERFLOWS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Persistence templates.
#[map]
pub static TEMPLATES: Array<PlaceMemory> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What templates are; same index as the way.
#[map]
pub static TEMPLATE_INFO: Array<FlowInfo> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Packets by reason, and events.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Traffic by service.
#[map]
pub static SERVICE_STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(MAX_SERVICES, 0);

/// Traffic by backend.
#[map]
pub static BACKEND_STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);

/// Userspace's own: what each service index means.
#[map]
pub static SERVICE_NAMES: Array<ServiceName> = Array::with_max_entries(MAX_SERVICES, 0);

/// Userspace's own: what each backend index means.
#[map]
pub static BACKEND_NAMES: Array<BackendName> = Array::with_max_entries(MAX_BACKENDS, 0);

/// Userspace's own: the hash key, for the next start.
#[map]
pub static KEY: Array<HashKey> = Array::with_max_entries(1, 0);

/// What the program is about to decide, per CPU; for those who watch.
#[map]
pub static NOTE: PerCpuArray<Decision> = PerCpuArray::with_max_entries(1, 0);

/// What those who watch want to see.
#[map]
pub static FILTER: Array<Filter> = Array::with_max_entries(FILTERS, 0);

/// What they see.
#[map]
pub static DECISIONS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// How much they did not see.
#[map]
pub static UNSHOWN: PerCpuArray<Unshown> = PerCpuArray::with_max_entries(1, 0);
