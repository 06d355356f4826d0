//! Sizes and bounds that both sides must agree on.

/// Ways in one place of a connection table: 8 × 16 bytes fill two adjacent cache lines.
pub const WAYS: usize = 8;

/// Default number of connections the table is made for (`xdp_lb { connections N }`).
pub const DEFAULT_CONNECTIONS: u32 = 1 << 20;

/// Default number of persistence templates the table is made for.
pub const DEFAULT_TEMPLATES: u32 = 1 << 18;

/// Ways per connection asked for: at 50 % load fewer than one flow in 100,000 finds no way.
pub const WAYS_PER_CONNECTION: u32 = 2;

/// Virtual services an instance can hold.
pub const MAX_SERVICES: u32 = 4096;

/// Slots of one bank of the service index: four per service keep probe sequences short.
pub const SERVICE_INDEX_SLOTS: u32 = MAX_SERVICES * 4;

/// Backends (pairs of virtual service and real server) an instance can hold.
pub const MAX_BACKENDS: u32 = 32_768;

/// Slots of one bank of the table of hosts that frames may come back from.
pub const HOST_SLOTS: u32 = MAX_BACKENDS * 2;

/// Longest probe sequence userspace may lay out in an open-addressed table.
pub const MAX_PROBES: u32 = 8;

/// Network ports (interfaces) the program can be attached to or send out of.
pub const MAX_PORTS: u32 = 256;

/// Entries that all scheduling tables of an instance share.
pub const SCHEDULE_SLOTS: u32 = 1 << 21;

/// Entries of a service's consistent-hash table; a prime, as Maglev needs.
pub const FALLBACK_SLOTS: u32 = 251;

/// Entries of one service's scheduling table; heavier weights are scaled down to fit.
pub const MAX_SERVICE_SLOTS: u32 = 65_536;

/// Version of everything under the pin folder; a start that finds another one starts afresh.
pub const LAYOUT_VERSION: u32 = 8;
