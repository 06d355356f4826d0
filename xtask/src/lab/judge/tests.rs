//! Every check can fail, and fails for its own reason.

use std::collections::BTreeMap;

use super::*;
use crate::lab::clients::{HttpRun, HttpSource};
use crate::lab::findings::{Comeback, Counted, Frames, Kill, Move, Stop};

/// Sources that got `answers` from each of the servers named, one server per source.
fn run(servers: &[&str], answers: u64) -> HttpRun {
    let source = |server: &&str| HttpSource {
        connections: answers,
        answers: BTreeMap::from([((*server).to_owned(), answers)]),
        ..HttpSource::default()
    };
    HttpRun {
        sources: servers.iter().map(source).collect(),
        ..HttpRun::default()
    }
}

/// A client of rs1 that is refused twice and then answered by rs2.
fn moved() -> HttpSource {
    let one = |name: &str, count| (name.to_owned(), count);
    HttpSource {
        connections: 4,
        answers: BTreeMap::from([one("rs1", 1), one("rs2", 1)]),
        errors: BTreeMap::from([one("refused", 2)]),
        outage: Some(5.5),
        ..HttpSource::default()
    }
}

fn websocket(servers: &[&str]) -> WebSocket {
    let broken = servers.len() as u64 - 1;
    WebSocket {
        connections: 1 + 3 * broken,
        servers: servers.iter().map(|&name| name.to_owned()).collect(),
        broken,
        sent: 100,
        echoed: 100 - broken,
        outages: vec![5.5; servers.len() - 1],
        ..WebSocket::default()
    }
}

/// A run without fault.
fn sound() -> Findings {
    let halves = |each| [vec!["rs1"; each], vec!["rs2"; each]].concat();
    let mut websockets = vec![websocket(&["rs1", "rs2"]); 10];
    websockets.extend(vec![websocket(&["rs2"]); 10]);
    let mut found = Findings {
        xdp_mode: Some("native".to_owned()),
        vip_mac: Some("02:00".to_owned()),
        director_mac: "02:00".to_owned(),
        http: run(&halves(25), 20),
        kill: Kill {
            killed: "rs1".to_owned(),
            survivor: "rs2".to_owned(),
            bound: 7.0,
            listed_down: Some(5.0),
            moved: HttpRun {
                sources: vec![moved(); 25],
                ..HttpRun::default()
            },
            bystanders: run(&["rs2"; 25], 75),
            ..Kill::default()
        },
        comeback: Comeback {
            bound: 6.0,
            listed_up: Some(5.0),
            moved_again: run(&["rs2"; 25], 1),
            newcomers: run(&halves(5), 2),
        },
        websockets,
        frames: Frames {
            to_director: 9000,
            from_director: 9000,
            replies_to_director: 0,
            replies_to_client: 8000,
        },
        moves: vec![Move {
            cause: "director1 is stopped".to_owned(),
            moved: Some(0.6),
            dark: 0.01,
            bound: 0.1,
            settled: true,
        }],
        stop: Some(Stop {
            success: true,
            ..Stop::default()
        }),
        ..Findings::default()
    };
    // 1,000 + 25 × (4 + 75 + 1) + 10 × 2 over HTTP, 10 × (4 + 1) WebSockets.
    found.scrape = Counted {
        connections: Some(3070.0),
        packets: Some(9000.0),
        server_connections: BTreeMap::from([
            // 500 + 25 × (1 + 2 refused) + 10 over HTTP, 10 × (1 + 2 refused) WebSockets.
            ("rs1".to_owned(), 615.0),
            ("rs2".to_owned(), 2455.0),
        ]),
        ..Counted::default()
    };
    found
}

/// What fails once `spoil` has been at a sound run.
fn failing(spoil: impl FnOnce(&mut Findings)) -> Vec<String> {
    let mut found = sound();
    spoil(&mut found);
    let checks = judge(&found).into_iter().filter(|check| !check.pass);
    checks.map(|check| check.what).collect()
}

#[track_caller]
fn assert_only(failing: &[String], words: &str) {
    assert_eq!(failing.len(), 1, "{failing:?}");
    assert!(failing[0].contains(words), "{failing:?}");
}

#[test]
fn a_sound_run_passes() {
    assert_eq!(failing(|_| {}), [""; 0]);
}

