//! The agent's end of the control socket.
//!
//! One request per connection, each with a time limit, a bounded number of clients at a time: a client
//! that says nothing, or does not read, costs one place for a few seconds and nobody else anything.

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
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::orders::Orders;
use super::protocol::{self, MAX_REQUEST, Refusal, RefusalKind, Request};
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
    /// To take the whole answer off our hands.
    answer: Duration,
}

const LIMITS: Limits = Limits {
    clients: 16,
    request: Duration::from_secs(2),
    snapshot: Duration::from_secs(5),
    reload: Duration::from_secs(50),
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
    snapshots: Snapshots,
    orders: Orders,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    bind(path)?.serve(snapshots, orders, shutdown).await
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
struct Agent {
    snapshots: Snapshots,
    orders: Orders,
}

impl Bound {
    /// Answers clients until `shutdown`, then removes the socket.
    pub async fn serve(
        self,
        snapshots: Snapshots,
        orders: Orders,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let agent = Agent { snapshots, orders };
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
    let Some(request) = read_request(reader, limits.request).await else {
        return;
    };
    let answer = match request {
        Ok(line) => answer(&line, &agent, may_order, limits).await,
        Err(refusal) => Err(refusal),
    };
    // Thousands of services are megabytes of text: not on a thread that others wait for.
    let encode = move || match answer {
        Ok(Answer::Shown(snapshot)) => protocol::encode_answer(Ok(&snapshot)),
        Ok(Answer::Done(lines)) => protocol::encode_done(&lines),
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

/// The request line; `None` when the client left without one.
async fn read_request(reader: OwnedReadHalf, limit: Duration) -> Option<Result<Vec<u8>, Refusal>> {
    let mut line = Vec::new();
    // One byte more than allowed shows that there were too many.
    let longest = u64::try_from(MAX_REQUEST + 1).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(reader.take(longest));
    let read = timeout(limit, reader.read_until(b'\n', &mut line)).await;
    match read {
        Ok(Ok(0)) => None,
        Ok(Ok(_)) => {
            line.pop_if(|last| *last == b'\n');
            Some(Ok(line))
        }
        Ok(Err(error)) => {
            debug!(%error, "a client of the control socket went away");
            None
        }
        Err(_) => Some(Err(Refusal::new(
            RefusalKind::TooSlow,
            format!("no request within {} s", limit.as_secs()),
        ))),
    }
}

/// What a client gets.
enum Answer {
    Shown(Arc<Snapshot>),
    Done(Vec<String>),
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
    }
}

async fn write_all(mut writer: OwnedWriteHalf, line: &[u8]) -> io::Result<()> {
    writer.write_all(line).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client;
    use crate::control::orders::OrderRequest;
    use crate::control::protocol::{AnswerError, Verb, decode_answer, encode_request};
    use crate::control::sample;
    use crate::plan::pool::order::{Order, Target, What};
    use std::io::{Read, Write};
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream as Client;
    use tempfile::TempDir;
    use tokio::task::{JoinHandle, spawn_blocking};

    /// A limit for those who are meant to run into it.
    const SHORT: Duration = Duration::from_millis(200);

    struct Running {
        folder: TempDir,
        shutdown: CancellationToken,
        server: JoinHandle<Result<(), Error>>,
    }

    impl Running {
        /// A server whose agent answers with `snapshot`, or never when there is none.
        fn start(snapshot: Option<Snapshot>, limits: Limits) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let bound = bind(folder.path().join("default/control.sock")).unwrap();
            let (snapshots, mut agent) = Snapshots::channel();
            let snapshot = snapshot.map(Arc::new);
            tokio::spawn(async move {
                let mut owed = Vec::new();
                while let Some(reply) = agent.recv().await {
                    match &snapshot {
                        Some(snapshot) => drop(reply.send(snapshot.clone())),
                        None => owed.push(reply),
                    }
                }
            });
            let shutdown = CancellationToken::new();
            let (orders, mut inbox) = Orders::channel();
            tokio::spawn(async move {
                while let Some(OrderRequest { order, reply }) = inbox.orders.recv().await {
                    let done = match order.what {
                        What::Drain => Ok(format!("{} is drained", order.target.server)),
                        What::Weight(_) | What::Undrain => {
                            Err("there is no such server".to_owned())
                        }
                    };
                    drop(reply.send(done));
                }
            });
            let agent = Agent { snapshots, orders };
            let server = bound.serve_within(agent, shutdown.clone(), limits);
            Self {
                folder,
                shutdown,
                server: tokio::spawn(server),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("default/control.sock")
        }

        fn connect(&self) -> Client {
            Client::connect(self.path()).unwrap()
        }
    }

    async fn ask(path: PathBuf) -> Result<Snapshot, client::Error> {
        spawn_blocking(move || client::ask_at(&path, "default", Verb::List))
            .await
            .unwrap()
    }

    /// Asks until there is an answer: on a busy machine a short limit hits the innocent too.
    async fn ask_until_served(path: PathBuf) -> Snapshot {
        for _ in 0..5 {
            if let Ok(snapshot) = ask(path.clone()).await {
                return snapshot;
            }
        }
        panic!("never served");
    }

    /// What the server says to a client that sends `request`.
    async fn talk(running: &Running, request: &[u8]) -> Vec<u8> {
        let mut client = running.connect();
        let request = request.to_owned();
        spawn_blocking(move || {
            client.write_all(&request).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_command_gets_the_snapshot_of_the_agent() {
        let running = Running::start(Some(sample::snapshot()), LIMITS);
        assert_eq!(ask(running.path()).await.unwrap(), sample::snapshot());
    }

    #[tokio::test]
    async fn an_order_is_answered_with_what_was_done_or_why_not() {
        let running = Running::start(Some(sample::snapshot()), LIMITS);
        let order = |what| {
            let target = Target {
                service: "10.0.0.1:80".parse().unwrap(),
                protocol: None,
                server: "10.0.0.2:80".parse().unwrap(),
            };
            let (path, request) = (running.path(), Request::Order(Order { target, what }));
            spawn_blocking(move || client::order_at(&path, "default", &request))
        };
        let done = order(What::Drain).await.unwrap();
        assert_eq!(done.unwrap(), ["10.0.0.2:80 is drained"]);
        let refused = order(What::Undrain).await.unwrap().unwrap_err();
        assert_eq!(refused.to_string(), "there is no such server");
    }

    #[tokio::test]
    async fn who_may_only_look_may_not_order() {
        let (snapshots, _agent) = Snapshots::channel();
        let (orders, _inbox) = Orders::channel();
        let agent = Agent { snapshots, orders };
        let line = encode_request(&Request::Reload);
        let Err(refusal) = answer(&line, &agent, false, LIMITS).await else {
            panic!("not refused");
        };
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
    }

    #[tokio::test]
    async fn a_wrong_request_is_answered_with_an_error() {
        let running = Running::start(Some(sample::snapshot()), LIMITS);
        for (request, kind) in [
            (&b"{\"verb\":\"dance\"}\n"[..], RefusalKind::UnknownVerb),
            (b"\xff\xfe\n", RefusalKind::Malformed),
            (&[b'x'; MAX_REQUEST + 1], RefusalKind::TooLong),
        ] {
            let answer = talk(&running, request).await;
            let Err(AnswerError::Refused(refusal)) = decode_answer(&answer) else {
                panic!("not refused: {}", String::from_utf8_lossy(&answer));
            };
            assert_eq!(refusal.kind, kind);
        }
    }

    #[tokio::test]
    async fn clients_that_say_nothing_hold_nobody_up_for_long() {
        let limits = Limits {
            clients: 2,
            request: SHORT,
            ..LIMITS
        };
        let running = Running::start(Some(sample::snapshot()), limits);
        let silent: Vec<Client> = (0..5).map(|_| running.connect()).collect();
        assert_eq!(ask_until_served(running.path()).await, sample::snapshot());
        drop(silent);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_its_place() {
        let mut large = sample::snapshot();
        // More than a socket buffers.
        large.instance = "x".repeat(1 << 20);
        let limits = Limits {
            clients: 2,
            answer: SHORT,
            ..LIMITS
        };
        let running = Running::start(Some(large.clone()), limits);
        let deaf: Vec<Client> = (0..limits.clients)
            .map(|_| {
                let mut client = running.connect();
                client
                    .write_all(&encode_request(&Request::Show(Verb::List)))
                    .unwrap();
                client
            })
            .collect();
        assert_eq!(ask_until_served(running.path()).await, large);
        drop(deaf);
    }

    #[tokio::test]
    async fn an_agent_that_is_busy_is_told_from_one_that_is_gone() {
        let limits = Limits {
            snapshot: SHORT,
            ..LIMITS
        };
        let running = Running::start(None, limits);
        let told = ask(running.path()).await.unwrap_err().to_string();
        assert!(told.contains("the agent is busy"), "{told}");
    }

    #[tokio::test]
    async fn the_socket_is_for_root_and_its_group_and_goes_away_with_the_server() {
        let running = Running::start(Some(sample::snapshot()), LIMITS);
        let metadata = std::fs::symlink_metadata(running.path()).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
        running.shutdown.cancel();
        running.server.await.unwrap().unwrap();
        assert!(!running.folder.path().join("default/control.sock").exists());
    }

    #[tokio::test]
    async fn shutdown_ends_conversations() {
        let running = Running::start(None, LIMITS);
        let mut client = running.connect();
        client
            .write_all(&encode_request(&Request::Show(Verb::List)))
            .unwrap();
        running.shutdown.cancel();
        running.server.await.unwrap().unwrap();
        let heard = spawn_blocking(move || client.read_to_end(&mut Vec::new()));
        // Far sooner than the limits: the connection is closed without an answer.
        assert_eq!(heard.await.unwrap().unwrap_or(0), 0);
    }

    #[test]
    fn a_second_agent_of_the_same_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(Error::InUse { .. })));
        assert!(path.exists(), "the refused one must not touch the socket");
        drop(first);
        assert!(!path.exists());
        drop(bind(&path).unwrap());
    }

    #[test]
    fn what_a_killed_agent_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(StdListener::bind(&path).unwrap());
        drop(StdListener::bind(path.with_extension("new")).unwrap());
        assert!(Client::connect(&path).is_err(), "stale");
        let bound = bind(&path).unwrap();
        Client::connect(&path).unwrap();
        drop(bound);
    }

    #[test]
    fn a_command_says_that_no_agent_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let told = |instance| {
            let error = client::ask_at(&path, instance, Verb::List).unwrap_err();
            error.to_string()
        };
        let socket = path.display();
        assert_eq!(
            told("default"),
            format!(
                "no agent named 'default' is running (no {socket}); start one with `xdp-lb up`"
            )
        );
        drop(StdListener::bind(&path).unwrap());
        assert_eq!(
            told("blue"),
            format!(
                "no agent named 'blue' is running (nobody listens on {socket}); \
                 start one with `xdp-lb up --instance blue`"
            )
        );
    }
}
