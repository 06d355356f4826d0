//! A start with tables of another size than the predecessor's: what stands in them stays.

use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::pins::Pins;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::Packet;
use xdp_lb_tests::packet::Transport;
use xdp_lb_tests::packet::flags::{ACK, FIN, RST};
use xdp_lb_tests::program::{Action, Outcome, Program};

use crate::director::{Director, in_a_network};
use crate::tables::{PORT, Virtual, Words as _, ack, from_client, server_mac, syn, tables, tcp};

const SERVERS: u8 = 4;

fn server_of(outcome: &Outcome) -> u8 {
    assert_eq!(outcome.action, Action::Tx);
    let server = (1..=SERVERS).find(|n| outcome.frame.starts_with(&server_mac(*n)));
    server.expect("it went to a real server")
}

fn send(program: &Program, packet: &Packet) -> u8 {
    server_of(&program.run(&packet.bytes().unwrap(), PORT).unwrap())
}

fn establish(program: &Program, clients: std::ops::Range<u32>) -> Vec<(u32, u8)> {
    let one = |client| {
        let server = send(program, &syn(client));
        assert_eq!(send(program, &ack(client)), server);
        (client, server)
    };
    clients.map(one).collect()
}

/// All of these go on where they were; returns how many of them the table knew.
fn verify(director: &Director, flows: &[(u32, u8)]) -> u64 {
    let before = director.eyes().tally();
    for (client, server) in flows {
        let now = send(director.program(), &ack(*client));
        assert_eq!(now, *server, "client {client}");
    }
    director
        .eyes()
        .tally()
        .since(&before)
        .of(Reason::TxConnection)
}

fn service() -> Virtual {
    tcp(80).wrr(&[1, 2, 1, 2])
}

fn active(director: &mut Director) -> u64 {
    let counters = director.ebpf().counters().unwrap();
    counters.servers.values().map(|server| server.active).sum()
}

/// Whatever of the predecessor's tables is pinned beside the ones in force.
fn leftovers(director: &Director) -> Vec<String> {
    let layout = Pins::new(director.instance()).map("CONNS");
    let entries = std::fs::read_dir(layout.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("next-") || name.starts_with("last-"))
        .collect()
}

#[test]
fn connections_stay_when_their_table_grows_and_shrinks() {
    in_a_network(|| {
        let wanted = tables([service()]);
        let mut director = Director::new(&wanted);
        let mut flows = establish(director.program(), 0..700);
        director.reopen();
        for (from, connections) in [(1000, 8192), (2000, 2048), (3000, 4096)] {
            let mut late = Vec::new();
            director.reopen_with(
                |options| options.connections = connections,
                // New ones, and some that change.
                |program| late = establish(program, from..from + 100),
            );
            let notes = director.ebpf().notes().join("\n");
            let said = format!("is made for {connections} now: {} entries", flows.len());
            assert!(notes.contains(&said), "{said}: {notes}");
            flows.append(&mut late);
            assert_eq!(verify(&director, &flows), flows.len() as u64);
            director.set(&wanted);
            assert_eq!(verify(&director, &flows), flows.len() as u64);
            assert_eq!(
                active(&mut director),
                flows.len() as u64,
                "each counts once"
            );
            assert_eq!(leftovers(&director), [""; 0]);
        }
    });
}

/// What changed in the old table after it was copied is what stands in the new one.
#[test]
fn a_connection_that_ends_or_moves_while_the_tables_are_filled_does_so_in_both() {
    in_a_network(|| {
        let mut director = Director::new(&tables([service()]));
        let flows = establish(director.program(), 0..100);
        director.reopen();
        let mut anew = Vec::new();
        director.reopen_with(
            |options| options.connections = 4096,
            |program| {
                for (client, server) in &flows {
                    let flags = if client % 2 == 0 { FIN | ACK } else { RST };
                    let closed = send(program, &from_client(*client, Transport::Tcp(flags)));
                    assert_eq!(closed, *server);
                }
                anew = establish(program, 0..100);
            },
        );
        assert_ne!(
            anew, flows,
            "a SYN on a closing connection is scheduled anew"
        );
        assert_eq!(verify(&director, &anew), 100);
    });
}

/// Connections without a way go by consistent hash in the new table, too.
#[test]
fn connections_without_a_way_keep_their_server_when_the_table_grows() {
    in_a_network(|| {
        let wanted = tables([service()]);
        let mut director = Director::new(&wanted);
        let flows = establish(director.program(), 0..8192);
        director.reopen();
        director.reopen_with(|options| options.connections = 16_384, |_program| ());
        director.set(&wanted);
        let known = verify(&director, &flows);
        assert!((2048..8192).contains(&known), "{known}");
    });
}

#[test]
fn templates_stay_when_their_table_grows() {
    in_a_network(|| {
        let wanted = tables([service().persistent(300, 32)]);
        let mut director = Director::new(&wanted);
        let flows = establish(director.program(), 0..500);
        director.reopen();
        director.reopen_with(|options| options.templates = 4096, |_program| ());
        director.set(&wanted);
        for (client, server) in &flows {
            let next = syn(*client).port(40_001);
            assert_eq!(send(director.program(), &next), *server, "client {client}");
        }
        assert_eq!(verify(&director, &flows), 500);
    });
}

/// One that ends before its program is on an interface leaves its predecessor's at work.
#[test]
fn a_start_that_ends_before_it_is_through_changes_nothing() {
    in_a_network(|| {
        let wanted = tables([service()]);
        let mut director = Director::new(&wanted);
        let flows = establish(director.program(), 0..500);
        director.reopen();
        director.end_early(|options| options.connections = 8192);
        assert_eq!(
            verify(&director, &flows),
            500,
            "by the predecessor's program"
        );
        director.reopen_with(|_options| (), |_program| ());
        assert_eq!(verify(&director, &flows), 500);
        assert_eq!(leftovers(&director), [""; 0]);
    });
}
