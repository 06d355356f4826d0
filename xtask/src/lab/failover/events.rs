//! What happens to the cluster, one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Run;
use super::cluster::server_name;
use super::files::{DIRECTORS, FAST, FEW, HOSTS, MANY, SLOW, VIP, host_address, one_address};
use super::findings::{Allowed, Return};

/// The server that is added and removed.
const NEW: u8 = HOSTS + 1;
/// The server that is killed.
const VICTIM: u8 = 4;
/// The one of the hundred that another stands for.
const ONE: u8 = 17;
/// While the master is killed one of so many connections is renewed per second, so that there are young
/// ones: fewer in the 100 ms that are not told than may break.
const RENEWED: usize = 500;

/// Servers come, go, are drained, weighed and killed; the file changes.
pub(super) fn servers(run: &mut Run<'_>) -> Result<()> {
    let nothing = || Allowed::Nothing;
    run.event("a server is added", nothing(), |run| {
        run.cluster.reload(|files| files.few.push((NEW, 1)))?;
        run.cluster.wait_whole()
    })?;
    run.event("a server is drained", nothing(), |run| {
        order(run, &["drain"], &[])
    })?;
    run.event("that ends", nothing(), |run| order(run, &["undrain"], &[]))?;
    run.event("a server is re-weighted", nothing(), |run| {
        order(run, &["weight"], &["5"])
    })?;
    run.event("the file is re-weighted and reordered", nothing(), |run| {
        run.cluster.reload(|files| {
            files.few.reverse();
            for (number, weight) in &mut files.few {
                *weight = u32::from(*number);
            }
        })
    })?;
    let its = its(run, |address| address == host_address(NEW).to_string())?;
    run.event(
        "that server leaves the file",
        Allowed::Its {
            host: server_name(NEW),
            most: its,
        },
        |run| {
            run.cluster.reload(|files| {
                files.few.retain(|(number, _)| *number != NEW);
                files.few.sort_unstable();
            })
        },
    )?;
    one_of_a_hundred(run)?;
    let host = server_name(VICTIM);
    run.event(
        "a server is killed",
        Allowed::Its {
            host,
            most: u64::MAX,
        },
        |run| run.cluster.kill_server(VICTIM),
    )?;
    run.cluster.start_server(VICTIM)?;
    run.cluster.wait_whole()
}

/// The host of one of the hundred.
fn host_of(number: u8) -> String {
    server_name((number - 1) % HOSTS + 1)
}

/// Of a large service one server gives way to another.
fn one_of_a_hundred(run: &mut Run<'_>) -> Result<()> {
    let before = run.cluster.files.one_of_many(ONE);
    let host = host_of(ONE);
    let most = its(run, |address| address == before.to_string())?;
    run.event(
        "1 of 100 servers is replaced",
        Allowed::Its { host, most },
        |run| {
            run.cluster.reload(|files| {
                files.replaced = if files.replaced.is_none() {
                    Some(ONE)
                } else {
                    None
                };
            })?;
            run.cluster.wait_whole()
        },
    )
}

/// The master's agent goes and comes back on the same host.
pub(super) fn restarts(run: &mut Run<'_>) -> Result<()> {
    let allowed = || Allowed::NothingAndNoPacket;
    run.event("SIGQUIT and start", allowed(), |run| {
        restart(run, 0, Signal::SIGQUIT)
    })?;
    run.event("kill -9 and start", allowed(), |run| {
        restart(run, 0, Signal::SIGKILL)
    })?;
    let other = run.cluster.other_build(run.round)?;
    for director in &mut run.cluster.directors {
        director.upgrade(&other);
    }
    run.event("upgrade of both directors", allowed(), |run| {
        restart(run, 1, Signal::SIGQUIT)?;
        restart(run, 0, Signal::SIGQUIT)
    })?;
    run.cluster.files.entries = if run.cluster.files.entries == 65_536 {
        131_072
    } else {
        65_536
    };
    run.cluster.configure()?;
    run.event("upgrade with tables of another size", allowed(), |run| {
        restart(run, 1, Signal::SIGQUIT)?;
        run.wait_synced(1)?;
        restart(run, 0, Signal::SIGQUIT)?;
        run.wait_synced(0)
    })?;
    run.cluster.reload(|files| files.adverts = FAST)?;
    let allowed = of_removed(run)?;
    run.event("upgrade with another table layout", allowed, |run| {
        for number in [1, 0] {
            run.cluster.directors[number].end_by(Signal::SIGQUIT)?;
            run.cluster.other_layout(number)?;
            run.cluster.start_director(number)?;
            run.cluster.wait_master(0)?;
            run.wait_synced(number)?;
        }
        run.wait_synced(1)
    })?;
    run.cluster.reload(|files| files.adverts = SLOW)
}

