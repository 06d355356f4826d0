//! Hears what a socket hears, on a thread of its own, and keeps what is of interest.

use std::io::{self, ErrorKind, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// `linux/if_ether.h`: what arrives and what is sent.
const ETH_P_ALL: u16 = 3;

/// Longer than any packet.
const LONGEST: usize = 1 << 16;

/// How soon a listener notices that it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// What was heard, in order. Dropping it ends the listening.
#[derive(Debug)]
pub struct Listener<T> {
    heard: Arc<Mutex<Vec<T>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Listener<T> {
    /// Listens; `decode` says what of a packet is kept. `prepare` is what its thread does first.
    pub fn start(
        mut socket: Socket,
        prepare: fn(),
        decode: impl Fn(&[u8]) -> Option<T> + Send + 'static,
    ) -> io::Result<Self> {
        socket.set_read_timeout(Some(TICK))?;
        let heard = Arc::<Mutex<Vec<T>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (list, stopped) = (heard.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            prepare();
            let mut packet = vec![0; LONGEST];
            while !stopped.load(Ordering::Acquire) {
                match socket.read(&mut packet) {
                    Ok(length) => {
                        let kept = decode(packet.get(..length).unwrap_or_default());
                        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                        list.extend(kept);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // An interface that goes down is told of once, and comes back.
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Ok(Self {
            heard,
            stop,
            thread: Some(thread),
        })
    }
}

impl<T> Listener<T> {
    /// All that was heard so far.
    pub fn heard(&self) -> MutexGuard<'_, Vec<T>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Listener<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A socket that hears the packets, without Ethernet headers, of all interfaces of a namespace. Up to
/// `buffer` bytes wait for whoever listens.
pub fn tap(netns: &Netns, buffer: usize) -> Result<Socket> {
    let open = || {
        // Without an address it is on all interfaces. The number is in network byte order.
        let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(all))?;
        socket.set_recv_buffer_size(buffer)?;
        io::Result::Ok(socket)
    };
    netns.run(open)?.context("cannot listen to all packets")
}
