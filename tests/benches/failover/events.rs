//! What happens to a pair, and how the client and the wire see it.

use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use xdp_lb_tests::interrupt;
use xdp_lb_tests::stream::PACE;

use crate::report::Row;
use crate::site::{DIRECTORS, PATIENCE, Site, Version};

/// Something that happens to the master, or to the network between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing at all: the noise in the figures below.
    Nothing,
    /// SIGTERM.
    Stop,
    /// SIGKILL; the host goes on.
    Kill,
    /// Its cable is pulled, and it knows.
    Carrier,
    /// The switch forwards nothing from or to it any more, and nobody knows.
    Silence,
    /// SIGKILL, and a start before anybody can have taken over.
    Restart,
    /// They did not hear each other, both were master, and now they do.
    Heal,
    /// The master was cut off, and clients found the other one; now it is back.
    Return,
}

/// All of them, in the order of the table.
pub(crate) const EVENTS: [Event; 8] = [
    Event::Nothing,
    Event::Stop,
    Event::Kill,
    Event::Carrier,
    Event::Silence,
    Event::Restart,
    Event::Heal,
    Event::Return,
];

/// The row of [`under_load`].
pub(crate) const LOAD: &str = "take-overs in 30 s of 8 busy processes";

/// Busy processes, and for how long.
const BUSY: usize = 8;
const BUSY_FOR: Duration = Duration::from_secs(30);

/// keepalived announces a second time after 5 s; a partition that heals before that is another case.
const SECOND_BURST: Duration = Duration::from_millis(5500);

/// What one run of an event showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// The longest time without an answer.
    pub(crate) gap: Duration,
    /// From the last advert of the old master to the first of the new one.
    pub(crate) taken_over: Option<Duration>,
    /// How often the second director took over, where it should not.
    pub(crate) take_overs: Option<usize>,
}

impl Outcome {
    const fn of_gap(gap: Duration) -> Self {
        Self {
            gap,
            taken_over: None,
            take_overs: None,
        }
    }
}

impl Event {
    /// For the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no event",
            Self::Stop => "graceful stop",
            Self::Kill => "kill -9",
            Self::Carrier => "carrier loss",
            Self::Silence => "silent path loss",
            Self::Restart => "kill -9 and restart",
            Self::Heal => "partition heals",
            Self::Return => "lost path comes back",
        }
    }

    /// What the protocol allows, and how it is reckoned.
    pub(crate) fn formula(self, version: Version) -> Option<(Duration, &'static str)> {
        match self {
            Self::Nothing | Self::Restart => None,
            Self::Stop => Some((version.skew(), "skew")),
            Self::Kill | Self::Carrier | Self::Silence => {
                Some((version.down_timer(), "3 × interval + skew"))
            }
            Self::Heal | Self::Return => Some((version.interval(), "interval")),
        }
    }

    /// Brings it about once, measures, and makes all well again.
    pub(crate) fn run(self, site: &mut Site) -> Result<Outcome> {
        match self {
            Self::Nothing => nothing(site),
            Self::Stop => stop(site),
            Self::Kill => kill(site),
            Self::Carrier => cut(site, |site, whole| site.lan.set_cable("dir1", whole)),
            Self::Silence => cut(site, |site, whole| site.lan.set_forwarding("dir1", whole)),
            Self::Restart => restart(site),
            Self::Heal => heal(site, |site, whole| {
                let mut hosts = ["dir1", "dir2"].into_iter();
                hosts.try_for_each(|host| site.lan.set_multicast(host, whole))
            }),
            Self::Return => heal(site, |site, whole| site.lan.set_forwarding("dir1", whole)),
        }
    }
}

fn nothing(site: &Site) -> Result<Outcome> {
    let start = Instant::now();
    pause(site.version.down_timer().min(Duration::from_secs(1)))?;
    Ok(Outcome::of_gap(site.stream.longest_gap(start)))
}

fn stop(site: &mut Site) -> Result<Outcome> {
    let start = site.peers[0].terminate()?;
    let outcome = settle(site, start)?;
    site.peers[0].wait()?;
    site.restart_first()?;
    Ok(outcome)
}

fn kill(site: &mut Site) -> Result<Outcome> {
    let phase = random(site.version.interval());
    pause(phase)?;
    let start = site.peers[0].kill()?;
    let outcome = settle(site, start)?;
    site.clean_first();
    site.restart_first()?;
    Ok(outcome)
}

/// `set` makes the network whole, or not.
fn cut(site: &mut Site, set: impl Fn(&Site, bool) -> Result<()>) -> Result<Outcome> {
    pause(random(site.version.interval()))?;
    let start = Instant::now();
    set(site, false)?;
    let outcome = settle(site, start)?;
    set(site, true)?;
    site.wait_whole()?;
    Ok(outcome)
}

/// Waits until the second director has taken over and the client is served again.
fn settle(site: &Site, start: Instant) -> Result<Outcome> {
    let taken_over = site.wait_taken_over(start)?;
    let calm = (site.version.interval() * 2).min(Duration::from_millis(500));
    site.stream.wait_steady(calm, PATIENCE)?;
    Ok(Outcome {
        taken_over: Some(taken_over),
        ..Outcome::of_gap(site.stream.longest_gap(start))
    })
}

/// Killed at any moment between two adverts, and started again as a service manager does.
fn restart(site: &mut Site) -> Result<Outcome> {
    pause(random(site.version.interval()))?;
    let start = site.peers[0].kill()?;
    site.restart_first()?;
    pause(site.version.down_timer())?;
    let take_overs = site.take_overs(start);
    let gap = site.stream.longest_gap(start);
    site.wait_whole()?;
    Ok(Outcome {
        take_overs: Some(take_overs),
        ..Outcome::of_gap(gap)
    })
}

/// `set` parts the two directors, or brings them together.
fn heal(site: &Site, set: impl Fn(&Site, bool) -> Result<()>) -> Result<Outcome> {
    let start = Instant::now();
    set(site, false)?;
    site.wait_taken_over(start)?;
    pause(SECOND_BURST + random(site.version.interval()))?;
    let start = Instant::now();
    set(site, true)?;
    // By then the loser has heard of it.
    pause(site.version.interval() * 2 + Duration::from_millis(500))?;
    site.stream
        .wait_steady(Duration::from_millis(200), PATIENCE * 2)?;
    let gap = site.stream.longest_gap(start);
    site.adverts
        .wait_only(DIRECTORS[0], site.version.interval() * 3, PATIENCE)?;
    Ok(Outcome::of_gap(gap))
}

/// Counts how often the second director takes over from a first that is only short of CPU time.
pub(crate) fn under_load(site: &mut Site, name: &str) -> Result<Row> {
    let start = Instant::now();
    let busy = Busy::start()?;
    let paused = pause(BUSY_FOR);
    drop(busy);
    paused?;
    let mut row = Row::new(name, None);
    row.count(site.take_overs(start), site.stream.longest_gap(start));
    Ok(row)
}

/// Processes that do nothing, as fast as they can.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..BUSY {
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()?;
            busy.0.push(child);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Sleeps; an interrupt ends it.
fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(PACE * 100));
    }
}

/// A time below `limit` that nobody can foresee.
fn random(limit: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = now.unwrap_or_default().subsec_nanos();
    // Knuth's multiplier: neighbouring nanoseconds end up far apart.
    let hash = nanos.wrapping_mul(2_654_435_761);
    limit.mul_f64(f64::from(hash) / f64::from(u32::MAX))
}
