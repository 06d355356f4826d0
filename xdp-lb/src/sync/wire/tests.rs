//! Whatever is sealed can be opened, by those who hold the key, and by nobody else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::body::{MAX_HEARD, MAX_RANGES, write};
use super::records::{Packer, Told, read};
use super::{FRAME, HEADER, Header, Heard, Hello, Message, Part, Range, Refusal, open, seal};
use crate::config::model::{Endpoint, Family, GroupName, Mark, Protocol, ServiceKey};
use crate::plan::pool::Override;
use crate::sync::digest::BUCKETS;
use crate::sync::key::{Keys, Secret};
use crate::sync::record::{Name, Phase, Record, Scope, ServiceName, Stamp, Subject, Summary};

fn keys(byte: u8) -> Keys {
    Keys::of(&Secret::new(vec![byte; 32]).unwrap()).unwrap()
}

fn ip(v6: bool) -> BoxedStrategy<IpAddr> {
    if v6 {
        any::<[u8; 16]>().prop_map(IpAddr::from).boxed()
    } else {
        any::<[u8; 4]>().prop_map(IpAddr::from).boxed()
    }
}

fn socket(v6: bool) -> impl Strategy<Value = SocketAddr> {
    (ip(v6), any::<u16>()).prop_map(SocketAddr::from)
}

fn service(v6: bool) -> impl Strategy<Value = ServiceName> {
    let family = if v6 { Family::V6 } else { Family::V4 };
    prop_oneof![
        endpoint(v6).prop_map(ServiceName::Endpoint),
        any::<u32>().prop_map(move |mark| ServiceName::Mark(Mark { mark, family })),
    ]
}

fn endpoint(v6: bool) -> impl Strategy<Value = Endpoint> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    (socket(v6), protocol).prop_map(|(at, protocol)| Endpoint {
        vip: at.ip(),
        port: at.port(),
        protocol,
    })
}

fn subject(service: ServiceName) -> impl Strategy<Value = (Subject, Phase)> {
    let v6 = service.family() == Family::V6;
    let called = match service {
        ServiceName::Endpoint(service) => {
            let port = prop_oneof![Just(service.port), any::<u16>()];
            port.prop_map(move |port| Endpoint { port, ..service })
                .boxed()
        }
        ServiceName::Mark(_) => endpoint(v6).boxed(),
    };
    let tcp = vec![Phase::Established, Phase::Fin, Phase::Closed];
    let flow =
        (socket(v6), called, prop::sample::select(tcp)).prop_map(|(client, called, phase)| {
            let is_udp = called.protocol == Protocol::Udp;
            let phase = if is_udp { Phase::Udp } else { phase };
            (Subject::Flow { client, called }, phase)
        });
    let template = ip(v6).prop_map(|client| (Subject::Template { client }, Phase::Template));
    prop_oneof![3 => flow, 1 => template]
}

fn told() -> impl Strategy<Value = Told> {
    (any::<bool>(), any::<bool>())
        .prop_flat_map(|(v6, server_v6)| (service(v6), socket(server_v6)))
        .prop_flat_map(|(service, server)| {
            (
                Just(service),
                Just(server),
                subject(service),
                any::<u32>(),
                any::<bool>(),
            )
        })
        .prop_map(
            |(service, server, (subject, phase), millis, is_owned)| Told {
                record: Record {
                    name: Name { service, subject },
                    server,
                    phase,
                    remaining: Duration::from_millis(millis.into()),
                },
                is_owned,
            },
        )
}

fn summary() -> impl Strategy<Value = Summary> {
    let service = any::<bool>().prop_flat_map(service);
    (service, any::<bool>(), any::<[u64; 2]>(), any::<u32>()).prop_map(
        |(service, is_owned, [view, digest], entries)| Summary {
            service,
            view,
            is_owned,
            entries,
            digest,
        },
    )
}

