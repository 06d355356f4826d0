//! The loop of state sync.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use super::books::Books;
use super::sockets::{Sockets, Transport};
use super::{Command, Listeners};
use crate::agent::drive::Clock;
use crate::machine::Now;
use crate::sync::mirror::{Action, Input, Ledger as _, Mirror};
use crate::sync::record::Record;
use crate::sync::report::Report;
use crate::sync::wire::LONGEST;
use crate::vrrp::group;

/// Between the beginnings of two scans of the tables, at least.
const SCAN: Duration = Duration::from_millis(50);
/// A scan takes at most one part in so many of a CPU's time.
const SHARE: u32 = 6;
/// On a busy host, where it waits for a CPU, at most one part in so many of all time: what it found is sent in
/// between.
const BUSY_SHARE: u32 = 2;
/// Datagrams that are taken before anything else is looked after.
const DATAGRAMS: usize = 256;
/// Between two attempts to open the socket.
const REOPEN: Duration = Duration::from_secs(5);
/// Between two messages about datagrams that cannot be sent.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Between two attempts to wait, when waiting fails.
const PAUSE: Duration = Duration::from_millis(10);

/// Everything the thread owns.
pub(super) struct Driver {
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    wake: UnixStream,
    mirror: Mirror,
    books: Books,
    transport: Transport,
    /// No datagram comes from one of them.
    vips: BTreeSet<IpAddr>,
    sockets: Option<Sockets>,
    /// When the socket is opened, if it is not open.
    open_at: Now,
    /// The reason why it could not be opened, as it was said.
    said: Option<String>,
    /// When it was last said that nothing can be sent.
    unsent: Option<Now>,
    scan_at: Now,
    /// How long the last scan took, and how long it is from one to the next.
    scan: (Duration, Duration),
    listeners: Listeners,
    /// How long a worse master is left alone.
    patience: Duration,
    /// Since when this director has not been up to date, unless it was said.
    behind: Option<Now>,
    actions: Vec<Action>,
}

impl Driver {
    pub(super) fn new(
        clock: Clock,
        (commands, wake): (mpsc::Receiver<Command>, UnixStream),
        (mirror, books): (Mirror, Books),
        (transport, vips): (Transport, BTreeSet<IpAddr>),
        (listeners, patience): (Listeners, Duration),
    ) -> Self {
        let now = clock.now();
        Self {
            clock,
            commands,
            wake,
            mirror,
            books,
            transport,
            vips,
            sockets: None,
            open_at: now,
            said: None,
            unsent: None,
            scan_at: now,
            scan: (Duration::ZERO, SCAN),
            listeners,
            patience,
            behind: Some(now),
            actions: Vec::new(),
        }
    }

    /// Runs until it is told to end.
    pub(super) fn run(mut self) {
        let mut buffer = vec![0; LONGEST];
        while self.obey() {
            self.open();
            self.receive(&mut buffer);
            self.look();
            let now = self.clock.now();
            if self.mirror.deadline().is_some_and(|due| due <= now) {
                self.mirror.expire(now, &mut self.books, &mut self.actions);
            }
            self.carry_out();
            self.say_if_behind();
            self.wait();
        }
    }

