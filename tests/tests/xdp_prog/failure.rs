//! Real servers that fail, go and come back: an old flow never lands on a newcomer.

use xdp_lb::plan::diff::Change;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::limits::MAX_BACKENDS;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::Packet;
use xdp_lb_tests::program::Action;

use crate::case::{Case, Fate, Step, check, goes, send, stays};
use crate::director::{Director, in_a_network};
use crate::tables::{Virtual, Words as _, ack, datagram, server_mac, syn, tables, tcp, udp};

const fn scheduled(server: u8) -> Fate {
    goes(Reason::TxScheduled, server)
}

const fn known(server: u8) -> Fate {
    goes(Reason::TxConnection, server)
}

/// TCP and UDP services of two servers.
fn both(edit: impl Fn(Virtual) -> Virtual) -> Step {
    Step::Tables(tables([edit(tcp(80).rr(2)), edit(udp(80).rr(2))]))
}

/// Established connections of clients 1 and 2: on servers 2 and 1, in TCP and in UDP.
fn established() -> Vec<Step> {
    let packets = [
        (syn as fn(u32) -> Packet, ack as fn(u32) -> Packet),
        (datagram, datagram),
    ];
    let mut steps = Vec::new();
    for (first, second) in packets {
        for (client, server) in [(1, 2), (2, 1)] {
            steps.push(send(first(client), scheduled(server)));
            steps.push(send(second(client), known(server)));
        }
    }
    steps
}

fn case(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    Case {
        name,
        tables: tables([tcp(80).rr(2), udp(80).rr(2)]),
        steps: established().into_iter().chain(steps).collect(),
    }
}

#[test]
fn the_flows_of_a_failed_server_end_and_move() {
    check(vec![
        case(
            "TCP is reset, a SYN and UDP go elsewhere",
            [
                both(|service| service.fail(2)),
                send(ack(1), stays(Reason::Purged)),
                send(ack(1), stays(Reason::Purged)),
                send(syn(1), scheduled(1)),
                Step::Connection(syn(1), Some((Kind::Syn, 1))),
                send(ack(1), known(1)),
                send(datagram(1), scheduled(1)),
                send(datagram(1), known(1)),
                // The other server's notice nothing.
                send(ack(2), known(1)),
                send(datagram(2), known(1)),
            ],
        ),
        case(
            "with no server left there is nowhere to go",
            [
                both(|service| service.fail(1).fail(2)),
                send(ack(1), stays(Reason::Purged)),
                send(syn(1), stays(Reason::TxUnreachable)),
                send(datagram(1), stays(Reason::TxUnreachable)),
                both(|service| service.fail(2).fail(1).recover(1)),
                send(syn(1), scheduled(1)),
                send(datagram(1), scheduled(1)),
            ],
        ),
        case(
            "taken out of the file",
            [
                both(|service| service.remove(2)),
                send(ack(1), stays(Reason::Purged)),
                send(syn(1), scheduled(1)),
                send(datagram(1), scheduled(1)),
                send(ack(2), known(1)),
            ],
        ),
    ]);
}

#[test]
fn a_server_that_comes_back_gets_no_old_flow() {
    check(vec![
        case(
            "failed and recovered",
            [
                both(|service| service.fail(2)),
                both(|service| service.fail(2).recover(2)),
                send(ack(1), stays(Reason::Purged)),
                send(ack(2), known(1)),
                // The server added last is next.
                send(syn(1), scheduled(2)),
                send(ack(1), known(2)),
                send(datagram(1), scheduled(2)),
                send(datagram(1), known(2)),
            ],
        ),
        case(
            "failed and recovered twice",
            [
                both(|service| service.fail(2)),
                both(|service| service.fail(2).recover(2)),
                both(|service| service.fail(2)),
                both(|service| service.fail(2).recover(2)),
                send(ack(1), stays(Reason::Purged)),
            ],
        ),
        case(
            "removed and added",
            [
                both(|service| service.remove(2)),
                both(|service| service.remove(2).add(2, 1)),
                send(ack(1), stays(Reason::Purged)),
                send(syn(1), scheduled(2)),
            ],
        ),
        case(
            "its whole service removed and added",
            [
                Step::Tables(tables([udp(80).rr(2)])),
                send(ack(1), stays(Reason::NoService)),
                send(datagram(1), known(2)),
                Step::Tables(tables([tcp(80).rr(2), udp(80).rr(2)])),
                send(ack(1), stays(Reason::Purged)),
                send(ack(2), stays(Reason::Purged)),
                send(syn(1), scheduled(2)),
            ],
        ),
    ]);
}

