//! Sockets and descriptors as conncheck needs them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::GetSockOpt as _;
use nix::{getsockopt_impl, libc, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};

use super::tally::Resent;

/// Descriptors that a process has besides its connections.
const OTHERS: u64 = 256;

/// Connections that wait to be accepted; the kernel takes less where `somaxconn` says so.
const BACKLOG: i32 = 4096;

/// The front of `struct tcp_info` in linux/tcp.h, as far as it is of use here; Linux 4.19 has that much.
const INFO: usize = 220;
const TOTAL_RETRANS: usize = 100;
const DSACK_DUPS: usize = 216;

sockopt_impl!(
    /// The kernel's figures about a connection, as bytes.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u8; INFO]
);

/// What the kernel has sent again on a connection; of a socket without one, nothing.
pub(super) fn resent(socket: &Socket) -> Resent {
    TcpInfo.get(socket).map_or_else(
        |_| Resent::default(),
        |info| Resent {
            all: word(&info, TOTAL_RETRANS),
            needless: word(&info, DSACK_DUPS),
        },
    )
}

fn word(info: &[u8; INFO], offset: usize) -> u32 {
    let bytes = info.get(offset..offset + 4);
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    u32::from_ne_bytes(bytes.unwrap_or_default())
}

/// Makes room for as many connections as this process may have.
pub(super) fn make_all_room() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Makes room for so many connections.
pub(super) fn make_room(connections: usize) -> Result<()> {
    let wanted = u64::try_from(connections)? + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).with_context(|| {
            format!("{wanted} descriptors are needed and {hard} allowed: raise RLIMIT_NOFILE")
        })?;
    }
    Ok(())
}

/// A socket that is about to be connected.
pub(super) fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddrV4::new(from, 0).into())?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// A socket that listens.
pub(super) fn listen(at: SocketAddr) -> Result<Socket> {
    let listen = || {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(at), kind, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        io::Result::Ok(socket)
    };
    listen().with_context(|| format!("cannot listen on {at}"))
}

/// What is ready; without a timeout it waits until something is.
pub(super) fn ready<'a>(
    epoll: &Epoll,
    events: &'a mut [EpollEvent],
    timeout_ms: Option<u8>,
) -> Result<&'a [EpollEvent]> {
    let count = loop {
        match epoll.wait(events, timeout_ms) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    Ok(events.get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_a_connection_what_is_read_here() {
        let server = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = server.local_addr().unwrap().as_socket_ipv4().unwrap();
        let client = connect(Ipv4Addr::LOCALHOST, to).unwrap();
        let info = TcpInfo.get(&client).unwrap();
        // TCP_ESTABLISHED, and nothing was lost on the way to itself.
        assert_eq!(info[0], 1);
        assert_eq!(resent(&client), Resent::default());
    }

    #[test]
    fn there_is_room_for_more_than_a_shell_allows() {
        make_room(2000).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft >= 2000 + OTHERS);
        make_all_room().unwrap();
        let soft = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0;
        assert_eq!(soft, hard);
    }
}
