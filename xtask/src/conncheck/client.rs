//! The clients: sockets for the places in the [`Books`], driven by one thread without timers. A hand goes
//! round over all places once per heartbeat; whom it passes is asked, or found silent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::Socket;
use xdp_lb_tests::wait;

use super::books::{Books, Rules, Todo};
use super::sockets::{connect, make_room, ready, resent};
use super::tally::{Cause, Resent, Window};
use super::wire::{ANSWER, Answer, Frames, heartbeat};

/// What is ready at once.
const BATCH: usize = 1024;

/// From one look at sockets and hand to the next: answers wait so long at most, and come in batches.
const TICK: Duration = Duration::from_millis(2);

/// What is to be checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where to connect to: connections go round over the clients, then over these.
    pub(crate) to: Vec<SocketAddrV4>,
    /// The clients' addresses. A port serves one connection, so many connections need many addresses.
    pub(crate) from: Vec<Ipv4Addr>,
    /// How many connections.
    pub(crate) count: usize,
    /// How they are treated.
    pub(crate) rules: Rules,
}

impl Plan {
    fn ends(&self, index: usize) -> Option<(Ipv4Addr, SocketAddrV4)> {
        let (clients, targets) = (self.from.len().max(1), self.to.len().max(1));
        let from = self.from.get(index % clients)?;
        let to = self.to.get(index / clients % targets)?;
        Some((*from, *to))
    }
}

enum Order {
    Mark(Sender<Window>),
    Standing(Sender<usize>),
    Renew(u32),
}

/// Connections that are checked by a thread of their own. Dropping it closes them.
#[derive(Debug)]
pub(crate) struct Checker {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<Result<()>>>,
    count: usize,
}

