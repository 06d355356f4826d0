//! `xdp-lb sync`: what the directors of a cluster know of each other's connections.

use std::fmt::{Error, Write};
use std::time::Duration;

use super::output;
use super::time::age;
use crate::control::client;
use crate::control::protocol::Verb;
use crate::control::snapshot::sync::{StateSync, SyncPeer, SyncService};

/// The form of `--json`. It is stable: fields may be added, none changes or goes away.
const HELP: &str = r#"Print JSON

{"sync": null without state sync, else {"up_to_date", "scan_us", "scan_every_ms",
  "peers": [{"address", "established", "complete", "silent_ms": or null, "behind", "lag": datagrams,
    "same_hash_key": or null,
    "services": [{"service", "owner": "here|peer|both|none", "same_file": or null,
      "entries": or null, "peer_entries": or null, "equal": or null}]}],
  "records": {"changed", "told_again", "received", "applied", "kept_own", "unknown", "no_way"},
  "parts": {"missing", "repeated", "lost"},
  "datagrams": {"sent", "received"}, "bytes": {"sent", "received"},
  "refused": {reason: count}}}"#;

/// Show state sync: the other directors, and whether they hold the same connections
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SyncArgs {
    /// Print JSON
    #[arg(long, long_help = HELP)]
    pub json: bool,
}

/// Runs the command.
pub fn run(instance: &str, args: &SyncArgs) -> anyhow::Result<()> {
    let snapshot = client::ask(instance, Verb::Sync)?;
    let text = if args.json {
        let shown = serde_json::json!({ "sync": snapshot.sync });
        serde_json::to_string_pretty(&shown)? + "\n"
    } else {
        screen(snapshot.sync.as_ref())?
    };
    output::data(&text)
}

fn screen(sync: Option<&StateSync>) -> Result<String, Error> {
    let Some(sync) = sync else {
        return Ok(
            "there is no state sync: a failover ends connections whose server the other director \
             would not choose, too; write 'sync' into the xdp_lb block\n"
                .to_owned(),
        );
    };
    let mut out = String::new();
    let state = if sync.up_to_date {
        "up to date: this director holds what its peers hold"
    } else if sync.peers.iter().any(|peer| peer.established) {
        "not up to date yet: the connections of a peer are still coming"
    } else {
        "no peer is heard"
    };
    writeln!(out, "{state}")?;
    for peer in &sync.peers {
        of_peer(&mut out, peer)?;
    }
    writeln!(out, "\nEntries")?;
    let count = |name: &str| sync.records.get(name).copied().unwrap_or(0);
    writeln!(
        out,
        "  told {} as they changed, {} when peers asked; heard {}: {} taken, {} known better here, \
         {} of servers that are not in this file, {} found no room",
        count("changed"),
        count("told_again"),
        count("received"),
        count("applied"),
        count("kept_own"),
        count("unknown"),
        count("no_way"),
    )?;
    writeln!(
        out,
        "  the tables are looked through every {} ms, which takes {:.1} ms",
        sync.scan_every_ms,
        Duration::from_micros(sync.scan_us).as_secs_f64() * 1000.0,
    )?;
    if !sync.refused.is_empty() {
        let refused = sync.refused.iter();
        let refused: Vec<String> = refused
            .map(|(why, count)| format!("{why} {count}"))
            .collect();
        writeln!(out, "\nDatagrams refused\n  {}", refused.join(", "))?;
    }
    Ok(out)
}

fn of_peer(out: &mut String, peer: &SyncPeer) -> Result<(), Error> {
    let silence = peer.silent_ms.map(Duration::from_millis);
    let state = match (silence, peer.established) {
        (None, _) => "was never heard".to_owned(),
        (Some(silence), false) => format!("is silent since {}", age(silence)),
        (Some(_), true) if !peer.complete => "is heard; its entries are coming".to_owned(),
        (Some(_), true) => format!(
            "is heard; {} of its datagrams to take, it has {} of ours to take",
            peer.behind, peer.lag
        ),
    };
    writeln!(out, "\n{}: {state}", peer.address)?;
    if peer.same_hash_key == Some(false) {
        writeln!(
            out,
            "  its table was made with another hash key: connections that find no room in a full \
             table may change their server in a failover"
        )?;
    }
    for service in &peer.services {
        of_service(out, service)?;
    }
    Ok(())
}

fn of_service(out: &mut String, of: &SyncService) -> Result<(), Error> {
    let number = |entries: Option<u32>| entries.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let verdict = match (of.same_file, of.equal) {
        (None, _) if of.entries.is_none() => "not in this director's file",
        (None, _) => "not in the peer's file",
        (Some(false), _) => "the files say different things of it",
        (Some(true), Some(true)) => "equal",
        (Some(true), Some(false)) => "differed when they were compared last",
        (Some(true), None) => "not compared yet",
    };
    writeln!(
        out,
        "  {:<32} owner {:<5} connections {:>8} here {:>8} there  {verdict}",
        of.service,
        of.owner,
        number(of.entries),
        number(of.peer_entries),
    )
}

/// What `status` says of it, in lines; nothing without state sync.
pub(super) fn lines(sync: Option<&StateSync>) -> Vec<String> {
    let Some(sync) = sync else {
        return Vec::new();
    };
    let mut lines: Vec<String> = sync
        .peers
        .iter()
        .map(|peer| {
            let state = if !peer.established {
                "not heard"
            } else if sync.up_to_date {
                "up to date"
            } else {
                "its connections are coming"
            };
            format!("{:<21} {state}", peer.address)
        })
        .collect();
    for peer in &sync.peers {
        let differing: Vec<&str> = peer
            .services
            .iter()
            .filter(|of| of.same_file != Some(true))
            .map(|of| of.service.as_str())
            .collect();
        if let Some(first) = differing.first() {
            let more = match differing.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            lines.push(format!(
                "  {first}{more} stands differently in the file of {}: see `xdp-lb sync`",
                peer.address.ip(),
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    #[test]
    fn the_screen_says_what_differs() {
        let snapshot = sample::snapshot();
        let text = screen(snapshot.sync.as_ref()).unwrap();
        assert!(text.starts_with("not up to date yet"), "{text}");
        assert!(text.contains("192.168.1.3:8848: is heard"), "{text}");
        assert!(
            text.contains("the files say different things of it"),
            "{text}"
        );
        assert!(text.contains("was never heard"), "{text}");
        assert!(text.contains("digest 3"), "{text}");
        let lines = lines(snapshot.sync.as_ref());
        assert!(
            lines.iter().any(|line| line.contains("stands differently")),
            "{lines:?}"
        );
        assert!(screen(None).unwrap().contains("no state sync"));
    }
}
