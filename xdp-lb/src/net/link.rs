//! What the kernel says of one interface, answered before the call returns.

use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use nix::errno::Errno;
use nix::libc::{EINVAL, ENODEV, ERANGE};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::view::Interface;
use super::{Error, netlink, offload};
use crate::plan::interfaces::FarEnd;

/// The kernel answers while the request is being sent; only something broken takes longer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Longest answer: some interfaces have statistics of many kinds.
const LONGEST_ANSWER: usize = 1 << 16;

/// The interface of a name, in the network namespace of the thread that asks; `None` if there is none.
///
/// # Errors
///
/// When the kernel cannot be asked.
pub fn named(name: &str) -> Result<Option<Interface>, Error> {
    let attribute = LinkAttribute::IfName(name.to_owned());
    match ask(0, attribute, name) {
        Ok(message) => Ok(netlink::interface(&message)),
        // Also a name that is too long to be one.
        Err(error) if matches!(error.errno(), Some(ENODEV | EINVAL | ERANGE)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What becomes of frames that native XDP sends by a veth: whether its other end has a native program, or
/// GRO, and so reads them. That end may be in another network namespace, where only programs are seen,
/// and that only if this process may look there.
///
/// # Errors
///
/// When the kernel cannot be asked.
pub fn far_end(ifindex: u32) -> Result<FarEnd, Error> {
    let own = ask(ifindex, LinkAttribute::ExtMask(Vec::new()), "a veth")?;
    let mut peer = None;
    let mut netns = None;
    for attribute in &own.attributes {
        match attribute {
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(id) => netns = Some(*id),
            _ => {}
        }
    }
    let Some(peer) = peer else {
        return Ok(FarEnd::Unknown);
    };
    let Some(netns) = netns else {
        let other = ask(
            peer,
            LinkAttribute::ExtMask(Vec::new()),
            "a veth's other end",
        )?;
        let takes = has_program(&other) || offload::has_gro(peer)?;
        return Ok(if takes { FarEnd::Takes } else { FarEnd::Loses });
    };
    let other = ask(peer, LinkAttribute::IfNetnsId(netns), "a veth's other end");
    // It may not be ours to look at.
    Ok(match other {
        Ok(other) if has_program(&other) => FarEnd::Takes,
        Ok(_) | Err(_) => FarEnd::Unknown,
    })
}

/// Whether an interface has a native XDP program.
fn has_program(message: &LinkMessage) -> bool {
    let mut all = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(facts) => Some(facts),
            _ => None,
        });
    all.any(|facts| {
        let native = LinkXdp::Attached(XdpAttached::Driver);
        facts.contains(&native)
    })
}

fn ask(ifindex: u32, by: LinkAttribute, name: &str) -> Result<LinkMessage, Error> {
    let operation = || format!("look at {name}");
    let no_answer = || Error::NoAnswer {
        operation: operation(),
    };
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Open)?;
    socket.bind_auto().map_err(Error::Open)?;
    let seconds = i64::try_from(ANSWER_TIME.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(seconds))
        .map_err(|errno| Error::Open(errno.into()))?;
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(by);
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(message));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0).map_err(|source| Error::Refused {
        operation: operation(),
        source,
    })?;
    let mut buffer = vec![0; LONGEST_ANSWER];
    let length = loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => break length,
            Err(Errno::EINTR) => {}
            Err(_) => return Err(no_answer()),
        }
    };
    let answer = buffer.get(..length).unwrap_or_default();
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer);
    match answer.map_err(|_unreadable| no_answer())?.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(Error::Refused {
            operation: operation(),
            source: error.to_io(),
        }),
        _ => Err(no_answer()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::interfaces::Sort;

    #[test]
    fn an_interface_is_found_by_its_name() {
        let lo = named("lo").unwrap().unwrap();
        assert_eq!((&*lo.name, lo.sort), ("lo", Sort::Loopback));
        assert_eq!(named("no-such-if").unwrap(), None);
        assert_eq!(named("a-name-that-is-too-long-for-one").unwrap(), None);
    }
}
