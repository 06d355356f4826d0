//! A director that returns knowing nothing: it gets all that its peer has, and takes over only then.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xdp_lb_tests::adverts::Advert;
use xdp_lb_tests::figures::Figures;
use xdp_lb_tests::wait::pass;

use crate::client::{Client, Mac};
use crate::known::Known;
use crate::site::{A, B, INTERVAL, PATIENCE, Site, address};

/// Connections: the power of two that is next above a million.
pub(crate) const FLOWS: u32 = 1 << 20;
/// Those of them whose servers are compared.
const SAMPLE: usize = 1_000;

/// Until everything has come.
const LIMIT_S: f64 = 10.0;
/// From one advert to the next; a peer takes over after more than three intervals.
const GAP_LIMIT_S: f64 = 1.1;
/// How long adverts are listened to once the better director has taken over.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Between two looks into a table, each of which reads all of it.
const LOOK: Duration = Duration::from_millis(40);

/// Leaves the second director as the master, with all connections.
pub(crate) fn measure(figures: &mut Figures, site: &mut Site) -> Result<()> {
    eprintln!("a director with {FLOWS} connections");
    site.start_first()?;
    let mut client = Client::of(site, A)?;
    client.establish(FLOWS)?;
    let known = Known::open(&site.instance(A)?)?;
    let whole = known.established();
    ensure!(
        whole == usize::try_from(FLOWS)?,
        "only {whole} of {FLOWS} connections were established"
    );
    let servers = client.servers(sample())?;
    eprintln!("its better peer starts");
    let start = Instant::now();
    let (looks, master) = return_of_the_better(site, start, whole)?;
    let complete = looks.iter().find(|look| look.known >= whole);
    let complete = complete.context("it was never seen to hold all")?.ended;
    let when = "bulk, 1,048,576 held";
    let took = seconds(complete - start);
    figures.add(
        when,
        "from its start until it holds all",
        (took, "s"),
        Some(LIMIT_S),
    );
    let log = site.director(B)?.log();
    let (entries, asking) = synced(&log).with_context(|| format!("it never said so:\n{log}"))?;
    figures.add(when, "of that it was asking", (asking, "s"), Some(LIMIT_S));
    figures.add(when, "entries told for it", (entries, ""), None);
    let late = looks
        .iter()
        .find(|look| look.begun > master && look.known < whole);
    if let Some(look) = late {
        bail!("it took over with {} of {whole} connections", look.known);
    }
    let took = seconds(master - start);
    figures.add(when, "from its start until it preempts", (took, "s"), None);
    pass(AFTERWARDS)?;
    punctuality(figures, when, site, (start, master))?;
    compare(figures, when, site, &servers)
}

/// A look into the table.
struct Look {
    begun: Instant,
    ended: Instant,
    known: usize,
}

/// Starts the second director, and looks into its table until it is the master; when that was.
fn return_of_the_better(
    site: &mut Site,
    start: Instant,
    whole: usize,
) -> Result<(Vec<Look>, Instant)> {
    let instance = site.instance(B)?;
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| looks(&instance, whole, &ends));
        let started = site
            .director(B)
            .and_then(xdp_lb_tests::director::Director::start);
        let master = started.and_then(|()| site.adverts.wait_master(address(B), start, PATIENCE));
        if master.is_ok() {
            std::thread::sleep(4 * LOOK);
        }
        ends.store(true, Ordering::Relaxed);
        let looks = looks.join();
        let looks = looks.map_err(|_panic| anyhow::anyhow!("nobody looked into the table"))?;
        Ok((looks, master?))
    })
}

/// What is in a table, again and again. Whoever starts makes it anew.
fn looks(instance: &str, whole: usize, ends: &AtomicBool) -> Vec<Look> {
    let mut looks = Vec::new();
    let mut known = None;
    while !ends.load(Ordering::Relaxed) {
        known = known.or_else(|| Known::open(instance).ok());
        if let Some(known) = &known {
            let begun = Instant::now();
            let known = known.established().min(whole);
            let ended = Instant::now();
            looks.push(Look {
                begun,
                ended,
                known,
            });
        }
        std::thread::sleep(LOOK);
    }
    looks
}

/// What the journal says: how many entries came, and in how many seconds.
fn synced(log: &str) -> Option<(f64, f64)> {
    let (_, said) = log.split_once(" has come, ")?;
    let (entries, rest) = said.split_once(" entries in ")?;
    let (took, _) = rest.split_once(" s")?;
    Some((entries.parse().ok()?, took.parse().ok()?))
}

/// Whether both advertised in time.
fn punctuality(
    figures: &mut Figures,
    when: &str,
    site: &Site,
    (start, master): (Instant, Instant),
) -> Result<()> {
    let since = start.checked_sub(2 * INTERVAL).unwrap_or(start);
    let heard = site.adverts.since(since);
    let of = |source: Ipv4Addr| -> Vec<Instant> {
        let own = heard.iter().filter(|advert| advert.source == source);
        own.map(|advert: &Advert| advert.at).collect()
    };
    let (first, second) = (of(address(A)), of(address(B)));
    let last = first.last().context("the first director said nothing")?;
    let mut add = |what, gap: Duration| {
        figures.add(when, what, (seconds(gap), "s"), Some(GAP_LIMIT_S));
    };
    add("longest between adverts of its peer", longest(&first)?);
    add(
        "from its peer's last advert to its own",
        master.saturating_duration_since(*last),
    );
    add("longest between its adverts, 5 s long", longest(&second)?);
    Ok(())
}

fn longest(adverts: &[Instant]) -> Result<Duration> {
    let gaps = adverts.windows(2).filter_map(|pair| match pair {
        [one, next] => Some(*next - *one),
        _ => None,
    });
    gaps.max().context("there were not two adverts")
}

/// Whether the program of the second director finds the connections of the first, and where it sends
/// them.
fn compare(figures: &mut Figures, when: &str, site: &mut Site, servers: &[Mac]) -> Result<()> {
    let mut client = Client::of(site, B)?;
    let others = client.servers(sample())?;
    let differ = servers.iter().zip(&others).filter(|(a, b)| a != b).count();
    figures.add(
        when,
        "of 1,000 connections, at another server",
        (count(differ)?, ""),
        Some(0.0),
    );
    let before = site.director(B)?.packets("tx_connection")?;
    client.inside(|inside| inside.send(FLOWS))?;
    let found = site.director(B)?.packets("tx_connection")? - before;
    let missing = u64::from(FLOWS).saturating_sub(found);
    figures.add(
        when,
        "connections that its program misses",
        (count(usize::try_from(missing)?)?, ""),
        Some(0.0),
    );
    Ok(())
}

/// Flows, all over the table.
fn sample() -> impl Iterator<Item = u32> + Send {
    (0..FLOWS).step_by(FLOWS as usize / SAMPLE).take(SAMPLE)
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn count(number: usize) -> Result<f64> {
    Ok(u32::try_from(number)?.into())
}
