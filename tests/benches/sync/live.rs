//! 20,000 new connections a second: what telling and hearing of them takes, and how late they are known.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xdp_lb_tests::figures::Figures;
use xdp_lb_tests::interrupt;
use xdp_lb_tests::metrics::Scrape;
use xdp_lb_tests::stream;
use xdp_lb_tests::wait::{self, pass};

use crate::client::{Client, Inside};
use crate::known::{Hashes, Known};
use crate::site::{A, B, PATIENCE, Site};

/// New connections a second.
const RATE: u32 = 20_000;
/// For how long.
const TIME: Duration = Duration::from_secs(20);
/// Those that come at once, every 6.4 ms.
const BATCH: u32 = 128;
/// Connections that both know before.
const HELD: u32 = 1 << 19;
/// How long both are looked at while nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// Between two looks for what the peer knows.
const LOOK: Duration = Duration::from_millis(2);
/// After the last connection, until all are known.
const REST: Duration = Duration::from_secs(5);

/// Of a core.
const CPU_LIMIT: f64 = 20.0;
/// From confirmation until the peer knows.
const LATENESS_LIMIT_MS: f64 = 100.0;

/// Needs directors of which the first is the better one.
pub(crate) fn measure(figures: &mut Figures, site: &mut Site) -> Result<()> {
    eprintln!("two directors with {HELD} connections");
    site.start_first()?;
    let mut client = Client::of(site, A)?;
    client.establish(HELD)?;
    site.director(B)?.start_whole()?;
    let known = [A, B].map(|number| Known::open(&site.instance(number)?));
    let [first, second] = known;
    let (first, second) = (first?, second?);
    let held = first.established();
    wait::until("the second director knows them", PATIENCE, || {
        Ok((second.established() == held).then_some(()))
    })?;
    // What comes of the start is over.
    pass(Duration::from_secs(3))?;
    let before = Snapshot::take(site)?;
    pass(IDLE)?;
    before.used(figures, "nothing new, 524,288 held", site, None)?;

    eprintln!("{RATE} new connections a second");
    let scrape = site.director(A)?.scrape()?;
    let before = Snapshot::take(site)?;
    let hashes = Hashes::of_cluster()?;
    let opened = client.inside(|inside| opened(inside, &hashes, &second))?;
    let when = "20,000 new a second";
    before.used(figures, when, site, Some(CPU_LIMIT))?;
    told(figures, when, &scrape, site, &opened)?;
    let made = first.established() - held;
    ensure!(
        made == opened.flows as usize,
        "only {made} of {} connections were established",
        opened.flows
    );
    lateness(figures, when, opened)
}

/// What came of new connections.
struct Opened {
    flows: u32,
    /// In which they were opened.
    took: Duration,
    /// How late each came to be known.
    lateness: Vec<Duration>,
    /// Those that never were.
    unknown: usize,
}

/// Opens and confirms connections, and looks when the peer knows each.
fn opened(inside: &mut Inside<'_>, hashes: &Hashes, peer: &Known) -> Result<Opened> {
    stream::be_prompt();
    let period = Duration::from_secs(1) * BATCH / RATE;
    let batches = u32::try_from(TIME.as_nanos() / period.as_nanos())?;
    let mut waiting = Waiting::default();
    let start = Instant::now();
    for number in 0..batches {
        interrupt::check()?;
        waiting.look_until(start + period * number, peer);
        let first = HELD + number * BATCH;
        inside.open_more(first, BATCH)?;
        let confirmed = Instant::now();
        inside.confirm(first, BATCH)?;
        let flows = first..first + BATCH;
        let hashes = flows.map(|flow| hashes.of(flow)).collect();
        waiting.batches.push_back((confirmed, hashes));
    }
    let took = start.elapsed();
    let end = Instant::now() + REST;
    while !waiting.batches.is_empty() && Instant::now() < end {
        interrupt::check()?;
        waiting.look_until(Instant::now() + LOOK, peer);
    }
    let left = waiting.batches.iter();
    Ok(Opened {
        flows: batches * BATCH,
        took,
        lateness: waiting.lateness,
        unknown: left.map(|(_, hashes)| hashes.len()).sum(),
    })
}

