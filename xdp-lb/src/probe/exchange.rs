//! Packets to and fro between a probe and its target: what DNS, UDP and ICMP checks share.

use std::io::{self, Read as _, Write as _};
use std::net;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use socket2::{Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::socket::{explain, open};
use super::{Context, failed, seconds};
use crate::config::model::Connection;
use crate::health::Outcome;

/// Larger than any datagram.
pub(super) const LONGEST: usize = 65_535;

/// A socket that packets from the target alone come in by, until `connect_timeout` is over.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    /// Of another protocol, too: what is done to it is the same.
    socket: UdpSocket,
    connection: &'a Connection,
    until: Instant,
}

impl<'a> Exchange<'a> {
    pub(super) fn open(
        connection: &'a Connection,
        context: &Context,
        kind: Type,
        protocol: Option<Protocol>,
    ) -> Result<Self, Outcome> {
        let limit = connection.connect_timeout;
        let socket = open(connection, &context.sources, kind, protocol)?;
        // Or the kernel keeps to itself that a host cannot be reached.
        let told = if connection.target.is_ipv4() {
            setsockopt(&socket, Ipv4RecvErr, &true)
        } else {
            setsockopt(&socket, Ipv6RecvErr, &true)
        };
        told.map_err(|errno| Outcome::Inconclusive(format!("cannot set up a socket: {errno}")))?;
        socket
            .connect(&connection.target.into())
            .map_err(|error| explain(&error, limit))?;
        let socket = UdpSocket::from_std(net::UdpSocket::from(socket))
            .map_err(|error| Outcome::Inconclusive(format!("cannot wait for replies: {error}")))?;
        Ok(Self {
            socket,
            connection,
            until: Instant::now() + limit,
        })
    }

    pub(super) async fn send(&self, packet: &[u8]) -> Result<(), Outcome> {
        self.ready(Interest::WRITABLE, |mut socket| socket.write(packet))
            .await?
            .map(drop)
            .ok_or_else(|| self.silence("room to send"))
    }

    /// The length of the next packet; `None` when the time is over.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Outcome> {
        self.ready(Interest::READABLE, |mut socket| socket.read(buffer))
            .await
    }

    /// What to say when nothing came.
    pub(super) fn silence(&self, awaited: &str) -> Outcome {
        let limit = seconds(self.connection.connect_timeout);
        failed(format!("no {awaited} within {limit}"))
    }

    /// Tries whenever the kernel says that it may work, or that there is an error to be fetched.
    async fn ready(
        &self,
        interest: Interest,
        mut work: impl FnMut(&Socket) -> io::Result<usize>,
    ) -> Result<Option<usize>, Outcome> {
        // An error alone does not make a socket readable.
        let interest = interest | Interest::ERROR;
        let work = self
            .socket
            .async_io(interest, || work(&SockRef::from(&self.socket)));
        match timeout_at(self.until, work).await {
            Ok(Ok(length)) => Ok(Some(length)),
            Ok(Err(error)) => Err(explain(&error, self.connection.connect_timeout)),
            Err(_) => Ok(None),
        }
    }
}
