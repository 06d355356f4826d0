//! `xdp-lb list`: virtual services and real servers, laid out as `ipvsadm -Ln` does, so that scripts
//! that read one can read the other.

use std::thread::sleep;
use std::time::Duration;

use super::output;
use super::time::Moment;
use crate::control::client;
use crate::control::protocol::Verb;
use crate::control::snapshot::{ServerState, Service, Snapshot};

#[cfg(test)]
mod groups;
mod json;
mod rate;
mod table;
#[cfg(test)]
mod tests;

use rate::Rates;
use table::{Columns, Table};

/// Time between the two snapshots that rates are made from.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// List virtual services and real servers, in the layout of `ipvsadm -Ln`
///
/// The table holds what `ipvsadm` would show: real servers that are out of the tables are named on
/// standard error, one line each, with the reason. `--json` holds them all.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ListArgs {
    /// Accepted for scripts written for ipvsadm: addresses and ports are always numbers
    #[arg(short, long)]
    pub numeric: bool,
    /// Which columns.
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Print counters in full, where ipvsadm would print 100 million and more as K, M, G or T
    #[arg(long)]
    pub exact: bool,
    /// Print the state of each real server behind its columns: since when and why
    #[arg(short = 'v', long)]
    pub state: bool,
    /// Print JSON: every real server, with its state and why it is down
    #[arg(long, long_help = json::HELP)]
    pub json: bool,
}

/// The columns of the table: at most one choice.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one per flag; clap makes them exclusive"
)]
pub struct ColumnArgs {
    /// Show connections, packets and bytes
    #[arg(long)]
    pub stats: bool,
    /// Show connections, packets and bytes per second, measured over one second
    #[arg(long)]
    pub rate: bool,
    /// Show the connection thresholds of real servers
    #[arg(long)]
    pub thresholds: bool,
    /// Show the persistence templates of real servers
    #[arg(long)]
    pub persistent_conn: bool,
}

/// Runs the command.
pub fn run(instance: &str, args: &ListArgs) -> anyhow::Result<()> {
    let mut snapshot = client::ask(instance, Verb::List)?;
    let mut rates = None;
    if args.columns.rate {
        sleep(RATE_INTERVAL);
        let before = std::mem::replace(&mut snapshot, client::ask(instance, Verb::List)?);
        rates = Some(Rates::between(&before, &snapshot)?);
    }
    if args.json {
        return output::data(&json::render(&snapshot, rates.as_ref(), Moment::now())?);
    }
    let columns = match (&args.columns, &rates) {
        (_, Some(rates)) => Columns::Rate(rates),
        (ColumnArgs { stats: true, .. }, _) => Columns::Stats,
        (
            ColumnArgs {
                thresholds: true, ..
            },
            _,
        ) => Columns::Thresholds,
        (
            ColumnArgs {
                persistent_conn: true,
                ..
            },
            _,
        ) => Columns::PersistentConn,
        _ => Columns::Connections,
    };
    let table = Table {
        snapshot: &snapshot,
        columns,
        exact: args.exact,
        state: args.state,
    };
    output::data(&table.render()?)?;
    for line in absent(&snapshot) {
        output::remark(&line);
    }
    Ok(())
}

/// One line for each real server that is out of the tables.
fn absent(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &snapshot.services {
        let down = service.real_servers.iter();
        for server in down.filter(|server| server.state == ServerState::Down) {
            let (server_name, service_name) = (server.label(), service_name(service));
            let reason = server.reason.as_deref().unwrap_or("no reason given");
            lines.push(format!("{server_name} of {service_name} is down: {reason}"));
        }
    }
    lines
}

/// `TCP 192.168.1.200:80`, `FWM 1`
pub(super) fn service_name(service: &Service) -> String {
    let listed = service.listed();
    let words: Vec<_> = listed.split_whitespace().collect();
    words.join(" ")
}