/// Connections that the peer did not know when it was last looked.
#[derive(Default)]
struct Waiting {
    /// When they were confirmed, and their hashes.
    batches: VecDeque<(Instant, Vec<u64>)>,
    lateness: Vec<Duration>,
}

impl Waiting {
    /// Looks again and again until it is time, once at least.
    fn look_until(&mut self, due: Instant, peer: &Known) {
        loop {
            self.look(peer);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn look(&mut self, peer: &Known) {
        for (confirmed, hashes) in &mut self.batches {
            let before = hashes.len();
            hashes.retain(|hash| !peer.holds(*hash));
            let late = confirmed.elapsed();
            let found = before - hashes.len();
            self.lateness.extend(std::iter::repeat_n(late, found));
        }
        self.batches.retain(|(_, hashes)| !hashes.is_empty());
    }
}

/// CPU time of both agents and their threads of state sync, at a moment.
struct Snapshot {
    at: Instant,
    used: [[Duration; 2]; 2],
}

impl Snapshot {
    fn take(site: &mut Site) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            used: [site.usage(A)?, site.usage(B)?],
        })
    }

    /// What was used since.
    fn used(
        self,
        figures: &mut Figures,
        when: &str,
        site: &mut Site,
        limit: Option<f64>,
    ) -> Result<()> {
        let now = Self::take(site)?;
        let time = (now.at - self.at).as_secs_f64();
        let names = [
            ["CPU time of the master, of one core", "of it state sync"],
            ["CPU time of the backup, of one core", "of it state sync"],
        ];
        let rows = names.into_iter().zip(self.used.into_iter().zip(now.used));
        for (names, (before, after)) in rows {
            for (name, (before, after)) in names.into_iter().zip(before.into_iter().zip(after)) {
                let share = after.saturating_sub(before).as_secs_f64() / time;
                figures.add(when, name, (100.0 * share, "%"), limit);
            }
        }
        Ok(())
    }
}

/// What the master sent for them.
fn told(
    figures: &mut Figures,
    when: &str,
    before: &Scrape,
    site: &mut Site,
    opened: &Opened,
) -> Result<()> {
    let after = site.director(A)?.scrape()?;
    let value = |scrape: &Scrape, name: &str, labels: &[(&str, &str)]| {
        let value = scrape.one(name, labels);
        value.with_context(|| format!("no {name} in a scrape"))
    };
    let sent = |name: &str| -> Result<f64> {
        let labels = [("direction", "sent")];
        Ok(value(&after, name, &labels)? - value(before, name, &labels)?)
    };
    let took = opened.took.as_secs_f64();
    let rate = f64::from(opened.flows) / took;
    figures.add(when, "connections", (rate, "/s"), None);
    ensure!(
        rate > f64::from(RATE) * 0.98,
        "this machine opens only {rate:.0} connections a second"
    );
    let datagrams = sent("xdp_lb_sync_datagrams_total")?;
    figures.add(
        when,
        "datagrams of the master",
        (datagrams / took, "/s"),
        None,
    );
    let bytes = sent("xdp_lb_sync_bytes_total")?;
    figures.add(when, "their payload", (bytes / took / 1000.0, "kB/s"), None);
    let scan = value(&after, "xdp_lb_sync_scan_seconds", &[])?;
    figures.add(
        when,
        "a look through its tables",
        (1000.0 * scan, "ms"),
        None,
    );
    Ok(())
}

fn lateness(figures: &mut Figures, when: &str, opened: Opened) -> Result<()> {
    let Opened {
        mut lateness,
        unknown,
        ..
    } = opened;
    lateness.sort_unstable();
    let count = lateness.len();
    let rows = [
        ("known to the backup late, median", count / 2, None),
        (
            "the same, 99 of 100 within",
            count * 99 / 100,
            Some(LATENESS_LIMIT_MS),
        ),
        (
            "the same, all within",
            count.saturating_sub(1),
            Some(LATENESS_LIMIT_MS),
        ),
    ];
    for (what, at, limit) in rows {
        let late = lateness.get(at).context("no connection came to be known")?;
        let late = late.as_secs_f64() * 1000.0;
        figures.add(when, what, (late, "ms"), limit);
    }
    let unknown = u32::try_from(unknown)?.into();
    figures.add(when, "never known to the backup", (unknown, ""), Some(0.0));
    Ok(())
}