impl Checker {
    /// Starts in the network namespace of the calling thread.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        make_room(plan.count)?;
        let count = plan.count;
        let mut driver = Driver::new(plan)?;
        let (orders, receiver) = channel();
        let thread = std::thread::spawn(move || driver.run(&receiver));
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
            count,
        })
    }

    /// Waits until every connection stands and has said who its server is.
    pub(crate) fn wait_open(&mut self, limit: Duration) -> Result<()> {
        let count = self.count;
        let mut last = 0;
        let all = wait::until("every connection stands", limit, || {
            last = self.ask(Order::Standing)?;
            Ok((last == count).then_some(()))
        });
        all.map(drop)
            .with_context(|| format!("{last} of {count} connections stand"))
    }

    /// Ends the window and begins another.
    pub(crate) fn mark(&mut self) -> Result<Window> {
        self.ask(Order::Mark)
    }

    /// From now on so many connections per second are closed in order and opened anew.
    pub(crate) fn renew(&mut self, per_second: u32) -> Result<()> {
        let order = Order::Renew(per_second);
        match self.orders.as_ref().map(|orders| orders.send(order)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(self.failure()),
        }
    }

    fn ask<T>(&mut self, order: fn(Sender<T>) -> Order) -> Result<T> {
        let (sender, answer) = channel();
        let sent = self
            .orders
            .as_ref()
            .map(|orders| orders.send(order(sender)));
        match (sent, answer.recv()) {
            (Some(Ok(())), Ok(answer)) => Ok(answer),
            _ => Err(self.failure()),
        }
    }

    /// Why nobody answers.
    fn failure(&mut self) -> anyhow::Error {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => anyhow!("the thread that checks connections has ended"),
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A place and the socket in it.
#[derive(Default)]
struct Seat {
    socket: Option<Socket>,
    connected: bool,
    frames: Frames<ANSWER>,
}

struct Driver {
    plan: Plan,
    books: Books,
    seats: Vec<Seat>,
    epoll: Epoll,
    start: Instant,
    /// The place that the hand comes to next, and when it was moved.
    hand: usize,
    moved: Duration,
}

impl Driver {
    fn new(plan: Plan) -> Result<Self> {
        let ends = (plan.from.len(), plan.to.len());
        Ok(Self {
            books: Books::new(plan.rules, plan.count, ends),
            seats: (0..plan.count).map(|_| Seat::default()).collect(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            start: Instant::now(),
            hand: 0,
            moved: Duration::ZERO,
            plan,
        })
    }

    /// Goes on until whoever gives orders is gone.
    fn run(&mut self, orders: &Receiver<Order>) -> Result<()> {
        let mut events = vec![EpollEvent::empty(); BATCH];
        loop {
            let tick = Instant::now();
            self.collect(&mut events)?;
            self.sweep()?;
            while let Some(index) = self.books.renewal(self.now()) {
                self.close(index);
            }
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(&order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            std::thread::sleep(TICK.saturating_sub(tick.elapsed()));
        }
    }

    fn obey(&mut self, order: &Order) {
        // Whoever asked and left does not need the answer.
        match order {
            Order::Mark(answer) => {
                for index in 0..self.seats.len() {
                    self.count_resent(index);
                }
                drop(answer.send(self.books.mark(self.now())));
            }
            Order::Standing(answer) => drop(answer.send(self.books.standing())),
            Order::Renew(per_second) => self.books.renew(*per_second, self.now()),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Takes in what has come.
    fn collect(&mut self, events: &mut [EpollEvent]) -> Result<()> {
        loop {
            let found = ready(&self.epoll, events, Some(0))?;
            for event in found {
                self.event(usize::try_from(event.data())?)?;
            }
            if found.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Moves the hand on to where it should be by now, one round at most.
    fn sweep(&mut self) -> Result<()> {
        let (now, count) = (self.now(), self.seats.len());
        let places = u128::try_from(count)?;
        let every = self.plan.rules.every.as_nanos().max(1);
        // Counted from the start, so that nothing is lost to rounding.
        let passed = |at: Duration| at.as_nanos() * places / every;
        let steps = passed(now) - passed(self.moved);
        self.moved = now;
        for _ in 0..steps.min(places) {
            self.act(self.hand)?;
            self.hand = (self.hand + 1) % count;
        }
        Ok(())
    }

    /// Does what is to be done at a place.
    fn act(&mut self, index: usize) -> Result<()> {
        match self.books.visit(index, self.now()) {
            Todo::Nothing => {}
            Todo::Open => self.open(index)?,
            Todo::Ask(number) => self.send(index, number),
            Todo::GiveUp => self.abandon(index),
        }
        Ok(())
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let ends = self.plan.ends(index);
        let (from, to) = ends.context("a connection needs two ends")?;
        match connect(from, to) {
            Ok(socket) => {
                let flags = EpollFlags::EPOLLOUT;
                let event = EpollEvent::new(flags, u64::try_from(index)?);
                self.epoll.add(&socket, event)?;
                if let Some(seat) = self.seats.get_mut(index) {
                    *seat = Seat {
                        socket: Some(socket),
                        ..Seat::default()
                    };
                }
            }
            Err(error) => self.books.refused(index, self.now(), &error.to_string()),
        }
        Ok(())
    }

    fn send(&mut self, index: usize, number: u32) {
        let socket = self.seats.get(index).and_then(|seat| seat.socket.as_ref());
        let sent = socket.map(|mut socket| socket.write_all(&heartbeat(number)));
        if !matches!(sent, Some(Ok(()))) {
            self.over(index, Cause::Reset);
        }
    }

    /// Something happened to a socket.
    fn event(&mut self, index: usize) -> Result<()> {
        let Some(seat) = self.seats.get_mut(index) else {
            return Ok(());
        };
        let Some(socket) = &seat.socket else {
            return Ok(());
        };
        if seat.connected {
            self.receive(index);
            return Ok(());
        }
        if let Some(error) = socket.take_error()? {
            seat.socket = None;
            let now = self.now();
            self.books.refused(index, now, &error.to_string());
        } else if socket.peer_addr().is_ok() {
            seat.connected = true;
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            let mut event = EpollEvent::new(flags, u64::try_from(index)?);
            self.epoll.modify(socket, &mut event)?;
            let resent = resent(socket);
            let now = self.now();
            self.books.connected(index, now, resent);
            self.act(index)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) {
        let now = self.now();
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        let Some(mut socket) = seat.socket.as_ref() else {
            return;
        };
        let mut piece = [0; 4 * ANSWER];
        let cause = match socket.read(&mut piece) {
            Ok(0) => Some(Cause::Ended),
            Ok(length) => {
                let (books, mut goes_on) = (&mut self.books, true);
                let piece = piece.get(..length).unwrap_or_default();
                seat.frames.push(piece, |frame| {
                    let answer = Answer::from_bytes(frame);
                    goes_on = goes_on && books.answered(index, now, &answer);
                });
                if !goes_on {
                    self.abandon(index);
                }
                None
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => Some(Cause::Reset),
        };
        if let Some(cause) = cause {
            self.over(index, cause);
        }
    }

    /// The socket says that it is over.
    fn over(&mut self, index: usize, cause: Cause) {
        self.close(index);
        self.books.over(index, self.now(), cause);
    }

    /// Closes at once a connection that is broken in the books: no FIN that nobody would acknowledge.
    fn abandon(&mut self, index: usize) {
        let socket = self.seats.get(index).and_then(|seat| seat.socket.as_ref());
        if let Some(socket) = socket {
            // A socket without a connection has none to abort.
            drop(socket.set_linger(Some(Duration::ZERO)));
        }
        self.close(index);
    }

    fn close(&mut self, index: usize) {
        self.count_resent(index);
        if let Some(seat) = self.seats.get_mut(index) {
            *seat = Seat::default();
        }
    }

    fn count_resent(&mut self, index: usize) {
        if let Some(seat) = self.seats.get(index)
            && let Some(socket) = seat.socket.as_ref().filter(|_| seat.connected)
        {
            let resent: Resent = resent(socket);
            self.books.resent(index, resent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_round_over_clients_and_then_over_targets() {
        let plan = Plan {
            to: vec!["10.0.0.9:1".parse().unwrap(), "10.0.0.9:2".parse().unwrap()],
            from: [1, 2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last)).to_vec(),
            count: 12,
            rules: Rules::default(),
        };
        let ends: Vec<_> = (0..8).filter_map(|index| plan.ends(index)).collect();
        let ends: Vec<_> = ends
            .iter()
            .map(|(from, to)| (from.octets()[3], to.port()))
            .collect();
        let expected = [
            (1, 1),
            (2, 1),
            (3, 1),
            (1, 2),
            (2, 2),
            (3, 2),
            (1, 1),
            (2, 1),
        ];
        assert_eq!(ends, expected);
    }
}
