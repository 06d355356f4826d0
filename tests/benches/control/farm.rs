//! The real servers: one listener behind all addresses, and a capture of when each was asked.
//!
//! The listener itself is no witness: a check closes with a reset, and where that overtakes the last
//! step of the handshake on another CPU the connection never comes to be accepted.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use xdp_lb_tests::capture::{Capture, Way};
use xdp_lb_tests::netns::Netns;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 65_535;

/// The listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Farm {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Farm {
    /// Listens on a port of every address of a namespace.
    pub(crate) fn start(netns: &Netns, port: u16) -> Result<Self> {
        let listener = netns.run(|| listen(port))??;
        let ends = Arc::new(AtomicBool::new(false));
        let thread = {
            let ends = Arc::clone(&ends);
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    drop(listener.accept());
                }
            })
        };
        Ok(Self {
            ends,
            thread: Some(thread),
        })
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    socket.listen(BACKLOG)?;
    // So that the end is noticed.
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket.into())
}

/// A capture of who was asked, and when.
#[derive(Debug)]
pub(crate) struct Witness<'a> {
    capture: Capture,
    folder: &'a Path,
}

/// The name of its files.
const NAME: &str = "witness";

impl<'a> Witness<'a> {
    pub(crate) fn start(netns: &Netns, folder: &'a Path) -> Result<Self> {
        let filter = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn";
        let capture = Capture::start((NAME, folder), (netns, "eth0"), Way::FromHost, filter)?;
        Ok(Self { capture, folder })
    }

    /// The times from one check to the next of each server that `counts`, in order, and how many
    /// servers were asked.
    pub(crate) fn finish(
        self,
        counts: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<(Vec<Duration>, usize)> {
        self.capture.finish()?;
        let bytes = fs::read(self.folder.join(format!("{NAME}.out")))?;
        let mut last: BTreeMap<Ipv4Addr, (Duration, u32)> = BTreeMap::new();
        let mut gaps = Vec::new();
        let syns = syns(&bytes).context("no capture that can be read")?;
        for syn in syns.into_iter().filter(|syn| counts(syn.server)) {
            match last.insert(syn.server, (syn.at, syn.number)) {
                // Sent again, for want of an answer.
                Some((at, number)) if number == syn.number => {
                    last.insert(syn.server, (at, number));
                }
                Some((at, _)) => gaps.push(syn.at.saturating_sub(at)),
                None => {}
            }
        }
        gaps.sort_unstable();
        Ok((gaps, last.len()))
    }
}

struct Syn {
    at: Duration,
    server: Ipv4Addr,
    /// Sequence number.
    number: u32,
}

/// Of a capture in tcpdump's classic format, with microseconds, in this machine's byte order: a header
/// of 24 octets, then before each frame of an Ethernet its time and its length.
fn syns(mut bytes: &[u8]) -> Option<Vec<Syn>> {
    bytes.split_off(..24)?;
    let mut syns = Vec::new();
    while let Some(header) = bytes.split_off(..16) {
        let word = |at: usize| {
            let octets = header.get(at..at + 4)?;
            Some(u32::from_ne_bytes(octets.try_into().ok()?))
        };
        let at = Duration::from_secs(word(0)?.into()) + Duration::from_micros(word(4)?.into());
        let length = usize::try_from(word(8)?).ok()?;
        let frame = bytes.split_off(..length)?;
        // Behind 14 octets of Ethernet; no options stand in what a kernel sends.
        let address: [u8; 4] = frame.get(30..34)?.try_into().ok()?;
        let number: [u8; 4] = frame.get(38..42)?.try_into().ok()?;
        syns.push(Syn {
            at,
            server: address.into(),
            number: u32::from_be_bytes(number),
        });
    }
    Some(syns)
}
