//! All metrics: the one place where their names, types, labels and help stand.

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name without the prefix `xdp_lb_`, and without the `_total` of counters.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One or two sentences.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, until the maps are made anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// As Prometheus names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The name that samples carry; a histogram appends its own suffixes.
    pub fn sample_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("xdp_lb_{}{suffix}", self.name)
    }
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// All metrics, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($id),+];
    };
}

metrics! {
    BUILD_INFO = Gauge "build_info" ["version"]
        "Version of the agent; always 1.";
    UPTIME = Gauge "uptime_seconds" []
        "Time since the agent started. The counters of packets are older: they survive a restart.";
    XDP_ATTACHED = Gauge "xdp_attached" ["interface", "mode"]
        "Interfaces that carry the XDP program, by mode: native or generic; always 1.";
    VRRP_STATE = Gauge "vrrp_state" ["instance_name", "state"]
        "State of a VRRP instance: of INIT, BACKUP, MASTER and FAULT the one it is in is 1, the others 0.";
    VRRP_STATE_AGE = Gauge "vrrp_state_age_seconds" ["instance_name"]
        "Time since a VRRP instance entered its state.";
    VRRP_PRIORITY = Gauge "vrrp_priority" ["instance_name"]
        "Effective priority of a VRRP instance: that of the file and what trackers make of it.";
    VRRP_BASE_PRIORITY = Gauge "vrrp_base_priority" ["instance_name"]
        "Priority of a VRRP instance in the file.";
    VRRP_TRANSITIONS = Counter "vrrp_transitions" ["instance_name"]
        "Changes of the state of a VRRP instance.";
    VRRP_BECAME_MASTER = Counter "vrrp_became_master" ["instance_name"]
        "Changes to MASTER.";
    VRRP_ADVERTS_SENT = Counter "vrrp_adverts_sent" ["instance_name"]
        "Adverts sent, to each unicast peer one, those of priority 0 included.";
    VRRP_ADVERTS_RECEIVED = Counter "vrrp_adverts_received" ["instance_name"]
        "Adverts received and accepted, those of priority 0 included.";
    VRRP_PRIORITY_ZERO_SENT = Counter "vrrp_priority_zero_sent" ["instance_name"]
        "Adverts of priority 0 sent: this director gave up.";
    VRRP_PRIORITY_ZERO_RECEIVED = Counter "vrrp_priority_zero_received" ["instance_name"]
        "Adverts of priority 0 received: a master gave up.";
    VRRP_ADVERT_ERRORS = Counter "vrrp_advert_errors" ["instance_name", "reason"]
        "Adverts refused, by reason.";
    VRRP_ADVERT_DIFFERENCES = Counter "vrrp_advert_differences" ["instance_name", "difference"]
        "Adverts accepted although they differ from this director's: in their VIPs (`address_list`) or their `interval`.";
    VRRP_OTHER_MASTERS = Counter "vrrp_other_masters" ["instance_name"]
        "Adverts of other masters received while this director was MASTER. A change of master brings one or two; more are two masters.";
    VRRP_LATE = Counter "vrrp_late" ["instance_name"]
        "Times that this director was MASTER and kept from advertising for so long that another may have taken over.";
    SERVICE_ACTIVE = Gauge "service_active" ["service"]
        "1 while this director balances the service, 0 while another owns its VIP.";
    SERVICE_QUORUM = Gauge "service_quorum" ["service"]
        "1 while as much weight of a virtual service is up as its quorum asks for.";
    SERVICE_LIVE_WEIGHT = Gauge "service_live_weight" ["service"]
        "Weight of the real servers of a virtual service that are up.";
    SERVICE_SORRY = Gauge "service_sorry" ["service"]
        "1 while the sorry server serves in place of the real servers.";
    SERVICE_CONNECTIONS = Counter "service_connections" ["service"]
        "New connections of a virtual service.";
    SERVICE_PACKETS = Counter "service_packets" ["service"]
        "Packets from clients that were sent on to a real server.";
    SERVICE_BYTES = Counter "service_bytes" ["service"]
        "IP length of the packets from clients that were sent on to a real server.";
    SERVICE_REPLY_PACKETS = Counter "service_reply_packets" ["service"]
        "Replies that were sent on to a client: those of real servers reached by address translation, as no others come by.";
    SERVICE_REPLY_BYTES = Counter "service_reply_bytes" ["service"]
        "IP length of the replies that were sent on to a client.";
    REAL_SERVER_UP = Gauge "real_server_up" ["service", "real_server"]
        "1 while a real server is in the tables: its health checks pass and its MAC address is known.";
    REAL_SERVER_WEIGHT = Gauge "real_server_weight" ["service", "real_server"]
        "Weight in force; 0 takes no new clients.";
    REAL_SERVER_OVERRIDDEN = Gauge "real_server_overridden" ["service", "real_server"]
        "1 while the weight of a real server is what an operator said at runtime.";
    REAL_SERVER_ACTIVE = Gauge "real_server_active_connections" ["service", "real_server"]
        "Connections of a real server that are established or opening.";
    REAL_SERVER_INACTIVE = Gauge "real_server_inactive_connections" ["service", "real_server"]
        "Connections of a real server that are closing or closed and still in the table, and UDP flows.";
    REAL_SERVER_TEMPLATES = Gauge "real_server_persistence_templates" ["service", "real_server"]
        "Clients that persistence keeps on a real server.";
    REAL_SERVER_CONNECTIONS = Counter "real_server_connections" ["service", "real_server"]
        "New connections of a real server.";
    REAL_SERVER_PACKETS = Counter "real_server_packets" ["service", "real_server"]
        "Packets sent on to a real server.";
    REAL_SERVER_BYTES = Counter "real_server_bytes" ["service", "real_server"]
        "IP length of the packets sent on to a real server.";
    REAL_SERVER_REPLY_PACKETS = Counter "real_server_reply_packets" ["service", "real_server"]
        "Replies of a real server reached by address translation that were sent on to a client.";
    REAL_SERVER_REPLY_BYTES = Counter "real_server_reply_bytes" ["service", "real_server"]
        "IP length of the replies of a real server that were sent on to a client.";
    SYNC_UP_TO_DATE = Gauge "sync_up_to_date" []
        "1 while this director holds what the other directors hold; without state sync there is no series.";
    SYNC_PEER_UP = Gauge "sync_peer_up" ["peer"]
        "1 while another director is heard and hears this one.";
    SYNC_PEER_COMPLETE = Gauge "sync_peer_complete" ["peer"]
        "1 once all entries of another director have come.";
    SYNC_PEER_LAG = Gauge "sync_peer_lag" ["peer"]
        "Datagrams that another director had not taken yet at its last sign of life.";
    SYNC_PEER_BEHIND = Gauge "sync_peer_behind" ["peer"]
        "Datagrams of another director that are known of and were not taken yet.";
    SYNC_SERVICES_DIFFERING = Gauge "sync_services_differing" ["peer"]
        "Virtual services that stand differently in the file of another director, or in one file alone.";
    SYNC_RECORDS = Counter "sync_records" ["kind"]
        "Connections and templates told (`changed`, `told_again`) and `received`; of these `applied`, `kept_own` where this director knows better, `unknown` servers, and `no_way` in a full table.";
    SYNC_PARTS = Counter "sync_parts" ["kind"]
        "Parts of the stream of another director that were `missing` and asked for, `repeated` for one, or `lost` for good.";
    SYNC_DATAGRAMS = Counter "sync_datagrams" ["direction"]
        "Datagrams of state sync, `sent` and `received`; one to several peers counts once.";
    SYNC_BYTES = Counter "sync_bytes" ["direction"]
        "UDP payload of the datagrams of state sync.";
    SYNC_REFUSED = Counter "sync_refused" ["reason"]
        "Datagrams that state sync refused, by reason.";
    SYNC_SCAN = Gauge "sync_scan_seconds" []
        "Time that the last look through the tables took.";
    HEALTH_CHECKS = Counter "health_checks" ["result"]
        "Health checks by result: success, failure or timeout.";
    HEALTH_CHECK_DURATION = Histogram "health_check_duration_seconds" []
        "Time that health checks took, whatever their result.";
    HEALTH_CHECK_LATENESS = Histogram "health_check_lateness_seconds" []
        "How long after their time health checks began.";
    VERDICT_DELAY = Histogram "verdict_delay_seconds" []
        "Time from a verdict on a real server to tables that obey it.";
    PACKETS = Counter "packets" ["reason"]
        "Packets by the reason why they left the XDP program the way they did; each has exactly one.";
    EVENTS = Counter "events" ["event"]
        "Events inside the XDP program, beside the one reason of each packet.";
    MAP_ENTRIES = Gauge "map_entries" ["map"]
        "Entries of a table in use.";
    MAP_CAPACITY = Gauge "map_capacity" ["map"]
        "Entries that a table has room for.";
}
