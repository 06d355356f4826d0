//! `TCP_CHECK`: a connection is established in time.

use super::Context;
use super::connect::connect;
use crate::config::model::Connection;
use crate::health::Outcome;

/// Connects once.
pub async fn run(probe: &Connection, context: &Context) -> Outcome {
    match connect(probe, context).await {
        Ok(_reset_when_dropped) => Outcome::Passed,
        Err(outcome) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;
    use crate::config::model::Config;
    use crate::health::Failure;

    fn probe(target: SocketAddr) -> Connection {
        Connection::to(target, Duration::from_secs(5))
    }

    fn context() -> Context {
        Context::new(&Config::default())
    }

    #[tokio::test]
    async fn a_listener_passes_and_sees_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outcome = run(&probe(listener.local_addr().unwrap()), &context()).await;
        assert_eq!(outcome, Outcome::Passed);
        let (mut stream, _) = listener.accept().await.unwrap();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let outcome = run(&probe(address), &context()).await;
        assert_eq!(outcome, Outcome::Failed(Failure::Refused));
    }

    /// A listener whose backlog is full answers no more SYNs.
    #[tokio::test]
    async fn silence_times_out() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        let quick = Duration::from_millis(200);
        while let Ok(Ok(stream)) = timeout(quick, tokio::net::TcpStream::connect(address)).await {
            held.push(stream);
            assert!(held.len() < 64, "the backlog never fills");
        }
        let mut probe = probe(address);
        probe.connect_timeout = quick;
        let outcome = run(&probe, &context()).await;
        assert_eq!(outcome, Outcome::Failed(Failure::TimedOut(quick)));
    }

    #[tokio::test]
    async fn the_source_is_bound_and_must_exist() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut probe = probe(listener.local_addr().unwrap());
        probe.source = Some("127.0.0.2:0".parse().unwrap());
        assert_eq!(run(&probe, &context()).await, Outcome::Passed);
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.2");
        // TEST-NET-3 (RFC 5737) is nobody's address.
        let nowhere = "203.0.113.1".parse().unwrap();
        probe.source = Some(SocketAddr::new(nowhere, 0));
        let outcome = run(&probe, &context()).await;
        assert_eq!(outcome, Outcome::Failed(Failure::NoSource(nowhere)));
    }
}
