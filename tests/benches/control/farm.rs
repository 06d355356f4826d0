//! The real servers: one listener behind all addresses, which notes when each was asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, Socket, Type};
use xdp_lb_tests::netns::Netns;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 65_535;

/// The listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Farm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    asked: Mutex<Asked>,
}

/// When servers were asked.
#[derive(Debug, Default)]
struct Asked {
    last: BTreeMap<IpAddr, Instant>,
    /// From one time to the next, of whichever server.
    gaps: Vec<Duration>,
}

impl Farm {
    /// Listens on a port of every address of a namespace.
    pub(crate) fn start(netns: &Netns, port: u16) -> Result<Self> {
        let listener = netns.run(|| listen(port))??;
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The gaps since the last call, in order, and how many servers were ever asked.
    pub(crate) fn take(&self) -> (Vec<Duration>, usize) {
        let asked = self.shared.asked.lock();
        let mut asked = asked.unwrap_or_else(PoisonError::into_inner);
        let mut gaps = std::mem::take(&mut asked.gaps);
        gaps.sort_unstable();
        (gaps, asked.last.len())
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    let any = std::net::SocketAddr::from(([0, 0, 0, 0], port));
    socket.bind(&any.into())?;
    socket.listen(BACKLOG)?;
    // So that the end is noticed.
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, shared: &Shared) {
    while !shared.ends.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        let now = Instant::now();
        let Ok(address) = stream.local_addr() else {
            continue;
        };
        drop(stream);
        let asked = shared.asked.lock();
        let mut asked = asked.unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = asked.last.insert(address.ip(), now) {
            asked.gaps.push(now - last);
        }
    }
}