#[test]
fn a_server_whose_mac_is_lost_keeps_its_connections_and_gets_no_new_ones() {
    check(vec![case(
        "unresolved and resolved",
        [
            both(|service| service.unresolved(2)),
            send(ack(1), known(2)),
            send(datagram(1), known(2)),
            send(syn(3), scheduled(1)),
            send(syn(4), scheduled(1)),
            send(datagram(3), scheduled(1)),
            both(|service| service),
            send(ack(1), known(2)),
        ],
    )]);
}

#[test]
fn connections_follow_a_server_that_moves() {
    check(vec![case(
        "to another port, behind a router, to the director itself, and back",
        [
            both(|service| service.elsewhere(2)),
            send(ack(1), goes(Reason::RedirectConnection, 2)),
            both(|service| service.behind_router(2)),
            send(ack(1), known(2)),
            both(|service| service.local(2)),
            send(ack(1), stays(Reason::Local).counts(2, false)),
            both(|service| service),
            send(ack(1), known(2)),
            send(ack(2), known(1)),
        ],
    )]);
}

/// Indexes of servers that are gone are given out again, the longest free first, once all others
/// were. An entry that still names such an index must not lead to its new owner.
#[test]
fn an_old_flow_never_reaches_the_next_owner_of_its_servers_index() {
    in_a_network(|| {
        let service = tcp(80).rr(1);
        let mut director = Director::new(&tables([service.clone()]));
        let first = service.service.servers[0].clone();
        let index = director.eyes().backend(service.key, first.address.ip());
        let run = |director: &Director, packet: Packet| {
            let before = director.eyes().tally();
            let outcome = director.send(&packet.bytes().unwrap());
            let tally = director.eyes().tally().since(&before);
            (outcome, tally.reasons.into_keys().next().unwrap())
        };
        run(&director, syn(1));
        assert_eq!(run(&director, ack(1)).1, Reason::TxConnection);
        director.set(&tables([tcp(80).rr(0)]));

        for port in 1..u16::try_from(MAX_BACKENDS).unwrap() {
            let mut passing = first.clone();
            passing.address.set_port(port);
            let address = passing.address;
            director.apply(&Change::SetServer(service.key, passing));
            director.apply(&Change::RemoveServer(service.key, address));
        }
        let newcomer = tcp(80).rr(0).add(2, 1);
        director.set(&tables([newcomer.clone()]));
        let next = director
            .eyes()
            .backend(service.key, newcomer.service.servers[0].address.ip());
        assert_eq!(next, index, "the index is in use again");

        let (outcome, reason) = run(&director, ack(1));
        assert_eq!((outcome.action, reason), (Action::Pass, Reason::Purged));
        let (outcome, reason) = run(&director, syn(1));
        assert_eq!(reason, Reason::TxScheduled);
        assert!(outcome.frame.starts_with(&server_mac(2)));
    });
}

#[test]
fn a_connection_of_a_service_that_changes_its_scheduler_goes_on() {
    let weighted = tables([tcp(80).wrr(&[3, 1]), udp(80).rr(2)]);
    check(vec![case(
        "rr to wrr and back",
        [
            Step::Tables(weighted),
            send(ack(1), known(2)),
            send(ack(2), known(1)),
            // Another scheduler begins its walk anew: with the heaviest, with the head of the list.
            send(syn(1).port(40_001), scheduled(1)),
            both(|service| service),
            send(syn(1).port(40_002), scheduled(2)),
            send(ack(1), known(2)),
        ],
    )]);
}
