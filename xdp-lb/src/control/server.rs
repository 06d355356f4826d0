//! The agent's end of the control socket.
//!
//! One request per connection, each with a time limit, a bounded number of clients at a time: a client
//! that says nothing, or does not read, costs one place for a few seconds and nobody else anything. Only
//! a capture lasts as long as its client.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::capture::Line;
use super::looks::Looks;
use super::orders::Orders;
use super::protocol::{self, MAX_REQUEST, Refusal, RefusalKind, Request};
use super::trace::Trace;
use super::{Gone, Snapshot, Snapshots};

/// Who may ask: root and the group of the socket, which is root until an operator changes it.
const SOCKET_MODE: u32 = 0o660;

/// How many clients there may be, and how long each part of a conversation may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Clients served at a time; more wait to be accepted.
    clients: usize,
    /// From accept to the whole request.
    request: Duration,
    /// From the request to the snapshot, or until an order is in force.
    snapshot: Duration,
    /// From the request until a configuration is in force.
    reload: Duration,
    /// From the request until the program is in the kernel that answers.
    look: Duration,
    /// To take the whole answer off our hands.
    answer: Duration,
}

const LIMITS: Limits = Limits {
    clients: 16,
    request: Duration::from_secs(2),
    snapshot: Duration::from_secs(5),
    reload: Duration::from_secs(50),
    look: Duration::from_secs(50),
    answer: Duration::from_secs(10),
};

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its folder cannot be made or opened.
    #[error(
        "cannot use {path} for the control socket: {source}; xdp-lb runs as root and needs a \
         writable /run"
    )]
    Directory {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent serves it.
    #[error(
        "another agent is running on {path}; stop it, or choose another name with `--instance`"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on the control socket {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Binds the socket and serves it until `shutdown`. See [`bind`] and [`Bound::serve`].
pub async fn serve(
    path: impl Into<PathBuf>,
    agent: Agent,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    bind(path)?.serve(agent, shutdown).await
}

/// Takes the socket's folder for this process and listens, in place of whatever a dead agent left.
///
/// The folder is locked until [`Bound`] is dropped (the kernel unlocks it when the process dies), so
/// that of two agents with one name only one gets this far.
pub fn bind(path: impl Into<PathBuf>) -> Result<Bound, Error> {
    let path = path.into();
    let lock = lock_folder(&path)?;
    let listen = |source| Error::Listen {
        path: path.clone(),
        source,
    };
    let listener = listen_at(&path).map_err(listen)?;
    Ok(Bound {
        listener,
        socket: Socket { path, _lock: lock },
    })
}

/// Locks the folder of the socket, which is made if it is missing.
fn lock_folder(path: &Path) -> Result<File, Error> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    let in_folder = |source| Error::Directory {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(in_folder)?;
    let lock = File::open(folder).map_err(in_folder)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(in_folder(source)),
    }
}

/// Makes the socket under another name and moves it into place, so that at no moment it is missing,
/// half made or open to everybody.
fn listen_at(path: &Path) -> io::Result<StdListener> {
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&unfinished)?;
    std::fs::set_permissions(&unfinished, Permissions::from_mode(SOCKET_MODE))?;
    std::fs::rename(&unfinished, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket that listens. Dropping it removes the socket.
#[derive(Debug)]
pub struct Bound {
    listener: StdListener,
    socket: Socket,
}

/// The socket's name and the lock that makes it ours.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(path = %self.path.display(), %error, "the control socket was removed by others");
        }
    }
}

/// What clients reach through the socket.
#[derive(Clone, Debug)]
pub struct Agent {
    /// What there is to see.
    pub snapshots: Snapshots,
    /// What is to be done.
    pub orders: Orders,
    /// What is decided.
    pub looks: Looks,
}

impl Bound {
    /// Answers clients until `shutdown`, then removes the socket.
    pub async fn serve(self, agent: Agent, shutdown: CancellationToken) -> Result<(), Error> {
        self.serve_within(agent, shutdown, LIMITS).await
    }

