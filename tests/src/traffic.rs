//! What clients and servers say to each other: real sockets in namespaces, so that the kernel's TCP
//! judges every packet.
//!
//! A server greets with its name and then echoes; so a client knows who serves it, and that every
//! octet came back.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{
    Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{Shutdown as HowFar, shutdown};

use crate::netns::Netns;
use crate::wait;

/// What an answer may take: a bound for a busy machine, that a lost packet's retransmissions fit in.
const ANSWER: Duration = Duration::from_secs(8);

/// From one heartbeat to the next: a gap in the path of a few milliseconds meets some.
const PACE: Duration = Duration::from_millis(4);

/// A TCP server. Dropping it ends it with its connections.
#[derive(Debug)]
pub struct EchoServer {
    name: String,
    netns: Netns,
    address: SocketAddr,
    listener: Option<(TcpListener, JoinHandle<()>)>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl EchoServer {
    /// Listens on `address` in `netns`.
    pub fn start(name: &str, netns: &Netns, address: SocketAddr) -> Result<Self> {
        let mut server = Self {
            name: name.to_owned(),
            netns: netns.handle(),
            address,
            listener: None,
            connections: Arc::default(),
        };
        server.open_port()?;
        Ok(server)
    }

    /// Listens again.
    pub fn open_port(&mut self) -> Result<()> {
        let listener = self.netns.run(|| TcpListener::bind(self.address))?;
        let listener = listener.with_context(|| format!("{} on {}", self.name, self.address))?;
        let accepting = listener.try_clone()?;
        let (name, connections) = (self.name.clone(), self.connections.clone());
        let thread = std::thread::spawn(move || {
            // Until the port is closed.
            while let Ok((stream, _)) = accepting.accept() {
                serve(stream, &name, &connections);
            }
        });
        self.listener = Some((listener, thread));
        Ok(())
    }

    /// Refuses new connections from now on; those that stand go on.
    pub fn close_port(&mut self) -> Result<()> {
        if let Some((listener, thread)) = self.listener.take() {
            // Wakes the thread that waits for a connection.
            shutdown(listener.as_raw_fd(), HowFar::Both).context("cannot close the port")?;
            thread.join().ok();
        }
        Ok(())
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.close_port().ok();
        let connections = self.connections.lock();
        for stream in connections.unwrap_or_else(PoisonError::into_inner).iter() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Greets and echoes on a thread of its own, until either side ends the connection.
fn serve(stream: TcpStream, name: &str, connections: &Mutex<Vec<TcpStream>>) {
    let Ok(to_end) = stream.try_clone() else {
        return;
    };
    let connections = connections.lock();
    connections
        .unwrap_or_else(PoisonError::into_inner)
        .push(to_end);
    let name = name.to_owned();
    std::thread::spawn(move || {
        // A health check ends here: it is gone before it is greeted.
        echo(&stream, &name).ok();
        stream.shutdown(Shutdown::Both).ok();
    });
}

fn echo(mut stream: &TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    writeln!(stream, "{name}")?;
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(buffer.get(..length).unwrap_or_default())?,
        }
    }
}

/// Opens connections one by one and says something on each: the names of who answers, in order.
///
/// # Errors
/// When one is refused, or what was said does not come back.
pub fn answering(client: &Netns, service: SocketAddr, connections: usize) -> Result<Vec<String>> {
    let call = |_| {
        let mut call = Call::open(client, service)?;
        for number in 0..5 {
            call.beat(number)?;
        }
        Ok(call.server)
    };
    let mut servers = (0..connections).map(call).collect::<Result<Vec<_>>>()?;
    servers.sort_unstable();
    Ok(servers)
}

/// A connection of a client, greeted.
#[derive(Debug)]
pub struct Call {
    stream: TcpStream,
    /// The name of the server that answers.
    pub server: String,
}

impl Call {
    /// Connects and waits for the greeting.
    pub fn open(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let greeted = netns.run(|| Self::connect(to))?;
        greeted.with_context(|| format!("a connection to {to}"))
    }

    fn connect(to: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        let mut server = String::new();
        let mut octet = [0];
        loop {
            stream.read_exact(&mut octet)?;
            match char::from(octet[0]) {
                '\n' => return Ok(Self { stream, server }),
                letter => server.push(letter),
            }
        }
    }

