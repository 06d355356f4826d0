//! The TCP connection of a probe, and how it ends.
//!
//! It is closed by a reset: the server's backlog is free at once, and nothing waits here for the
//! peer's last word, using up a local port for each check of a minute.

use socket2::Type;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Context;
use super::socket::{explain, open};
use crate::config::model::Connection;
use crate::health::{Failure, Outcome};

/// Connects within `connect_timeout`. The stream sends a reset when it is dropped. An error is what
/// became of the probe.
pub async fn connect(connection: &Connection, context: &Context) -> Result<TcpStream, Outcome> {
    let limit = connection.connect_timeout;
    let socket = open(connection, &context.sources, Type::STREAM, None)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket
        .set_zero_linger()
        .map_err(|error| Outcome::Inconclusive(format!("cannot set up a socket: {error}")))?;
    match timeout(limit, socket.connect(connection.target)).await {
        Err(_) => Err(Outcome::Failed(Failure::TimedOut(limit))),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(&error, limit)),
    }
}