    /// Does what it is told; whether to go on.
    fn obey(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Configured { views, vips }) => {
                    self.books.set_views(views);
                    if let Some(sockets) = &mut self.sockets {
                        sockets.set_vips(&vips);
                    }
                    self.vips = vips;
                }
                Ok(Command::Input(input)) => self.handle(input),
                Ok(Command::Report(reply)) => {
                    // Whoever asked may have gone.
                    drop(reply.send(self.report()));
                }
                Err(mpsc::TryRecvError::Empty) => return true,
                Ok(Command::End) | Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn report(&mut self) -> Report {
        self.books.refresh();
        let services = self.books.summaries().into_iter();
        Report {
            is_up_to_date: self.mirror.is_up_to_date(),
            peers: self.mirror.peers(self.clock.now()),
            stats: self.mirror.stats().clone(),
            services: services.map(|summary| (summary.service, summary)).collect(),
            scan: self.scan.0,
            scan_every: self.scan.1,
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.mirror
            .handle(now, input, &mut self.books, &mut self.actions);
    }

    /// Opens the socket, now or when the interface has come.
    fn open(&mut self) {
        let now = self.clock.now();
        if self.sockets.is_some() || self.open_at > now {
            return;
        }
        self.open_at = now.after(REOPEN);
        match Sockets::open(&self.transport, &self.vips) {
            Ok(sockets) => {
                self.sockets = Some(sockets);
                self.said = None;
            }
            Err(error) => {
                let Transport {
                    port, interface, ..
                } = &self.transport;
                let place = interface
                    .as_deref()
                    .map_or(String::new(), |interface| format!(" on {interface}"));
                let why = format!(
                    "state sync cannot use UDP port {port}{place}: {error}; it is tried every {} s",
                    REOPEN.as_secs()
                );
                if self.said.as_ref() != Some(&why) {
                    warn!("{why}");
                    self.said = Some(why);
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        self.books.refresh();
        for _ in 0..DATAGRAMS {
            let Some(sockets) = &self.sockets else { return };
            match sockets.receive(buffer) {
                Ok(Some((length, from))) => {
                    let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                    self.handle(Input::Received { from, datagram });
                }
                Ok(None) => return,
                Err(error) => {
                    // An interface that went takes its socket along.
                    warn!("state sync hears nothing: {error}; its socket is opened again");
                    self.sockets = None;
                    return;
                }
            }
        }
    }

    /// Looks for what has changed in the tables, if it is time.
    fn look(&mut self) {
        let begun = self.clock.now();
        if self.scan_at > begun {
            return;
        }
        let Self {
            books,
            mirror,
            actions,
            ..
        } = self;
        let (timer, spent) = (Instant::now(), cpu_time());
        books.refresh();
        books.scan(|books: &mut Books, mut records: Vec<Record>| {
            // No flow has two ways, so their order means nothing; together, those of one server take half the
            // room on the wire.
            records.sort_by_key(|record| (record.name.service, record.server));
            mirror.handle(begun, Input::Changed(records), books, actions);
        });
        let took = timer.elapsed();
        let spent = cpu_time().saturating_sub(spent);
        let pause = SCAN.max(spent * SHARE).max(took * BUSY_SHARE);
        self.scan = (took, pause);
        self.scan_at = begun.after(pause);
    }

    fn carry_out(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send { to, datagram } => {
                    let sent = self.sockets.as_mut().map(|of| of.send(to, &datagram));
                    if let Some(Err(error)) = sent {
                        self.could_not_send(&error);
                    }
                }
                Action::UpToDate(is) => self.note_up_to_date(is),
                Action::Adopt { overrides, .. } => {
                    let adopted = overrides.into_iter().collect();
                    self.listeners.adopt.send_replace(adopted);
                }
                Action::Say(event) if event.is_warning() => warn!("{event}"),
                Action::Say(event) => info!("{event}"),
            }
        }
        self.actions = actions;
    }

    fn could_not_send(&mut self, error: &std::io::Error) {
        // A peer that does not run, or a full queue: what did not arrive is asked for.
        if matches!(
            error.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::WouldBlock
        ) {
            return;
        }
        let now = self.clock.now();
        if self.unsent.is_none_or(|said| said.until(now) >= SAY_AGAIN) {
            self.unsent = Some(now);
            warn!("state sync cannot send to its peers: {error}");
        }
    }

    fn note_up_to_date(&mut self, is: bool) {
        let patience = (!is).then_some(self.patience);
        self.listeners
            .routers
            .tell(group::Input::Patience(patience));
        self.behind = (!is).then(|| self.clock.now());
    }

    /// Says once that the connections of no peer have come for so long that nobody waits for them.
    fn say_if_behind(&mut self) {
        let now = self.clock.now();
        let Some(since) = self.behind else { return };
        if since.until(now) < self.patience {
            return;
        }
        self.behind = None;
        if self
            .mirror
            .peers(now)
            .iter()
            .any(|peer| peer.is_established)
        {
            warn!(
                "state sync: the connections of the peers have not come within {} s; \
                 instances of this director wait for them no longer",
                self.patience.as_secs()
            );
        }
    }

    fn wait(&mut self) {
        let opening = self.sockets.is_none().then_some(self.open_at);
        let due = [self.mirror.deadline(), Some(self.scan_at), opening];
        let due = due.into_iter().flatten().min();
        let idle = due.map_or(SCAN, |due| self.clock.now().until(due));
        let wake = [self.wake.as_fd()];
        let sockets = self.sockets.iter().flat_map(Sockets::descriptors);
        let all = wake.into_iter().chain(sockets);
        let mut all: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if let Err(errno) = ppoll(&mut all, Some(TimeSpec::from(idle)), None)
            && errno != Errno::EINTR
        {
            warn!("state sync cannot wait for datagrams: {errno}");
            std::thread::sleep(PAUSE);
        }
        let mut buffer = [0; 64];
        while matches!(self.wake.read(&mut buffer), Ok(length) if length == buffer.len()) {}
    }
}

/// What this thread has had of a CPU; nothing if the kernel does not tell.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
