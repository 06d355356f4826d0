//! The socket of a probe: from where, by which interface and with which mark its packets leave, and
//! what errors of the kernel say about the server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::source::Sources;
use crate::config::model::Connection;
use crate::health::{Failure, Outcome};

/// A socket for a check, not connected yet, that never blocks. An error is what became of the probe.
pub(super) fn open(
    connection: &Connection,
    sources: &Sources,
    kind: Type,
    protocol: Option<Protocol>,
) -> Result<Socket, Outcome> {
    let domain = Domain::for_address(connection.target);
    let socket = Socket::new(domain, kind.nonblocking(), protocol)
        .map_err(|error| Outcome::Inconclusive(format!("cannot open a socket: {error}")))?;
    route(&socket, connection)?;
    match connection.source {
        Some(source) => bind(&socket, source)?,
        None => avoid_vips(&socket, connection, sources),
    }
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
fn bind(socket: &Socket, source: SocketAddr) -> Result<(), Outcome> {
    // A fixed source port may still be in use by the check before, or by one of another server.
    let bound = socket
        .set_reuse_address(true)
        .and_then(|()| socket.bind(&source.into()));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => Outcome::Failed(Failure::NoSource(source.ip())),
        _ => Outcome::Inconclusive(format!("cannot bind to {source}: {error}")),
    })
}

/// Leaves from another address where the kernel would choose a VIP. If that has just gone, the choice is
/// the kernel's.
fn avoid_vips(socket: &Socket, connection: &Connection, sources: &Sources) {
    if let Some(source) = sources.instead(connection) {
        // The port is left for the connection to choose: one that is bound is gone for all servers. What
        // has no ports does not know the option.
        setsockopt(socket, sockopt::IpBindAddressNoPort, &true).ok();
        if let Err(error) = socket.bind(&source.into()) {
            debug!(
                "a check of {} cannot leave from {source}: {error}",
                connection.target
            );
        }
    }
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
