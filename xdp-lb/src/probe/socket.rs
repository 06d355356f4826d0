//! The socket of a probe: from where, by which interface and with which mark its packets leave, and
//! what errors of the kernel say about the server.

use std::io;
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::model::Connection;
use crate::health::{Failure, Outcome};

/// A socket for a check, not connected yet, that never blocks. An error is what became of the probe.
pub(super) fn open(
    connection: &Connection,
    kind: Type,
    protocol: Option<Protocol>,
) -> Result<Socket, Outcome> {
    let domain = Domain::for_address(connection.target);
    let socket = Socket::new(domain, kind.nonblocking(), protocol)
        .map_err(|error| Outcome::Inconclusive(format!("cannot open a socket: {error}")))?;
    route(&socket, connection)?;
    bind(&socket, connection)?;
    Ok(socket)
}

/// Applies `bind_if` and `fwmark`: they decide which way the packets take.
fn route(socket: &Socket, connection: &Connection) -> Result<(), Outcome> {
    if let Some(interface) = &connection.interface {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        bound.map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => Outcome::Failed(Failure::Other(format!(
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

/// Applies `bindto` and `bind_port`.
fn bind(socket: &Socket, connection: &Connection) -> Result<(), Outcome> {
    let Some(source) = connection.source else {
        return Ok(());
    };
    // A fixed source port may still be in use by the check before, or by one of another server.
    let bound = socket
        .set_reuse_address(true)
        .and_then(|()| socket.bind(&source.into()));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => Outcome::Failed(Failure::NoSource(source.ip())),
        _ => Outcome::Inconclusive(format!("cannot bind to {source}: {error}")),
    })
}

/// What an error of the kernel says about the server.
pub(super) fn explain(error: &io::Error, connect_timeout: Duration) -> Outcome {
    // No memory for a packet says nothing about the server, and has no kind of its own.
    if error.raw_os_error() == Some(libc::ENOBUFS) {
        return Outcome::Inconclusive(format!("cannot send: {error}"));
    }
    let failure = match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Failure::Reset,
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
