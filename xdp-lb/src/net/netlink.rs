//! Requests to the kernel by route netlink, and its messages as [`view`](super::view) understands
//! them.
//!
//! Requests and notifications have a socket each: a flood of notifications then cannot lose the
//! answer to a request, and a notification that carries the sequence number of some other process's
//! request cannot be taken for one.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::AsyncSocket;
use tokio::task::JoinHandle;
use xdp_lb_common::addr::Mac;

use super::Error;
use super::sorts::sort;
use super::view::{Hop, Input, Interface, Neighbour, Resolution, Route};
use crate::plan::belongings::KEEPALIVED;

/// The kernel answers while the request is being sent; only a broken connection takes longer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// A table that changes while it is dumped may come with holes, and is dumped again.
const DUMP_ATTEMPTS: u32 = 10;
/// Bytes of notifications the kernel keeps for us: some 10,000 changes of neighbours at once.
const NOTIFICATION_BUFFER: usize = 8 << 20;

/// A netlink socket for requests, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens a socket; needs a tokio runtime.
    pub(crate) fn open() -> Result<Self, Error> {
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        // The mark of an interrupted dump may stand on its last message alone.
        connection.set_forward_done(true);
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// All interfaces.
    pub(crate) async fn links(&self) -> Result<Vec<Interface>, Error> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answer = self.dump(request, "list interfaces").await?;
        let links = answer.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => interface(link),
            _ => None,
        });
        Ok(links.collect())
    }

    /// All addresses of this host, as the kernel describes them.
    pub(crate) async fn addresses(&self) -> Result<Vec<AddressMessage>, Error> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answer = self.dump(request, "list addresses").await?;
        let addresses = answer.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// The neighbour table, IPv4 and IPv6.
    pub(crate) async fn neighbours(&self) -> Result<Vec<(Hop, Neighbour)>, Error> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answer = self.dump(request, "list neighbours").await?;
        let neighbours = answer.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(entry) => neighbour(entry),
            _ => None,
        });
        Ok(neighbours.collect())
    }

    /// The route to `target`.
    pub(crate) async fn route(&self, target: IpAddr) -> Result<Route, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(target);
        message.header.destination_prefix_length = prefix_len(target);
        let destination = RouteAttribute::Destination(target.into());
        message.attributes.push(destination);
        let request = RouteNetlinkMessage::GetRoute(message);
        let answer = self
            .request(request, 0, || format!("look up the route to {target}"))
            .await;
        match answer {
            Ok(messages) => Ok(messages
                .iter()
                .find_map(|message| match message {
                    RouteNetlinkMessage::NewRoute(found) => Some(route(target, found)),
                    _ => None,
                })
                .unwrap_or(Route::None)),
            // ENETUNREACH, or the error a route of type prohibit or blackhole stands for.
            Err(Error::Refused { .. }) => Ok(Route::None),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel resolve a neighbour if it does not know it, or check it if it is STALE, as a
    /// packet to it would (`NTF_USE`); returns at once.
    ///
    /// Must not be used on a permanent entry: kernels since 5.16 make it an ordinary one.
    pub(crate) async fn resolve(&self, hop: Hop) -> Result<(), Error> {
        let mut message = neighbour_message(hop);
        message.header.flags = NeighbourFlags::Use;
        let request = RouteNetlinkMessage::NewNeighbour(message);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let what = || format!("have {} resolved", hop.address);
        self.request(request, flags, what).await.map(drop)
    }

    /// The entry of a neighbour, if there is one.
    pub(crate) async fn neighbour(&self, hop: Hop) -> Result<Option<Neighbour>, Error> {
        let mut message = neighbour_message(hop);
        message.header.state = NeighbourState::None;
        let request = RouteNetlinkMessage::GetNeighbour(message);
        let what = || format!("look up neighbour {}", hop.address);
        match self.request(request, 0, what).await {
            Ok(messages) => Ok(messages.iter().find_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(entry) => neighbour(entry).map(|(_, n)| n),
                _ => None,
            })),
            Err(Error::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a request with these flags beside `NLM_F_REQUEST`, and collects the answer. `operation`
    /// names it in errors, as the object of "cannot".
    pub(crate) async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        operation: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let (answer, _) = self.exchange(message, flags, &operation).await?;
        Ok(answer)
    }

    async fn dump(
        &self,
        message: RouteNetlinkMessage,
        operation: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 1..DUMP_ATTEMPTS {
            let name = || operation.to_owned();
            let (answer, whole) = self.exchange(message.clone(), NLM_F_DUMP, &name).await?;
            if whole {
                return Ok(answer);
            }
        }
        // It changes all the time: notifications will fill the holes.
        self.request(message, NLM_F_DUMP, || operation.to_owned())
            .await
    }

    /// The answer, and whether it is free of holes.
    async fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        operation: &impl Fn() -> String,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let no_answer = || Error::NoAnswer {
            operation: operation(),
        };
        let mut handle = self.handle.clone();
        let mut replies = handle.request(request).map_err(|_closed| no_answer())?;
        let mut answer = Vec::new();
        let mut whole = true;
        loop {
            let reply = tokio::time::timeout(ANSWER_TIME, replies.next()).await;
            let Some(reply) = reply.map_err(|_elapsed| no_answer())? else {
                return Ok((answer, whole));
            };
            whole &= reply.header.flags & NLM_F_DUMP_INTR == 0;
            match reply.payload {
                NetlinkPayload::InnerMessage(message) => answer.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Error::Refused {
                        operation: operation(),
                        source: error.to_io(),
                    });
                }
                NetlinkPayload::Overrun(_) => return Err(no_answer()),
                _ => {}
            }
        }
    }
}

