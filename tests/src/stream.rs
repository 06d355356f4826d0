//! A stream of requests to a VIP, one each millisecond, and how long it went unanswered.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::gettid;

use crate::netns::Netns;
use crate::wait;

/// From one request to the next.
pub const PACE: Duration = Duration::from_millis(1);

/// How soon a thread notices that it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// Threads that go on until they are told to stop. Dropping it stops them.
#[derive(Debug)]
struct Threads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(stop: Arc<AtomicBool>, bodies: Vec<Box<dyn FnOnce() + Send>>) -> Self {
        let prompt = |body: Box<dyn FnOnce() + Send>| {
            std::thread::spawn(move || {
                be_prompt();
                body();
            })
        };
        Self {
            stop,
            threads: bodies.into_iter().map(prompt).collect(),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Gives the calling thread real-time priority, so that what it measures is not its own waiting for a
/// CPU. Where that is not allowed, the noise of the machine is in the figures.
pub fn be_prompt() {
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "40", &gettid().to_string()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    drop(command.status());
}

/// A UDP server that sends each datagram back with its mark in the first octet. Dropping it ends it.
#[derive(Debug)]
pub struct Echo {
    _threads: Threads,
}

impl Echo {
    /// Listens on `address` in `netns`, whether or not the host has it now.
    pub fn start(netns: &Netns, address: SocketAddrV4, mark: u8) -> Result<Self> {
        let open = || {
            let socket = socket2::Socket::new(
                socket2::Domain::IPV4,
                socket2::Type::DGRAM,
                Some(socket2::Protocol::UDP),
            )?;
            setsockopt(&socket, sockopt::IpFreebind, &true)?;
            socket.bind(&address.into())?;
            socket.set_read_timeout(Some(TICK))?;
            io::Result::Ok(UdpSocket::from(socket))
        };
        let socket = netns
            .run(open)?
            .with_context(|| format!("echo on {address}"))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let body = move || {
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Acquire) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    buffer[0] = mark;
                    // A client that is not there now asks again.
                    drop(socket.send_to(buffer.get(..length).unwrap_or_default(), client));
                }
            }
        };
        Ok(Self {
            _threads: Threads::start(stop, vec![Box::new(body)]),
        })
    }
}

/// An answer: when it came, and the mark of who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When.
    pub at: Instant,
    /// Whose.
    pub mark: u8,
}

/// A running stream. Dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    answers: Arc<Mutex<Vec<Answer>>>,
    _threads: Threads,
}

impl Stream {
    /// Asks `vip` from `netns` from now on.
    pub fn start(netns: &Netns, from: Ipv4Addr, vip: SocketAddrV4) -> Result<Self> {
        let open = || {
            let socket = UdpSocket::bind(SocketAddrV4::new(from, 0))?;
            socket.set_read_timeout(Some(TICK))?;
            io::Result::Ok(socket)
        };
        let socket = netns.run(open)?.with_context(|| format!("to {vip}"))?;
        let receiving = socket.try_clone()?;
        let answers = Arc::<Mutex<Vec<Answer>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (list, send_on, receive_on) = (answers.clone(), stop.clone(), stop.clone());
        let send = move || {
            let mut next = Instant::now();
            while !send_on.load(Ordering::Acquire) {
                // Unreachable or not: the answers tell.
                drop(socket.send_to(&[0; 8], vip));
                // What was missed is not made up for.
                next = (next + PACE).max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        let receive = move || {
            let mut buffer = [0; 64];
            while !receive_on.load(Ordering::Acquire) {
                match receiving.recv_from(&mut buffer) {
                    Ok(_) => {
                        let answer = Answer {
                            at: Instant::now(),
                            mark: buffer[0],
                        };
                        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                        list.push(answer);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // Told by ICMP that nobody is there; in time someone will be.
                    Err(_) => {}
                }
            }
        };
        Ok(Self {
            answers,
            _threads: Threads::start(stop, vec![Box::new(send), Box::new(receive)]),
        })
    }

    /// Answers since an instant, with the last one before it.
    pub fn since(&self, start: Instant) -> Vec<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = answers.partition_point(|answer| answer.at < start);
        let begin = begin.saturating_sub(1);
        answers.get(begin..).unwrap_or_default().to_vec()
    }

    /// The longest time without an answer from `start` until now.
    pub fn longest_gap(&self, start: Instant) -> Duration {
        longest_gap(&self.since(start), start, Instant::now())
    }

    /// Waits until there has been an answer in each of the last `during` milliseconds or nearly so.
    pub fn wait_steady(&self, during: Duration, limit: Duration) -> Result<()> {
        // A busy machine's hiccup is no outage.
        let hiccup = Duration::from_millis(30);
        let begin = Instant::now();
        wait::until("the stream is answered steadily", limit, || {
            let now = Instant::now();
            let since = now.checked_sub(during).unwrap_or(begin).max(begin);
            let gap = longest_gap(&self.since(since), since, now);
            Ok((now - begin >= during && gap < hiccup).then_some(()))
        })?;
        Ok(())
    }
}

/// The longest time without an answer that ends after `start`; what is under way `until` counts.
fn longest_gap(answers: &[Answer], start: Instant, until: Instant) -> Duration {
    let mut times: Vec<_> = answers.iter().map(|answer| answer.at).collect();
    times.push(until);
    // A stream that was silent before the event is silent since the event.
    if times.first().is_some_and(|first| *first > start) {
        times.insert(0, start);
    }
    let gap = |pair: &[Instant]| match pair {
        [before, after] => after.saturating_duration_since(*before),
        _ => Duration::ZERO,
    };
    times.windows(2).map(gap).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_reaches_from_the_last_answer_before_to_now() {
        let start = Instant::now();
        let ms = |ms: u64| start + Duration::from_millis(ms);
        let answers = |times: &[u64]| -> Vec<Answer> {
            let answer = |time: &u64| Answer {
                at: ms(*time),
                mark: 1,
            };
            times.iter().map(answer).collect()
        };
        let gap = |times: &[u64], from, until| longest_gap(&answers(times), ms(from), ms(until));
        assert_eq!(gap(&[9, 10, 70, 72], 12, 73), Duration::from_millis(60));
        assert_eq!(gap(&[9, 10], 12, 90), Duration::from_millis(80));
        assert_eq!(gap(&[], 12, 90), Duration::from_millis(78));
        assert_eq!(gap(&[30, 31], 12, 32), Duration::from_millis(18));
    }
}