    /// Says a number and waits for its echo.
    pub fn beat(&mut self, number: u64) -> Result<()> {
        let said = number.to_be_bytes();
        self.stream.write_all(&said)?;
        let mut heard = [0; 8];
        self.stream.read_exact(&mut heard)?;
        ensure!(said == heard, "said {number}, heard {heard:?}");
        Ok(())
    }
}

/// A connection that stays open and beats.
#[derive(Debug)]
pub struct Heart {
    /// The name of the server that answers.
    pub server: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    beats: AtomicU64,
    stop: AtomicBool,
    /// Why it stopped by itself.
    failure: Mutex<Option<String>>,
}

impl Heart {
    /// Connects, and beats from now on.
    pub fn start(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let call = Call::open(netns, to)?;
        let shared = Arc::<Shared>::default();
        let server = call.server.clone();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || shared.beat(call)
        });
        Ok(Self {
            server,
            shared,
            thread: Some(thread),
        })
    }

    /// As many of them at once.
    pub fn start_many(count: usize, netns: &Netns, to: SocketAddr) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::start(netns, to)).collect()
    }

    /// Heartbeats that were answered.
    pub fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Acquire)
    }

    /// Why it does not beat any more; `None` while it does.
    pub fn failure(&self) -> Option<String> {
        let failure = self.shared.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn beat(&self, mut call: Call) {
        while !self.stop.load(Ordering::Acquire) {
            let number = self.beats.load(Ordering::Acquire);
            if let Err(error) = call.beat(number) {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                *failure = Some(format!("after {number} heartbeats: {error:#}"));
                return;
            }
            self.beats.store(number + 1, Ordering::Release);
            std::thread::sleep(PACE);
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Waits until each heart has beaten some more.
///
/// # Errors
/// When one stops, or does not beat in time.
pub fn beat_on<'a>(hearts: impl IntoIterator<Item = &'a Heart>, more: u64) -> Result<()> {
    let hearts: Vec<_> = hearts
        .into_iter()
        .map(|heart| (heart, heart.beats()))
        .collect();
    ensure!(!hearts.is_empty(), "no heart to look at");
    wait::until("every heart beats on", ANSWER, || {
        if let Some((heart, failure)) = hearts.iter().find_map(|(h, _)| Some((h, h.failure()?))) {
            bail!("a connection to {} broke {failure}", heart.server);
        }
        let all = hearts
            .iter()
            .all(|(heart, before)| heart.beats() >= before + more);
        Ok(all.then_some(()))
    })?;
    Ok(())
}

/// Waits until neither side of any connection of `netns` with `address` has anything left to send.
pub fn wait_ended(netns: &Netns, address: SocketAddrV4) -> Result<()> {
    let what = format!("connections with {address} end in {}", netns.name());
    wait::until(&what, ANSWER, || {
        let sockets = netns.run(|| fs::read_to_string("/proc/thread-self/net/tcp"))??;
        Ok((!under_way(&sockets, address)).then_some(()))
    })?;
    Ok(())
}

/// Whether a list of sockets as in `/proc/net/tcp` has one with this address, on either side, that may
/// still send: any but those in LISTEN and TIME-WAIT.
fn under_way(sockets: &str, address: SocketAddrV4) -> bool {
    // The address as a word of this machine, the port as a number.
    let ip = u32::from_ne_bytes(address.ip().octets());
    let name = format!("{ip:08X}:{:04X}", address.port());
    sockets.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, local, remote, state, ..] = words[..] else {
            return false;
        };
        (local == name || remote == name) && !["0A", "06"].contains(&state)
    })
}

/// No datagram is longer.
const DATAGRAM: usize = 1 << 16;

/// A UDP server, which answers each datagram with its name and what it got. Dropping it ends it.
#[derive(Debug)]
pub struct UdpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Listens on `address` in `netns`. It must be the one that clients write to: an answer comes from
    /// there.
    pub fn start(name: &str, netns: &Netns, address: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| UdpSocket::bind(address))?;
        let socket = socket.with_context(|| format!("{name} on {address}"))?;
        // How soon it notices that it is to stop.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::<AtomicBool>::default();
        let (name, stopped) = (name.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM];
            while !stopped.load(Ordering::Acquire) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let got = buffer.get(..length).unwrap_or_default();
                    socket
                        .send_to(&[name.as_bytes(), b" ", got].concat(), client)
                        .ok();
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A UDP client with a port of its own, that is: one flow.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// A client that writes to `to`.
    pub fn open(netns: &Netns, to: SocketAddr) -> Result<Self> {
        let connect = || {
            let any: SocketAddr = match to {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            io::Result::Ok(socket)
        };
        let socket = netns.run(connect)?.with_context(|| format!("to {to}"))?;
        Ok(Self { socket })
    }

    /// Writes `text` and returns the name of the server that answers. UDP may lose datagrams, and a
    /// neighbour that is being resolved does: what is not answered is written again.
    pub fn ask(&self, text: &str) -> Result<String> {
        self.socket
            .set_read_timeout(Some(Duration::from_millis(500)))?;
        let start = Instant::now();
        let mut buffer = vec![0; DATAGRAM];
        while start.elapsed() < ANSWER {
            self.socket.send(text.as_bytes())?;
            let length = match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                received => received?,
            };
            let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            // Else a late answer to what was asked twice.
            if let Some(server) = answer.strip_suffix(text) {
                return Ok(server.trim_end().to_owned());
            }
        }
        bail!("no answer to '{text}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKETS: &str = "  sl  local_address rem_address   st tx_queue rx_queue
   0: 00000000:0050 00000000:0000 0A 00000000:00000000
   1: C800500A:0050 0A00500A:8C3E 06 00000000:00000000
   2: C800500A:0051 0A00500A:8C40 01 00000000:00000000
   3: 0A00500A:8C42 C800500A:0052 04 00000000:00000000
";

    #[cfg(target_endian = "little")]
    #[test]
    fn connections_that_may_still_send_are_seen_from_either_side() {
        let ports = |port| under_way(SOCKETS, SocketAddrV4::new([10, 80, 0, 200].into(), port));
        assert_eq!([80, 81, 82, 83].map(ports), [false, true, true, false]);
    }
}