/// A notification.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something changed.
    Changed(Input),
    /// Notifications were lost: only a dump can tell what changed.
    Lost,
}

/// Notifications of changes in the network namespace of the thread that subscribed.
pub(crate) struct Notifications {
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    connection: JoinHandle<()>,
}

impl Drop for Notifications {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Notifications {
    /// Subscribes to changes of links, addresses, neighbours, routes and rules.
    pub(crate) fn open() -> Result<Self, Error> {
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Rule,
        ])
        .map_err(Error::Open)?;
        enlarge(connection.socket_mut().socket_mut());
        let events = messages.filter_map(|(message, _)| std::future::ready(event(message)));
        Ok(Self {
            events: Box::pin(events),
            connection: tokio::spawn(connection),
        })
    }

    /// The next notification; `None` once the connection is broken.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.next().await
    }
}

/// Best effort: with a small buffer a flood of changes costs a dump, no more.
fn enlarge(socket: &rtnetlink::sys::Socket) {
    use nix::sys::socket::{setsockopt, sockopt};
    let forced = setsockopt(socket, sockopt::RcvBufForce, &NOTIFICATION_BUFFER);
    if forced
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &NOTIFICATION_BUFFER))
        .is_err()
    {
        tracing::debug!("the buffer for netlink notifications keeps its default size");
    }
}

fn event(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    match message.payload {
        NetlinkPayload::InnerMessage(message) => input(&message).map(Event::Changed),
        NetlinkPayload::Overrun(_) => Some(Event::Lost),
        _ => None,
    }
}

