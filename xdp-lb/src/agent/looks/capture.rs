//! What becomes of packets, shown to all who watch, on a thread of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tracing::{debug, error, info};
use xdp_lb_common::watch::FILTERS;

use super::trace::name_of;
use super::{BLIND, Seen as Sight};
use crate::control::capture::{Line, Told};
use crate::control::looks::CaptureRequest;
use crate::dataplane::decision::{Capture, Seen};

/// Lines that wait for a client to read them. More are not shown.
const WAITING: usize = 4096;

/// Decisions that are passed on before anything else is looked at.
const AT_ONCE: usize = 4096;

/// The longest time until a client that came or went is noticed, milliseconds.
const PATIENCE_MS: u16 = 50;

/// How often the packet path is looked after, and clients hear of what they were not shown.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// Shows until nobody can ask any more.
pub(super) fn run(mut asked: mpsc::Receiver<CaptureRequest>, sight: &Sight) {
    // While nobody watches, nothing happens but that somebody asks.
    while let Some(request) = asked.blocking_recv() {
        let opened = match sight {
            Some(lens) => lens.capture().map_err(|error| error.to_string()),
            None => Err(BLIND.to_owned()),
        };
        let capture = match opened {
            Ok(capture) => capture,
            Err(why) => {
                refuse(request, why);
                continue;
            }
        };
        let mut show = Show::new(capture);
        show.admit(request);
        while !show.is_over() {
            match asked.try_recv() {
                Ok(request) => show.admit(request),
                Err(TryRecvError::Empty) => show.pass_on(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        show.end();
    }
}

fn refuse(request: CaptureRequest, why: String) {
    if request.reply.send(Err(why)).is_err() {
        debug!("whoever asked for a capture has gone");
    }
}

/// Those who watch, and what they watch.
struct Show {
    capture: Box<dyn Capture>,
    /// By the number of the filter.
    clients: [Option<Client>; FILTERS as usize],
    tended: Instant,
    interfaces: HashMap<u32, String>,
    is_broken: bool,
}

struct Client {
    lines: mpsc::Sender<Line>,
    /// What was decided before is another client's.
    since_ns: u64,
    /// Not shown by the program, when it was looked at last.
    unshown: u64,
    /// Not shown, and not told yet.
    owed: u64,
}

impl Client {
    /// Shows a line, or counts it as not shown.
    fn show(&mut self, line: Line) {
        match self.lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => self.owed += 1,
        }
    }

    /// Tells what was not shown, as soon as there is room.
    fn settle(&mut self) {
        if self.owed > 0 && self.lines.try_send(Line::NotShown(self.owed)).is_ok() {
            self.owed = 0;
        }
    }
}

impl Show {
    fn new(capture: Box<dyn Capture>) -> Self {
        Self {
            capture,
            clients: Default::default(),
            tended: Instant::now(),
            interfaces: HashMap::new(),
            is_broken: false,
        }
    }

    fn is_over(&self) -> bool {
        self.is_broken || self.clients.iter().all(Option::is_none)
    }

    /// Lets somebody watch.
    fn admit(&mut self, request: CaptureRequest) {
        let filter = match request.want.filter() {
            Ok(filter) => filter,
            Err(wrong) => return refuse(request, wrong),
        };
        let Some((number, place)) = free(&mut self.clients) else {
            let why = format!("{FILTERS} captures run already; end one of them");
            return refuse(request, why);
        };
        let unshown = self.capture.unshown();
        let unshown = unshown.map_or(0, |all| all.get(number as usize).copied().unwrap_or(0));
        let since_ns = monotonic_ns();
        if let Err(error) = self.capture.begin(number, &filter) {
            drop(self.capture.end(number));
            return refuse(request, error.to_string());
        }
        let (lines, reader) = mpsc::channel(WAITING);
        *place = Some(Client {
            lines,
            since_ns,
            unshown,
            owed: 0,
        });
        info!("capture {number} begins");
        if request.reply.send(Ok(reader)).is_err() {
            debug!("whoever asked for a capture has gone");
        }
    }

    /// Waits a moment and passes on what there is.
    fn pass_on(&mut self) {
        if let Err(error) = self.capture.wait(PATIENCE_MS) {
            error!("{error}");
            self.is_broken = true;
            return;
        }
        let wall = wall_clock();
        let (clients, interfaces) = (&mut self.clients, &mut self.interfaces);
        self.capture.read(AT_ONCE, &mut |seen| {
            show(clients, interfaces, seen, wall);
        });
        self.let_go();
        if self.tended.elapsed() >= TEND_EVERY {
            self.tend();
        }
    }

    /// Ends what nobody watches any more.
    fn let_go(&mut self) {
        for (number, place) in (0..).zip(&mut self.clients) {
            if place
                .as_ref()
                .is_some_and(|client| client.lines.is_closed())
            {
                *place = None;
                info!("capture {number} ends");
                if let Err(error) = self.capture.end(number) {
                    error!("{error}");
                }
            }
        }
    }

    fn tend(&mut self) {
        self.tended = Instant::now();
        self.interfaces.clear();
        if let Err(error) = self.capture.tend() {
            error!("{error}");
        }
        let unshown = match self.capture.unshown() {
            Ok(unshown) => unshown,
            Err(error) => return error!("{error}"),
        };
        for (client, unshown) in self.clients.iter_mut().zip(unshown) {
            let Some(client) = client else { continue };
            client.owed += unshown.saturating_sub(client.unshown);
            client.unshown = unshown;
            client.settle();
        }
    }

    /// Ends all that still runs.
    fn end(mut self) {
        self.clients = Default::default();
        for number in 0..FILTERS {
            if let Err(error) = self.capture.end(number) {
                error!("{error}");
                return;
            }
        }
    }
}

/// A place that nobody has.
fn free(clients: &mut [Option<Client>; FILTERS as usize]) -> Option<(u32, &mut Option<Client>)> {
    (0..).zip(clients).find(|(_, client)| client.is_none())
}

fn show(
    clients: &mut [Option<Client>],
    interfaces: &mut HashMap<u32, String>,
    seen: &Seen,
    wall: Wall,
) {
    let decision = &seen.decision;
    let ifindex = decision.ifindex;
    let interface = interfaces
        .entry(ifindex)
        .or_insert_with(|| name_of(ifindex).unwrap_or_else(|| format!("if{ifindex}")));
    let time_us = wall.micros_at(decision.time_ns);
    let line = Line::Decision(Box::new(Told::new(seen, time_us, interface.clone())));
    for (number, client) in (0..).zip(clients) {
        if decision.filters >> number & 1 == 1
            && let Some(client) = client
            && decision.time_ns >= client.since_ns
        {
            client.show(line.clone());
        }
    }
}

/// What the wall clock says, and what the monotonic one.
#[derive(Clone, Copy)]
struct Wall {
    wall_ns: u64,
    monotonic_ns: u64,
}

impl Wall {
    /// Microseconds since 1970 of a moment by the monotonic clock.
    const fn micros_at(self, monotonic_ns: u64) -> u64 {
        let age = self.monotonic_ns.saturating_sub(monotonic_ns);
        self.wall_ns.saturating_sub(age) / 1000
    }
}

fn wall_clock() -> Wall {
    Wall {
        wall_ns: now(ClockId::CLOCK_REALTIME),
        monotonic_ns: monotonic_ns(),
    }
}

fn monotonic_ns() -> u64 {
    now(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds by a clock that every kernel has.
fn now(clock: ClockId) -> u64 {
    let now = clock_gettime(clock).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