#[test]
fn the_set_up_is_judged() {
    assert_only(
        &failing(|f| f.xdp_mode = Some("generic".to_owned())),
        "native",
    );
    assert_only(&failing(|f| f.vip_mac = None), "ARP");
    let fault = || ("rs1".to_owned(), "arp_ignore is 0".to_owned());
    assert_only(&failing(|f| f.setup_errors.extend([fault()])), "set up");
}

#[test]
fn one_request_without_answer_fails() {
    let unanswered = failing(|f| {
        let source = &mut f.http.sources[0];
        source.answers.insert("rs1".to_owned(), 19);
        source.errors.insert("timed out".to_owned(), 1);
    });
    assert!(
        unanswered.iter().any(|what| what.contains("answered")),
        "{unanswered:?}"
    );
}

#[test]
fn a_client_that_changes_servers_fails() {
    let strayed = failing(|f| {
        let one = |name: &str, count| (name.to_owned(), count);
        f.http.sources[0].answers = BTreeMap::from([one("rs1", 19), one("rs2", 1)]);
    });
    assert!(
        strayed.iter().any(|what| what.contains("stays")),
        "{strayed:?}"
    );
}

#[test]
fn websockets_are_judged_one_by_one() {
    // The last ten began on the server that lives.
    assert_only(&failing(|f| f.websockets[19].broken = 1), "never break");
    assert_only(&failing(|f| f.websockets[0].wrong = 1), "every message");
    let lost = failing(|f| f.websockets[0].echoed -= 1);
    assert_only(&lost, "every message");
    let astray = failing(|f| f.websockets[0].servers = vec!["rs1".to_owned(); 2]);
    assert!(
        astray.iter().any(|what| what.contains("land on rs2")),
        "{astray:?}"
    );
}

#[test]
fn the_second_director_is_judged() {
    assert_only(&failing(|f| f.moves[0].settled = false), "one is master");
    assert_only(&failing(|f| f.moves[0].dark = 0.11), "dark");
}

#[test]
fn late_is_as_bad_as_never() {
    assert_only(
        &failing(|f| f.kill.listed_down = Some(7.1)),
        "leaves the tables",
    );
    assert_only(&failing(|f| f.kill.listed_down = None), "leaves the tables");
    assert_only(
        &failing(|f| f.kill.moved.sources[3].outage = Some(7.1)),
        "requests of rs1",
    );
    assert_only(
        &failing(|f| f.kill.moved.sources[3].outage = None),
        "requests of rs1",
    );
    assert_only(
        &failing(|f| f.websockets[0].outages = vec![7.1]),
        "open again",
    );
    assert_only(&failing(|f| f.comeback.listed_up = Some(6.1)), "is back");
    assert_only(&failing(|f| f.comeback.listed_up = None), "is back");
}

#[test]
fn clients_of_the_server_that_lives_are_judged() {
    let disturbed = failing(|f| f.kill.bystanders.sources[0].connections += 1);
    assert!(
        disturbed.iter().any(|what| what.contains("notice nothing")),
        "{disturbed:?}"
    );
    let back = failing(|f| f.comeback.moved_again = run(&["rs1"; 25], 1));
    assert!(
        back.iter().any(|what| what.contains("stay there")),
        "{back:?}"
    );
    let lopsided = failing(|f| f.comeback.newcomers = run(&["rs2"; 10], 2));
    assert!(
        lopsided.iter().any(|what| what.contains("newcomers")),
        "{lopsided:?}"
    );
}

#[test]
fn one_reply_through_the_director_fails() {
    assert_only(&failing(|f| f.frames.replies_to_director = 1), "directly");
    // A counter that sees no replies anywhere proves nothing.
    assert_only(&failing(|f| f.frames.replies_to_client = 0), "directly");
}

#[test]
fn a_count_that_is_off_by_one_fails() {
    let service = failing(|f| f.scrape.connections = Some(3071.0));
    assert_only(&service, "connections of the service");
    assert_only(&failing(|f| f.scrape.packets = Some(8999.0)), "packets");
    assert_only(&failing(|f| f.scrape.packets = None), "packets");
    let server = failing(|f| f.scrape.server_connections.retain(|name, _| name != "rs2"));
    assert_only(&server, "connections of rs2");
}

#[test]
fn what_the_agent_leaves_behind_is_judged() {
    let leave = |f: &mut Findings| {
        if let Some(stop) = &mut f.stop {
            stop.left.push("a pin".to_owned());
        }
    };
    assert_only(&failing(leave), "SIGTERM");
    // With --keep it was not asked to stop.
    assert_eq!(failing(|f| f.stop = None), [""; 0]);
}