fn input(message: &RouteNetlinkMessage) -> Option<Input> {
    use RouteNetlinkMessage as Message;
    match message {
        Message::NewLink(link) => interface(link).map(Input::Link),
        Message::DelLink(link) => interface(link).map(|link| Input::LinkGone(link.ifindex)),
        Message::NewAddress(entry) => {
            address(entry).map(|address| Input::Address(entry.header.index, address))
        }
        Message::DelAddress(entry) => {
            address(entry).map(|address| Input::AddressGone(entry.header.index, address))
        }
        Message::NewNeighbour(entry) => {
            neighbour(entry).map(|(hop, neighbour)| Input::Neighbour(hop, neighbour))
        }
        Message::DelNeighbour(entry) if is_kept(entry) => Some(Input::Strayed),
        Message::DelNeighbour(entry) => neighbour(entry).map(|(hop, _)| Input::NeighbourGone(hop)),
        Message::DelRoute(route) if u8::from(route.header.protocol) == KEEPALIVED => {
            Some(Input::Strayed)
        }
        Message::DelRule(rule) if is_of_keepalived(rule) => Some(Input::Strayed),
        _ => Some(Input::RoutesChanged),
    }
}

/// An entry of a group that was made permanent.
fn is_kept(entry: &NeighbourMessage) -> bool {
    let ours = NeighbourAttribute::Protocol(KEEPALIVED.into());
    entry.attributes.contains(&ours)
}

fn is_of_keepalived(rule: &RuleMessage) -> bool {
    let ours = RuleAttribute::Protocol(KEEPALIVED.into());
    rule.attributes.contains(&ours)
}

pub(super) fn interface(message: &LinkMessage) -> Option<Interface> {
    // Messages of other families tell of a bridge's ports: a port that leaves its bridge is
    // "deleted" there, and goes on existing.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut name = None;
    let (mut mac, mut mtu) = (Mac::default(), 0);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(octets) => mac = ethernet(octets).unwrap_or_default(),
            LinkAttribute::Mtu(octets) => mtu = *octets,
            _ => {}
        }
    }
    let up = LinkFlags::Up | LinkFlags::Running;
    let sort = sort(message);
    Some(Interface {
        ifindex: message.header.index,
        name: name?,
        mac,
        mtu,
        up: message.header.flags.contains(up),
        sort,
    })
}

/// This host's address in the message: of a point-to-point link, not the peer's.
pub(crate) fn address(message: &AddressMessage) -> Option<IpNet> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

fn neighbour(message: &NeighbourMessage) -> Option<(Hop, Neighbour)> {
    // Proxy entries are addresses this host answers for; bridge entries are MACs behind ports.
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut destination = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                destination = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                destination = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(octets) => mac = ethernet(octets),
            _ => {}
        }
    }
    let hop = Hop {
        ifindex: message.header.ifindex,
        address: destination?,
    };
    let resolution = resolution(message.header.state);
    Some((hop, Neighbour { resolution, mac }))
}

fn resolution(state: NeighbourState) -> Resolution {
    match state {
        NeighbourState::Reachable | NeighbourState::Delay => Resolution::Known,
        NeighbourState::Probe => Resolution::Probing,
        NeighbourState::Stale => Resolution::Stale,
        NeighbourState::Failed => Resolution::Failed,
        NeighbourState::Noarp | NeighbourState::Permanent => Resolution::Fixed,
        _ => Resolution::Pending,
    }
}

fn route(target: IpAddr, message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Local => return Route::Local,
        RouteType::Unicast => {}
        _ => return Route::None,
    }
    let mut ifindex = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            // Also of an IPv4 route, RFC 5549.
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    let address = gateway.unwrap_or(target);
    ifindex.map_or(Route::None, |ifindex| Route::Via(Hop { ifindex, address }))
}

fn neighbour_message(hop: Hop) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(hop.address);
    message.header.ifindex = hop.ifindex;
    let destination = NeighbourAttribute::Destination(hop.address.into());
    message.attributes.push(destination);
    message
}

fn ethernet(octets: &[u8]) -> Option<Mac> {
    let mac = Mac::from_octets(octets.try_into().ok()?);
    (!mac.is_zero()).then_some(mac)
}

pub(crate) const fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

const fn prefix_len(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address as a prefix of its own: /32 or /128.
pub(crate) fn host_net(ip: IpAddr) -> IpNet {
    ip.into()
}
