//! `global_defs`, as far as it is not the default of a setting elsewhere: those are filled in there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Command, ScriptUser};

/// `global_defs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// `router_id`: the director's name in messages; by default the host's.
    pub router_id: Option<String>,
    /// Who gets mail, and how.
    pub mail: Mail,
    /// `script_user`: who runs commands that name nobody.
    pub script_user: Option<ScriptUser>,
    /// `enable_script_security`: commands that run as root and that others could change are refused.
    pub script_security: bool,
    /// `startup_script` and its `startup_script_timeout`.
    pub startup_script: Option<TimedCommand>,
    /// `shutdown_script` and its `shutdown_script_timeout`.
    pub shutdown_script: Option<TimedCommand>,
    /// `notify_fifo`: gets all events.
    pub notify_fifo: Option<Fifo>,
    /// `vrrp_notify_fifo`: gets the events of VRRP.
    pub vrrp_notify_fifo: Option<Fifo>,
    /// `lvs_notify_fifo`: gets the events of services and real servers.
    pub lvs_notify_fifo: Option<Fifo>,
    /// `rs_init_notifies`: `notify_up` and `notify_down` run at the start as well.
    pub notify_at_start: bool,
    /// `checker_log_all_failures`: every failed check is logged.
    pub log_all_failures: bool,
    /// `vrrp_startup_delay`: the instances wait as long.
    pub vrrp_startup_delay: Duration,
    /// `dynamic_interfaces`: interfaces may appear after the start.
    pub dynamic_interfaces: bool,
    /// `lvs_sync_daemon`.
    pub sync: Option<SyncDaemon>,
    /// `lvs_timeouts`.
    pub timeouts: Timeouts,
}

/// Mail: `notification_email`, `smtp_…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `notification_email`: who gets it. Nobody: no mail.
    pub to: Vec<String>,
    /// `notification_email_from`; by default `keepalived` at this host.
    pub from: Option<String>,
    /// `smtp_server`: host name or address, and port (25 by default).
    pub server: Option<(String, u16)>,
    /// `smtp_helo_name`; by default the host's name.
    pub helo_name: Option<String>,
    /// `smtp_connect_timeout`, 30 s by default.
    pub connect_timeout: Duration,
    /// Not `no_email_faults`: a VRRP instance that enters FAULT is worth a mail.
    pub faults: bool,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            to: Vec::new(),
            from: None,
            server: None,
            helo_name: None,
            connect_timeout: Duration::from_secs(30),
            faults: true,
        }
    }
}

/// A command that must end in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedCommand {
    /// The command.
    pub command: Command,
    /// Longest run, 10 s by default.
    pub timeout: Duration,
}

/// A named pipe that gets events, one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// Its path.
    pub path: PathBuf,
    /// What reads it; started with the path as its last argument.
    pub script: Option<Command>,
}

/// `lvs_sync_daemon`: how connections are made known to the other director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Interface that the messages take.
    pub interface: String,
    /// The `vrrp_instance` whose state decides who sends.
    pub instance: Option<String>,
    /// `id`: directors with the same one belong together, 0 to 255; by default the VRID of the
    /// instance, else 0.
    pub id: Option<u8>,
    /// `maxlen`: longest message, bytes; by default what the interface takes.
    pub max_length: Option<u16>,
    /// `port`, UDP, 8848 by default.
    pub port: u16,
    /// `ttl`, 1 by default.
    pub ttl: u8,
    /// `group`, 224.0.0.81 by default.
    pub group: IpAddr,
}

/// `lvs_timeouts`: lives of idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP connections, 900 s by default.
    pub tcp: Duration,
    /// TCP connections after a FIN, 120 s by default.
    pub tcp_fin: Duration,
    /// UDP flows, 300 s by default.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_mins(15),
            tcp_fin: Duration::from_mins(2),
            udp: Duration::from_mins(5),
        }
    }
}
