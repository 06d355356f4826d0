//! The command line, as typed.

use clap::{Parser, Subcommand};

use super::capture::CaptureArgs;
use super::check::CheckArgs;
use super::list::ListArgs;
use super::order::{TargetArgs, WeightArgs};
use super::realserver::RealServerArgs;
use super::status::StatusArgs;
use super::sync::SyncArgs;
use super::trace::TraceArgs;
use super::up::UpArgs;
use super::vrrp::VrrpArgs;
use crate::sys::instance::Name;

/// Layer-4 load balancer: keepalived.conf in, XDP out.
#[derive(Debug, Parser)]
#[command(name = "xdp-lb", version)]
pub struct Args {
    /// The director meant, where several run on one machine
    #[arg(long, global = true, value_name = "NAME", default_value_t)]
    pub instance: Name,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the director in the foreground
    ///
    /// SIGTERM and SIGINT stop it and leave nothing behind. SIGQUIT ends it and leaves program, tables
    /// and VIPs to the next start, which takes them over with all connections. SIGHUP reads the file
    /// again; nothing changes unless the whole file is valid.
    Up(UpArgs),
    /// Check a configuration without running it
    Check(CheckArgs),
    /// Show virtual services and real servers, as ipvsadm does
    List(ListArgs),
    /// Show VRRP instances: who is master, since when and why
    ///
    /// The first line of each says what it is, since when, and what brought that about. The facts stand
    /// below, some only where there are any: adverts that were refused, by reason, with the last sender;
    /// adverts that were accepted although they differ from this director's; other masters that were
    /// heard while this director was MASTER.
    ///
    /// One line each: xdp-lb vrrp | grep '^[^ ]'
    Vrrp(VrrpArgs),
    /// Show the state of a director on one screen
    Status(StatusArgs),
    /// Tell which real server a client gets now, and by which rule, changing nothing
    ///
    /// The program that forwards says so itself, asked about a packet that is made up: a SYN, or a
    /// datagram. Fails where nothing balances such a packet, and says why. Where its client has a
    /// connection or sticks to a real server, that is shown, too.
    Trace(TraceArgs),
    /// Show what becomes of packets while it happens, until Ctrl-C
    ///
    /// One line for each packet of virtual services: when, from where to where, by which real server and
    /// for which reason. What comes faster than it can be shown is counted and told. Only while somebody
    /// watches does the program tell what it decides; to watch takes root.
    Capture(CaptureArgs),
    /// Show state sync: the other directors, and whether they hold the same connections
    Sync(SyncArgs),
    /// Set the weight of a real server, until told otherwise
    ///
    /// It is in force at once and survives reloads and restarts, but not a full stop. `file` instead of a
    /// number undoes it. It ends a drain.
    Weight(WeightArgs),
    /// Keep new connections from a real server
    ///
    /// Its connections go on, and its sticky clients stay (with `expire_quiescent` in the virtual server
    /// they move). Survives reloads and restarts, but not a full stop.
    Drain(TargetArgs),
    /// Undo a drain
    Undrain(TargetArgs),
    /// Read the configuration again, and print what that changes
    ///
    /// Nothing changes unless the whole file is valid.
    Reload,
    /// Make this host a real server of direct routing, or look whether it is one
    Realserver(RealServerArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_instance_can_stand_anywhere() {
        for line in [
            "xdp-lb --instance blue status",
            "xdp-lb status --instance blue",
        ] {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(args.instance.as_str(), "blue");
        }
        let args = Args::try_parse_from(["xdp-lb", "status"]).unwrap();
        assert_eq!(args.instance.as_str(), "default");
        assert!(Args::try_parse_from(["xdp-lb", "--instance", "../x", "status"]).is_err());
    }
}
