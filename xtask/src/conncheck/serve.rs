//! The server: answers each heartbeat with its name, on as many connections as come.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::Socket;

use super::sockets::{listen, make_all_room, ready};
use super::wire::{Answer, Frames, HEARTBEAT, Name};

/// What is ready at once.
const BATCH: usize = 1024;

/// A client that sends more at once than this waits for its turn.
const PIECE: usize = 256;

/// Serves until it is ended by a signal.
pub(super) fn run(name: Name, addresses: &[SocketAddr]) -> Result<()> {
    make_all_room()?;
    let listeners = addresses.iter().map(|at| listen(*at));
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (number, listener) in listeners.iter().enumerate() {
        let number = u64::try_from(number)?;
        epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name} listening")?;
    out.flush()?;
    drop(out);
    let mut clients = Clients {
        name,
        first: listeners.len(),
        epoll,
        places: Vec::new(),
        free: Vec::new(),
    };
    let mut events = vec![EpollEvent::empty(); BATCH];
    loop {
        for event in ready(&clients.epoll, &mut events, None)? {
            let number = usize::try_from(event.data())?;
            match listeners.get(number) {
                Some(listener) => clients.accept(listener)?,
                None => clients.serve(number - clients.first),
            }
        }
    }
}

struct Client {
    socket: Socket,
    frames: Frames<HEARTBEAT>,
}

struct Clients {
    name: Name,
    /// The number of the first client: those below are listeners.
    first: usize,
    epoll: Epoll,
    places: Vec<Option<Client>>,
    free: Vec<usize>,
}

impl Clients {
    fn accept(&mut self, listener: &Socket) -> Result<()> {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("cannot accept a connection"),
            };
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            });
            let number = u64::try_from(self.first + place)?;
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            self.epoll.add(&socket, EpollEvent::new(flags, number))?;
            if let Some(free) = self.places.get_mut(place) {
                *free = Some(Client {
                    socket,
                    frames: Frames::default(),
                });
            }
        }
    }

    fn serve(&mut self, place: usize) {
        let name = self.name;
        let Some(found) = self.places.get_mut(place) else {
            return;
        };
        // An event of a client before it in the same place has nothing to tell of this one.
        let Some(client) = found.as_mut() else {
            return;
        };
        if !client.answer(name) {
            // Dropping the socket takes it out of the epoll set.
            *found = None;
            self.free.push(place);
        }
    }
}

impl Client {
    /// Answers what has come; whether it goes on.
    fn answer(&mut self, name: Name) -> bool {
        let mut piece = [0; PIECE];
        let length = match self.socket.read(&mut piece) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let mut answers = Vec::with_capacity(PIECE);
        self.frames
            .push(piece.get(..length).unwrap_or_default(), |frame| {
                let number = u32::from_be_bytes(frame);
                answers.extend_from_slice(&Answer { number, name }.to_bytes());
            });
        // Whoever does not read its answers has left, in all but name.
        (&self.socket).write_all(&answers).is_ok()
    }
}
