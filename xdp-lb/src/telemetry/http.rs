//! The HTTP server for monitoring: `/metrics`, `/healthz`, `/readyz`.
//!
//! One request per connection, every step with a time limit, a bounded number of connections at a
//! time: whoever reaches the address can make it busy for seconds, and nothing else.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::metrics::{self, Format, HealthMetrics};
use crate::control::{Snapshot, Snapshots};

/// Longest request head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How many connections there may be, and how long each part of a request may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections served at a time; more wait to be accepted.
    connections: usize,
    /// From accept to the end of the request's head.
    head: Duration,
    /// From there to the snapshot.
    snapshot: Duration,
    /// The whole connection.
    connection: Duration,
}

const LIMITS: Limits = Limits {
    connections: 16,
    head: Duration::from_secs(3),
    snapshot: Duration::from_secs(5),
    connection: Duration::from_secs(20),
};

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error(
        "cannot serve metrics on {address}: {source}; choose another address with `--metrics` \
         or `metrics` in the xdp_lb block"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The runtime does not take the socket.
    #[error("cannot serve metrics: {0}")]
    Runtime(#[from] io::Error),
}

/// A socket that listens for scrapes.
#[derive(Debug)]
pub struct Bound {
    listener: StdListener,
}

/// Listens on an address. Connections wait until [`serve`] is called.
pub fn bind(address: SocketAddr) -> Result<Bound, Error> {
    let listen = || {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Bound { listener })
    };
    listen().map_err(|source| Error::Bind { address, source })
}

impl Bound {
    /// The address in use, with the port that the kernel chose when port 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves until `shutdown`.
pub async fn serve(
    bound: Bound,
    snapshots: Snapshots,
    health: HealthMetrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    serve_within(
        bound,
        Server {
            snapshots,
            health,
            limits: LIMITS,
        },
        shutdown,
    )
    .await
}

/// What a request needs.
#[derive(Clone, Debug)]
struct Server {
    snapshots: Snapshots,
    health: HealthMetrics,
    limits: Limits,
}

async fn serve_within(
    bound: Bound,
    server: Server,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let listener = TcpListener::from_std(bound.listener)?;
    // Connections end with the loop, also when this future is dropped.
    let shutdown = shutdown.child_token();
    let _end_connections = shutdown.clone().drop_guard();
    let places = Arc::new(Semaphore::new(server.limits.connections));
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
                let connection = serve_connection(stream, server.clone());
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    shutdown.run_until_cancelled(connection).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection for metrics");
                // Out of file descriptors, most likely: do not spin until one is free.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, server: Server) {
    let limits = server.limits;
    let respond = service_fn(move |request| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(respond(&request, &server).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond);
    match timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for metrics broke off"),
        Err(_) => debug!("a client does not read its metrics"),
    }
}

async fn respond(request: &Request<Incoming>, server: &Server) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => metrics_page(request, server).await,
        "/healthz" => plain(StatusCode::OK, "ok"),
        "/readyz" => ready_page(server).await,
        _ => plain(StatusCode::NOT_FOUND, "see /metrics, /healthz, /readyz"),
    }
}

async fn metrics_page(request: &Request<Incoming>, server: &Server) -> Response<Full<Bytes>> {
    let snapshot = match take(server).await {
        Ok(snapshot) => snapshot,
        Err(cause) => return plain(StatusCode::SERVICE_UNAVAILABLE, cause),
    };
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let health = server.health.clone();
    // Thousands of services are megabytes of text: not on a thread that others wait for.
    let encoded =
        tokio::task::spawn_blocking(move || metrics::encode(&snapshot, &health, format)).await;
    if let Ok(Ok(text)) = encoded {
        page(StatusCode::OK, format.content_type(), text)
    } else {
        let cause = "the metrics could not be written";
        warn!("{cause}");
        plain(StatusCode::INTERNAL_SERVER_ERROR, cause)
    }
}

async fn ready_page(server: &Server) -> Response<Full<Bytes>> {
    match take(server).await {
        Ok(snapshot) if snapshot.interfaces.is_empty() => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "no interface carries the XDP program",
        ),
        Ok(_) => plain(StatusCode::OK, "ok"),
        Err(cause) => plain(StatusCode::SERVICE_UNAVAILABLE, cause),
    }
}

async fn take(server: &Server) -> Result<Arc<Snapshot>, &'static str> {
    match timeout(server.limits.snapshot, server.snapshots.take()).await {
        Ok(Ok(snapshot)) => Ok(snapshot),
        Ok(Err(_)) => Err("the agent is stopping"),
        Err(_) => Err("the agent is too busy to answer"),
    }
}