fn part() -> impl Strategy<Value = Part> {
    let any_service = || any::<bool>().prop_flat_map(service);
    let named = prop_oneof![
        any::<bool>()
            .prop_flat_map(endpoint)
            .prop_map(ServiceKey::Endpoint),
        any::<u32>().prop_map(|mark| {
            ServiceKey::Mark(Mark {
                mark,
                family: Family::V4,
            })
        }),
        "[ -~]{1,64}".prop_map(|name| ServiceKey::Group {
            name: GroupName::new(&name).unwrap(),
            protocol: Protocol::Tcp,
        }),
    ];
    let over = (
        named,
        any::<bool>().prop_flat_map(socket),
        any::<Option<u32>>(),
        any::<bool>(),
    )
        .prop_map(|(service, server, weight, is_drained)| {
            ((service, server), Override { weight, is_drained })
        });
    let session_id = (any::<u64>(), any::<u32>());
    prop_oneof![
        prop::collection::vec(told(), 0..20).prop_map(Part::Records),
        session_id.prop_map(|(session, id)| Part::WalkBegins { session, id }),
        session_id.prop_map(|(session, id)| Part::WalkEnds { session, id }),
        prop::collection::vec(summary(), 0..20).prop_map(Part::Summaries),
        (
            any_service(),
            prop::collection::vec(any::<u64>(), 0..=BUCKETS)
        )
            .prop_map(|(service, digests)| Part::Buckets {
                service,
                first: u8::try_from(BUCKETS - digests.len()).unwrap(),
                digests,
            }),
        (
            any::<[u64; 2]>(),
            any::<bool>(),
            prop::collection::vec(over, 0..20)
        )
            .prop_map(|([millis, session], more, overrides)| Part::Overrides {
                stamp: Stamp { millis, session },
                more,
                overrides,
            }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let any_service = || any::<bool>().prop_flat_map(service);
    let range = (1_u64..1 << 40, 0_u64..1 << 20).prop_map(|(first, more)| Range {
        first,
        last: first + more,
    });
    let heard = any::<[u64; 2]>().prop_map(|[session, next]| Heard { session, next });
    let scope = prop_oneof![
        Just(Scope::All),
        Just(Scope::Owned),
        (any_service(), any::<u128>()).prop_map(|(service, mask)| Scope::Buckets { service, mask }),
    ];
    prop_oneof![
        (
            1_u64..1 << 40,
            any::<u64>(),
            prop::collection::vec(heard, 0..=MAX_HEARD)
        )
            .prop_map(|(next, hash_key, heard)| Message::Hello(Hello {
                next,
                hash_key,
                heard
            })),
        (any::<u64>(), part()).prop_map(|(seq, part)| Message::Stream { seq, part }),
        prop::collection::vec(range.clone(), 0..=MAX_RANGES).prop_map(Message::Missing),
        range.prop_map(Message::Lost),
        (any::<u32>(), scope).prop_map(|(id, scope)| Message::Walk { id, scope }),
        any_service().prop_map(Message::Compare),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    (any::<u8>(), any::<[u64; 4]>()).prop_map(|(cluster, [session, epoch, nonce, to])| Header {
        cluster,
        session,
        epoch,
        nonce,
        to,
    })
}

proptest! {
    #[test]
    fn what_is_sealed_is_what_is_opened(header in header(), message in message()) {
        let (kind, body) = write(&message);
        let datagram = seal(&keys(1), &header, kind, &body);
        prop_assert_eq!(datagram.len(), FRAME + body.len());
        let opened = open(&keys(1), header.cluster, &datagram);
        prop_assert_eq!(opened, Ok((header, message)));
        let other = open(&keys(1), header.cluster.wrapping_add(1), &datagram);
        prop_assert_eq!(other, Err(Refusal::Cluster));
        prop_assert_eq!(open(&keys(2), header.cluster, &datagram), Err(Refusal::Digest));
    }

    #[test]
    fn whatever_is_changed_is_refused(
        header in header(), message in message(), at: prop::sample::Index, flip in 1_u8..,
        cut: prop::sample::Index,
    ) {
        let (kind, body) = write(&message);
        let datagram = seal(&keys(1), &header, kind, &body);
        let mut changed = datagram.clone();
        changed[at.index(datagram.len())] ^= flip;
        prop_assert!(open(&keys(1), header.cluster, &changed).is_err());
        let cut = &datagram[..cut.index(datagram.len())];
        prop_assert!(open(&keys(1), header.cluster, cut).is_err());
        let longer = [datagram.as_slice(), &[0]].concat();
        prop_assert!(open(&keys(1), header.cluster, &longer).is_err());
    }

    /// As after a change of the program without one of the version: no panic, and what is taken is
    /// what would be said.
    #[test]
    fn any_body_is_read_or_refused(kind in 0_u8..9, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let header = Header { cluster: 0, session: 1, epoch: 1, nonce: 1, to: 0 };
        let datagram = seal(&keys(1), &header, kind, &body);
        if let Ok((_, message)) = open(&keys(1), 0, &datagram) {
            let (kind, body) = write(&message);
            let again = open(&keys(1), 0, &seal(&keys(1), &header, kind, &body));
            prop_assert_eq!(again, Ok((header, message)));
        }
    }

    #[test]
    fn entries_are_packed_into_bodies_that_fit(
        all in prop::collection::vec(told(), 0..100), room in 100_usize..1500,
    ) {
        let mut packer = Packer::new(room);
        let mut bodies: Vec<_> = all.iter().filter_map(|told| packer.push(told)).collect();
        bodies.extend(packer.finish());
        prop_assert!(bodies.iter().all(|body| body.len() <= room));
        let read: Vec<_> = bodies.iter().flat_map(|body| read(body).unwrap()).collect();
        prop_assert_eq!(read, all);
    }
}

#[test]
fn another_version_is_told_apart_from_another_program() {
    let header = Header {
        cluster: 0,
        session: 1,
        epoch: 2,
        nonce: 3,
        to: 0,
    };
    let good = seal(&keys(1), &header, 3, &[]);
    assert_eq!(
        open(&keys(1), 0, &good),
        Ok((header, Message::Missing(vec![])))
    );
    let mut newer = good.clone();
    newer[4] = super::VERSION + 1;
    assert_eq!(open(&keys(1), 0, &newer), Err(Refusal::Version));
    // The head of a datagram of IPVS's sync daemon.
    let ipvs = [0, 51, 0, 60, 1, 1, 0, 0].repeat(9);
    assert_eq!(open(&keys(1), 0, &ipvs), Err(Refusal::Foreign));
    assert_eq!(open(&keys(1), 0, &[]), Err(Refusal::Foreign));
    assert_eq!(good.len(), HEADER + 16);
}