/// The VIP moves.
pub(super) fn moves(run: &mut Run<'_>) -> Result<()> {
    let removed = of_removed(run)?;
    run.event("the master stops (SIGTERM)", removed.clone(), |run| {
        run.cluster.directors[0].end_by(Signal::SIGTERM)?;
        run.cluster.wait_master(1)
    })?;
    run.event("it starts, and preempts", removed, |run| {
        run.cluster.start_director(0)?;
        run.cluster.wait_master(0)?;
        run.wait_synced(1)
    })?;
    run.cluster.reload(|files| files.adverts = FAST)?;
    let renewed = (run.findings.connections / RENEWED).max(1);
    run.checker.renew(u32::try_from(renewed)?)?;
    run.event("the master is killed and cut off", Allowed::Young, |run| {
        run.cluster.cut_off(0)?;
        run.cluster.directors[0].end_by(Signal::SIGKILL)?;
        run.cluster.wait_master(1)
    })?;
    run.checker.renew(0)?;
    let mut back = Return::default();
    run.event("it returns, rebooted", Allowed::Nothing, |run| {
        back = returns(run)?;
        Ok(())
    })?;
    if let Some(event) = run.findings.events.last_mut() {
        event.back = run.findings.sync.then_some(back);
    }
    run.cluster.reload(|files| files.adverts = SLOW)
}

/// What is left of the server that gave way to another: a director that starts after that does not know it,
/// so that these connections end when they come to it.
fn of_removed(run: &Run<'_>) -> Result<Allowed> {
    let listed = run.cluster.directors[0].list()?;
    let addresses = [2, 3].map(|third| one_address(third, ONE).to_string());
    let in_file = run.cluster.files.one_of_many(ONE).to_string();
    let left = listed.real_servers().filter(|server| {
        let address = server.address.to_string();
        address != in_file && addresses.contains(&address)
    });
    Ok(Allowed::Its {
        host: host_of(ONE),
        most: left.map(|server| server.active_conns).sum(),
    })
}

fn restart(run: &mut Run<'_>, number: usize, signal: Signal) -> Result<()> {
    run.cluster.directors[number].end_by(signal)?;
    run.cluster.start_director(number)?;
    run.cluster.wait_master(0)
}

fn returns(run: &mut Run<'_>) -> Result<Return> {
    let start = Instant::now();
    run.cluster.reboot(0)?;
    run.cluster.start_director(0)?;
    // What does not happen in time is a finding, and no reason to stop looking.
    run.cluster.wait_master(0).ok();
    let patience = Duration::from_secs(1);
    let adverts = &run.cluster.adverts;
    let master = adverts.wait_master(DIRECTORS[0], start, patience).ok();
    let heard = adverts.since(start);
    let gaps = heard
        .iter()
        .zip(heard.iter().skip(1))
        .map(|(one, next)| (next.at - one.at).as_secs_f64());
    let log = run.cluster.directors[0].log();
    let synced = log.find("has come, ");
    Ok(Return {
        bulk: synced.and_then(|at| took(&log[at..])),
        master: master.map(|at| (at - start).as_secs_f64()),
        in_order: matches!((synced, log.find("→ MASTER")), (Some(a), Some(b)) if a < b),
        advert_gap: gaps.fold(0.0, f64::max),
    })
}

/// The seconds in `has come, 4711 entries in 0.2 s`.
fn took(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("entries in ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// An order about the second server of the service with persistence.
fn order(run: &Run<'_>, verb: &[&str], value: &[&str]) -> Result<()> {
    let service = format!("{VIP}:{FEW}");
    let server = format!("{}:{FEW}", host_address(2));
    let words = [verb, &[&*service, &*server], value].concat();
    run.cluster.directors[0].ask(&words).map(drop)
}

/// Connections and WebSockets of the servers with an address that `is`, as the master lists them.
fn its(run: &Run<'_>, is: impl Fn(&str) -> bool) -> Result<u64> {
    let list = run.cluster.directors[0].list()?;
    let found = list.real_servers();
    let found = found.filter(|server| is(&server.address.to_string()));
    let counts: Vec<_> = found.map(|server| server.active_conns).collect();
    let none = || format!("no such server at {VIP}, of {MANY} or {FEW}");
    counts.first().with_context(none)?;
    Ok(counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_bulk_transfer_is_read_off_the_log() {
        let log = "has come, 4711 entries in 0.2 s\nmore";
        assert_eq!(took(log), Some(0.2));
        assert_eq!(took("nothing"), None);
    }
}
