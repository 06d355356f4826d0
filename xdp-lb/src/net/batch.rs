//! Requests to the kernel by route netlink, many at a time, answered before the call returns: for a
//! thread that has no runtime and no time.
//!
//! The kernel works off all requests of one message on the spot and acknowledges each. So a take-over
//! of hundreds of addresses costs a handful of system calls and no waiting in between.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::Error;

/// Requests that go out at once. Their acknowledgements lie in the socket's buffer, all of them,
/// before the first is read: some 800 bytes each as the kernel counts, of 200 KiB.
const AT_ONCE: usize = 128;
/// The kernel answers while the request is being sent; only something broken takes longer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Longest answer: an acknowledgement without the request it is about.
const LONGEST_ANSWER: usize = 4096;

/// A change that is asked for, with its flags beside `NLM_F_REQUEST` and `NLM_F_ACK`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
}

/// A netlink socket, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Batch {
    socket: Socket,
    /// Sequence number of the next request.
    next: u32,
}

impl Batch {
    /// Opens a socket.
    pub(crate) fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
        socket.set_cap_ack(true).map_err(Error::Open)?;
        let seconds = i64::try_from(ANSWER_TIME.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(seconds))
            .map_err(|errno| Error::Open(errno.into()))?;
        Ok(Self { socket, next: 1 })
    }

    /// What became of each request, in their order. All are made, also after one has failed.
    ///
    /// # Errors
    ///
    /// When the connection to the kernel broke, and it is not known which requests were made.
    /// `operation` names them, as the object of "cannot".
    pub(crate) fn run(
        &mut self,
        requests: Vec<Request>,
        operation: &str,
    ) -> Result<Vec<io::Result<()>>, Error> {
        let mut results = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let first = self.next;
            let mut buffer = Vec::new();
            for request in requests.by_ref().take(AT_ONCE) {
                self.append(request, &mut buffer);
            }
            let sent = self.socket.send(&buffer, 0);
            sent.map_err(|source| Error::Refused {
                operation: operation.to_owned(),
                source,
            })?;
            let answers = self.answers(first, operation)?;
            results.extend(answers);
        }
        Ok(results)
    }

    fn append(&mut self, request: Request, buffer: &mut Vec<u8>) {
        let mut message = NetlinkMessage::from(request.message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
        message.header.sequence_number = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        message.finalize();
        let start = buffer.len();
        // Messages stand on multiples of four bytes.
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        if let Some(place) = buffer.get_mut(start..) {
            message.serialize(place);
        }
    }

    /// The acknowledgements of all requests from number `first` to the last one.
    fn answers(&self, first: u32, operation: &str) -> Result<Vec<io::Result<()>>, Error> {
        let no_answer = || Error::NoAnswer {
            operation: operation.to_owned(),
        };
        let mut buffer = vec![0; LONGEST_ANSWER];
        let mut answers = Vec::new();
        let mut expected = first;
        while expected != self.next {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(no_answer()),
            };
            let answer = buffer.get(..length).unwrap_or_default();
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
                .map_err(|_unreadable| no_answer())?;
            // An answer that came too late, to a call that gave up.
            if answer.header.sequence_number != expected {
                continue;
            }
            if let NetlinkPayload::Error(error) = answer.payload {
                answers.push(match error.code {
                    None => Ok(()),
                    Some(_) => Err(error.to_io()),
                });
                expected = expected.checked_add(1).unwrap_or(1);
            }
        }
        Ok(answers)
    }
}