    async fn serve_within(
        self,
        agent: Agent,
        shutdown: CancellationToken,
        limits: Limits,
    ) -> Result<(), Error> {
        let Self { listener, socket } = self;
        let listener = UnixListener::from_std(listener).map_err(|source| Error::Listen {
            path: socket.path.clone(),
            source,
        })?;
        // Conversations end with the loop, also when this future is dropped.
        let shutdown = shutdown.child_token();
        let _end_conversations = shutdown.clone().drop_guard();
        let places = Arc::new(Semaphore::new(limits.clients));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let conversation = converse(stream, agent.clone(), limits);
                    let shutdown = shutdown.clone();
                    tokio::spawn(async move {
                        shutdown.run_until_cancelled(conversation).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a client on the control socket");
                    // Out of file descriptors, most likely: do not spin until one is free.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// One request, one answer.
async fn converse(stream: UnixStream, agent: Agent, limits: Limits) {
    let may_order = may_order(&stream);
    let (reader, writer) = stream.into_split();
    let Some((request, reader)) = read_request(reader, limits.request).await else {
        return;
    };
    let answer = match request {
        Ok(line) => answer(&line, &agent, may_order, limits).await,
        Err(refusal) => Err(refusal),
    };
    if let Ok(Answer::Capture(lines)) = answer {
        return show(reader, writer, lines).await;
    }
    // Thousands of services are megabytes of text: not on a thread that others wait for.
    let encode = move || match answer {
        Ok(Answer::Shown(snapshot)) => protocol::encode_answer(Ok(&snapshot)),
        Ok(Answer::Done(lines)) => protocol::encode_done(&lines),
        Ok(Answer::Trace(trace)) => protocol::encode_trace(&trace),
        Ok(Answer::Capture(_)) => protocol::encode_capture(),
        Err(refusal) => protocol::encode_answer(Err(&refusal)),
    };
    let Ok(line) = tokio::task::spawn_blocking(encode).await else {
        return;
    };
    match timeout(limits.answer, write_all(writer, &line)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client of the control socket went away"),
        Err(_) => debug!("a client of the control socket does not read its answer"),
    }
}

type Reader = BufReader<tokio::io::Take<OwnedReadHalf>>;

/// Shows what becomes of packets until the client has seen enough, or the agent ends.
async fn show(reader: Reader, mut writer: OwnedWriteHalf, mut lines: mpsc::Receiver<Line>) {
    /// Lines that are written at a time.
    const MOST: usize = 64;
    let mut reader = reader.into_inner().into_inner();
    let mut shown = protocol::encode_capture();
    let write = async {
        loop {
            writer.write_all(&shown).await?;
            let mut next = Vec::with_capacity(MOST);
            if lines.recv_many(&mut next, MOST).await == 0 {
                return Ok::<_, io::Error>(());
            }
            shown.clear();
            shown.extend(next.iter().flat_map(protocol::encode_shown));
        }
    };
    // A client says nothing more; when it goes, that is to be read.
    let gone = async {
        let mut octet = [0];
        while reader.read(&mut octet).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        written = write => if let Err(error) = written {
            debug!(%error, "a client of a capture went away");
        },
        () = gone => {}
    }
}

/// The request line; `None` when the client left without one.
async fn read_request(
    reader: OwnedReadHalf,
    limit: Duration,
) -> Option<(Result<Vec<u8>, Refusal>, Reader)> {
    let mut line = Vec::new();
    // One byte more than allowed shows that there were too many.
    let longest = u64::try_from(MAX_REQUEST + 1).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(reader.take(longest));
    let read = timeout(limit, reader.read_until(b'\n', &mut line)).await;
    let request = match read {
        Ok(Ok(0)) => return None,
        Ok(Ok(_)) => {
            line.pop_if(|last| *last == b'\n');
            Ok(line)
        }
        Ok(Err(error)) => {
            debug!(%error, "a client of the control socket went away");
            return None;
        }
        Err(_) => Err(Refusal::new(
            RefusalKind::TooSlow,
            format!("no request within {} s", limit.as_secs()),
        )),
    };
    Some((request, reader))
}

/// What a client gets.
enum Answer {
    Shown(Arc<Snapshot>),
    Done(Vec<String>),
    Trace(Box<Trace>),
    Capture(mpsc::Receiver<Line>),
}

/// Who is in the group of the socket may look; who may change what the director does is root, and the
/// user of the agent.
fn may_order(stream: &UnixStream) -> bool {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    peer.is_ok_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw())
}

async fn answer(
    line: &[u8],
    agent: &Agent,
    may_order: bool,
    limits: Limits,
) -> Result<Answer, Refusal> {
    let request = protocol::decode_request(line)?;
    debug!(verb = request.verb(), "asked on the control socket");
    let (limit, late) = match &request {
        Request::Show(_) => (limits.snapshot, "no snapshot"),
        Request::Order(_) => (
            limits.snapshot,
            "the order may still be carried out; not done",
        ),
        Request::Reload => (limits.reload, "the reload may still happen; not done"),
        Request::Trace(_) | Request::Capture(_) => (limits.look, "no answer"),
    };
    let done = timeout(limit, carry_out(request, agent, may_order)).await;
    done.unwrap_or_else(|_| {
        let message = format!("the agent is busy: {late} within {} s", limit.as_secs());
        Err(Refusal::new(RefusalKind::Unavailable, message))
    })
}

async fn carry_out(request: Request, agent: &Agent, may_order: bool) -> Result<Answer, Refusal> {
    let gone = |gone: Gone| Refusal::new(RefusalKind::Unavailable, gone.to_string());
    let failed = |why| Refusal::new(RefusalKind::Failed, why);
    match request {
        Request::Show(_) => agent
            .snapshots
            .take()
            .await
            .map(Answer::Shown)
            .map_err(gone),
        Request::Order(_) | Request::Reload if !may_order => {
            let message = "only root may change what a director does; run as root";
            Err(Refusal::new(RefusalKind::Forbidden, message))
        }
        Request::Order(order) => {
            let done = agent.orders.give(order).await.map_err(gone)?;
            done.map(|line| Answer::Done(vec![line])).map_err(failed)
        }
        Request::Reload => {
            let changes = agent.orders.reload().await.map_err(gone)?;
            let failed = |wrong: Vec<String>| failed(wrong.join("\n"));
            changes.map(Answer::Done).map_err(failed)
        }
        Request::Trace(query) => {
            let trace = agent.looks.trace(query).await.map_err(gone)?;
            trace
                .map(|trace| Answer::Trace(Box::new(trace)))
                .map_err(failed)
        }
        Request::Capture(_) if !may_order => {
            let message = "only root may exchange the program for a capture; run as root";
            Err(Refusal::new(RefusalKind::Forbidden, message))
        }
        Request::Capture(want) => {
            let lines = agent.looks.capture(want).await.map_err(gone)?;
            lines.map(Answer::Capture).map_err(failed)
        }
    }
}

async fn write_all(mut writer: OwnedWriteHalf, line: &[u8]) -> io::Result<()> {
    writer.write_all(line).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests;
