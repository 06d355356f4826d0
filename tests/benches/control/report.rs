//! What is measured, and how.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xdp_lb_tests::figures::Figures;
use xdp_lb_tests::metrics::Scrape;
use xdp_lb_tests::wait::pass;

use crate::site::{PERIOD, Site};

/// Of one core.
const CPU_LIMIT: f64 = 40.0;
const MEMORY_LIMIT_MB: f64 = 300.0;
const LATENESS_LIMIT_MS: f64 = 1_000.0;
const DELAY_LIMIT_MS: f64 = 10.0;

const LATENESS: &str = "xdp_lb_health_check_lateness_seconds";
const DELAY: &str = "xdp_lb_verdict_delay_seconds";

/// The table.
#[derive(Default)]
pub(crate) struct Table(pub(crate) Figures);

impl Table {
    /// Memory, now.
    pub(crate) fn memory(&mut self, when: &str, site: &mut Site) -> Result<()> {
        let usage = site.usage()?;
        let resident = usage.resident_mb;
        self.0.add(
            when,
            "resident memory",
            (resident, "MB"),
            Some(MEMORY_LIMIT_MB),
        );
        self.0
            .add(when, "of it no tables", (usage.anonymous_mb, "MB"), None);
        Ok(())
    }

    /// What checks cost and how punctual they are, for some time in which nothing changes.
    pub(crate) fn window(&mut self, when: &str, site: &mut Site, time: Duration) -> Result<()> {
        let before = site.scrape()?;
        let (start, usage) = (Instant::now(), site.usage()?);
        let witness = site.witness()?;
        pass(time)?;
        let (gaps, asked) = witness.finish(site.serves())?;
        let spent = site.usage()?.cpu.saturating_sub(usage.cpu);
        let took = start.elapsed();
        let after = site.scrape()?;
        let cpu = 100.0 * spent.as_secs_f64() / took.as_secs_f64();
        self.0
            .add(when, "CPU time, of one core", (cpu, "%"), Some(CPU_LIMIT));
        let checks = difference(&before, &after, &format!("{LATENESS}_count"))?;
        let rate = checks / took.as_secs_f64();
        self.0.add(when, "checks", (rate, "/s"), None);
        self.0
            .add(when, "servers that were asked", (count(asked), ""), None);
        // From one check to the next as servers see it, with the time that the check took.
        let off =
            |gap: Option<&Duration>| ms(gap.map_or(Duration::MAX, |gap| gap.abs_diff(PERIOD)));
        let late = [
            ("a check early, as its server sees it", gaps.first()),
            ("a check late, as its server sees it", gaps.last()),
        ];
        for (what, gap) in late {
            self.0
                .add(when, what, (off(gap), "ms"), Some(LATENESS_LIMIT_MS));
        }
        let median = off(gaps.get(gaps.len() / 2));
        self.0
            .add(when, "the same, of the median", (median, "ms"), None);
        let mean = mean(&before, &after, LATENESS)?;
        self.0
            .add(when, "checks begin late, mean", (mean, "ms"), None);
        let worst = worst(&before, &after, LATENESS)?;
        let limit = Some(LATENESS_LIMIT_MS);
        self.0
            .add(when, "checks begin late, all within", (worst, "ms"), limit);
        Ok(())
    }

    /// How soon tables obey verdicts on servers that `die` is the end of.
    pub(crate) fn verdicts(
        &mut self,
        when: &str,
        site: &mut Site,
        die: impl FnOnce(&mut Site) -> Result<()>,
    ) -> Result<()> {
        let before = site.scrape()?;
        die(site)?;
        // A period, and a retry if an answer was lost.
        pass(2 * PERIOD + Duration::from_secs(2))?;
        let after = site.scrape()?;
        let verdicts = difference(&before, &after, &format!("{DELAY}_count"))?;
        self.0.add(when, "verdicts", (verdicts, ""), None);
        let mean = mean(&before, &after, DELAY)?;
        self.0
            .add(when, "verdict to tables, mean", (mean, "ms"), None);
        let worst = worst(&before, &after, DELAY)?;
        let limit = Some(DELAY_LIMIT_MS);
        self.0
            .add(when, "verdict to tables, all within", (worst, "ms"), limit);
        Ok(())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "thousands are exact")]
fn count(number: usize) -> f64 {
    number as f64
}

fn difference(before: &Scrape, after: &Scrape, name: &str) -> Result<f64> {
    let value = |scrape: &Scrape| {
        let value = scrape.one(name, &[]);
        value.with_context(|| format!("no {name} in a scrape"))
    };
    Ok(value(after)? - value(before)?)
}

/// The mean of what a histogram got, in milliseconds.
fn mean(before: &Scrape, after: &Scrape, histogram: &str) -> Result<f64> {
    let sum = difference(before, after, &format!("{histogram}_sum"))?;
    let count = difference(before, after, &format!("{histogram}_count"))?;
    Ok(1_000.0 * sum / count)
}

/// The bound that nothing a histogram got is above, in milliseconds.
fn worst(before: &Scrape, after: &Scrape, histogram: &str) -> Result<f64> {
    let name = format!("{histogram}_bucket");
    let total = difference(before, after, &format!("{histogram}_count"))?;
    let mut bounds: Vec<(f64, f64)> = Vec::new();
    for sample in after.all(&name) {
        let bound = sample
            .labels
            .get("le")
            .context("a bucket without a bound")?;
        let was = before.one(&name, &[("le", bound)]).unwrap_or(0.0);
        bounds.push((bound.parse()?, sample.value - was));
    }
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = bounds.into_iter().find(|(_, within)| *within >= total);
    Ok(1_000.0 * all.context("no bucket holds all")?.0)
}
