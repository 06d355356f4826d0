//! The TCP connection of a probe: where it goes, from where, and how it ends.
//!
//! It is closed by a reset: the server's backlog is free at once, and nothing waits here for the
//! peer's last word, using up a local port for each check of a minute.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::config::model::Connection;
use crate::health::{Failure, Outcome};

/// Connects within `connect_timeout`. The stream sends a reset when it is dropped. An error is what
/// became of the probe.
pub async fn connect(connection: &Connection) -> Result<TcpStream, Outcome> {
    let socket = open(connection)?;
    match timeout(
        connection.connect_timeout,
        socket.connect(connection.target),
    )
    .await
    {
        Err(_) => Err(Outcome::Failed(Failure::TimedOut(
            connection.connect_timeout,
        ))),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(&error, connection.connect_timeout)),
    }
}

fn open(connection: &Connection) -> Result<TcpSocket, Outcome> {
    let socket = if connection.target.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .and_then(|socket| socket.set_zero_linger().map(|()| socket))
    .map_err(|error| Outcome::Inconclusive(format!("cannot open a socket: {error}")))?;
    route(&SockRef::from(&socket), connection)?;
    if let Some(source) = connection.source {
        // A fixed source port may still be in use by the check before.
        let bound = socket
            .set_reuseaddr(true)
            .and_then(|()| socket.bind(source));
        bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => Outcome::Failed(Failure::NoSource(source.ip())),
            _ => Outcome::Inconclusive(format!("cannot bind to {source}: {error}")),
        })?;
    }
    Ok(socket)
}

/// Applies `bind_if` and `fwmark`: they decide which way the packets take.
fn route(socket: &SockRef<'_>, connection: &Connection) -> Result<(), Outcome> {
    if let Some(interface) = &connection.interface {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        bound.map_err(|error| match error.raw_os_error() {
            Some(nix::libc::ENODEV) => Outcome::Failed(Failure::Other(format!(
                "interface {interface} is not on this host"
            ))),
            _ => Outcome::Inconclusive(format!("cannot bind to {interface}: {error}")),
        })?;
    }
    if connection.mark != 0 {
        let marked = socket.set_mark(connection.mark);
        marked.map_err(|error| {
            Outcome::Inconclusive(format!("cannot set the firewall mark: {error}"))
        })?;
    }
    Ok(())
}

/// What an error of the kernel says about the server.
fn explain(error: &io::Error, connect_timeout: Duration) -> Outcome {
    let failure = match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Failure::Reset,
        io::ErrorKind::TimedOut => Failure::TimedOut(connect_timeout),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Failure::Unreachable,
        // No local port or no memory is left: that says nothing about the server.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::OutOfMemory => {
            return Outcome::Inconclusive(format!("cannot connect: {error}"));
        }
        _ => Failure::Other(error.to_string()),
    };
    Outcome::Failed(failure)
}
