use super::*;
use crate::control::capture::Want;
use crate::control::client;
use crate::control::looks::{CaptureRequest, Looked};
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
                    What::Weight(_) | What::Undrain => Err("there is no such server".to_owned()),
                };
                drop(reply.send(done));
            }
        });
        let (looks, looked) = Looks::channel();
        tokio::spawn(show_to_all(looked));
        let agent = Agent {
            snapshots,
            orders,
            looks,
        };
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

/// Shows numbers for as long as somebody watches, then says to nobody that it is over; who wants clients
/// is refused.
async fn show_to_all(mut looked: Looked) {
    while let Some(CaptureRequest { want, reply }) = looked.captures.recv().await {
        if want.client.is_some() {
            drop(reply.send(Err("not these clients".to_owned())));
            continue;
        }
        let (lines, reader) = mpsc::channel(1);
        drop(reply.send(Ok(reader)));
        let mut number = 0;
        while lines.send(Line::NotShown(number)).await.is_ok() {
            number += 1;
        }
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
    let (looks, _looked) = Looks::channel();
    let agent = Agent {
        snapshots,
        orders,
        looks,
    };
    for request in [Request::Reload, Request::Capture(Want::default())] {
        let line = encode_request(&request);
        let Err(refusal) = answer(&line, &agent, false, LIMITS).await else {
            panic!("not refused: {request:?}");
        };
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
    }
}

#[tokio::test]
async fn a_capture_lasts_as_long_as_its_client() {
    let running = Running::start(None, LIMITS);
    let capture = |want| {
        let path = running.path();
        spawn_blocking(move || client::capture_at(&path, "default", want))
    };
    let refused = Want {
        client: Some("10.0.0.0/8".parse().unwrap()),
        ..Want::default()
    };
    let refusal = capture(refused).await.unwrap().unwrap_err();
    assert_eq!(refusal.to_string(), "not these clients");
    // The next one is heard only when the one before has ended.
    for _ in 0..2 {
        let mut shown = capture(Want::default()).await.unwrap().unwrap();
        let lines = spawn_blocking(move || {
            let lines = (0..100).map(|_| shown.next().unwrap().unwrap());
            lines.collect::<Vec<_>>()
        });
        let wanted: Vec<_> = (0..100).map(Line::NotShown).collect();
        assert_eq!(lines.await.unwrap(), wanted);
    }
    let mut shown = capture(Want::default()).await.unwrap().unwrap();
    running.shutdown.cancel();
    let rest = spawn_blocking(move || while let Some(Ok(_)) = shown.next() {});
    rest.await.unwrap();
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
        format!("no agent named 'default' is running (no {socket}); start one with `xdp-lb up`")
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