fn plain(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    page(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;
    use tokio::task::{JoinHandle, spawn_blocking};

    /// A limit for those who are meant to run into it.
    const SHORT: Duration = Duration::from_millis(200);

    struct Running {
        address: SocketAddr,
        shutdown: CancellationToken,
        server: JoinHandle<Result<(), Error>>,
    }

    /// A server whose agent answers with `snapshot`, or never when there is none.
    fn start(snapshot: Option<Snapshot>, limits: Limits) -> Running {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = bound.local_addr().unwrap();
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
        let server = Server {
            snapshots,
            health: HealthMetrics::new(),
            limits,
        };
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_within(bound, server, shutdown.clone()));
        Running {
            address,
            shutdown,
            server,
        }
    }

    /// Head and body of the answer to a request.
    async fn request(running: &Running, text: &str) -> (String, String) {
        try_request(running, text).await.unwrap()
    }

    /// The same; `None` when the server closed the connection instead.
    async fn try_request(running: &Running, text: &str) -> Option<(String, String)> {
        let (address, text) = (running.address, text.to_owned());
        let answer = spawn_blocking(move || {
            let mut client = Client::connect(address)?;
            client.set_read_timeout(Some(Duration::from_secs(10)))?;
            client.write_all(text.as_bytes())?;
            let mut answer = String::new();
            // The server closes: no connection is kept alive.
            client.read_to_string(&mut answer)?;
            io::Result::Ok(answer)
        });
        let answer = answer.await.unwrap().ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_lowercase(), body.to_owned()))
    }

    /// Asks until there is an answer: on a busy machine a short limit hits the innocent too.
    async fn get_until_served(running: &Running, path: &str) -> (String, String) {
        for _ in 0..5 {
            let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            if let Some(answer) = try_request(running, &text).await {
                return answer;
            }
        }
        panic!("never served");
    }

    async fn get(running: &Running, path: &str) -> (String, String) {
        request(running, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    #[tokio::test]
    async fn metrics_are_served_as_text_or_openmetrics() {
        let running = start(Some(sample::snapshot()), LIMITS);
        let (head, body) = get(&running, "/metrics").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(
            head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
            "{head}"
        );
        assert!(
            body.contains("# TYPE xdp_lb_packets_total counter\n"),
            "{body}"
        );
        let scrape = "GET /metrics HTTP/1.1\r\nHost: x\r\n\
                      Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n";
        let (head, body) = request(&running, scrape).await;
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"));
        assert!(body.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let running = start(Some(sample::snapshot()), LIMITS);
        assert!(get(&running, "/").await.0.starts_with("http/1.1 404"));
        assert!(
            get(&running, "/metrics/x")
                .await
                .0
                .starts_with("http/1.1 404")
        );
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
        let (head, _) = request(&running, post).await;
        assert!(
            head.starts_with("http/1.1 405") && head.contains("allow: get, head"),
            "{head}"
        );
        let (head, body) = request(&running, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(head.starts_with("http/1.1 200") && body.is_empty());
    }

    #[tokio::test]
    async fn readiness_needs_an_agent_that_answers_and_an_attached_program() {
        let running = start(Some(sample::snapshot()), LIMITS);
        assert!(get(&running, "/readyz").await.0.starts_with("http/1.1 200"));
        let bare = Snapshot::build(&sample::Parts::default().inputs());
        let running = start(Some(bare), LIMITS);
        let (head, body) = get(&running, "/readyz").await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert_eq!(body, "no interface carries the XDP program\n");
        let limits = Limits {
            snapshot: SHORT,
            ..LIMITS
        };
        let stuck = start(None, limits);
        assert!(get(&stuck, "/readyz").await.0.starts_with("http/1.1 503"));
        assert!(get(&stuck, "/metrics").await.0.starts_with("http/1.1 503"));
        assert!(get(&stuck, "/healthz").await.0.starts_with("http/1.1 200"));
    }

    #[tokio::test]
    async fn silent_clients_hold_nobody_up_for_long() {
        let limits = Limits {
            connections: 2,
            head: SHORT,
            // Only the other limit shall free their places.
            connection: Duration::from_mins(10),
            ..LIMITS
        };
        let running = start(Some(sample::snapshot()), limits);
        let silent: Vec<Client> = (0..5)
            .map(|_| Client::connect(running.address).unwrap())
            .collect();
        assert!(
            get_until_served(&running, "/metrics")
                .await
                .0
                .starts_with("http/1.1 200")
        );
        drop(silent);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_its_place() {
        let mut large = sample::snapshot();
        large.version = "x".repeat(16 << 20);
        let limits = Limits {
            connections: 2,
            connection: SHORT,
            ..LIMITS
        };
        let running = start(Some(large), limits);
        let deaf: Vec<Client> = (0..limits.connections)
            .map(|_| {
                let mut client = Client::connect(running.address).unwrap();
                client
                    .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    .unwrap();
                client
            })
            .collect();
        assert!(
            get_until_served(&running, "/healthz")
                .await
                .0
                .starts_with("http/1.1 200")
        );
        drop(deaf);
    }

    #[tokio::test]
    async fn shutdown_closes_the_port() {
        let running = start(Some(sample::snapshot()), LIMITS);
        assert!(
            get(&running, "/healthz")
                .await
                .0
                .starts_with("http/1.1 200")
        );
        running.shutdown.cancel();
        running.server.await.unwrap().unwrap();
        assert!(Client::connect(running.address).is_err());
    }

    #[test]
    fn an_address_in_use_is_one_clear_line() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(
            bind(address).unwrap_err().to_string(),
            format!(
                "cannot serve metrics on {address}: Address already in use (os error 98); choose \
                 another address with `--metrics` or `metrics` in the xdp_lb block"
            )
        );
    }
}
