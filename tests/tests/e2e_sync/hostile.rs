//! Ten thousand datagrams a second that no director sent: what they say changes nothing, and the
//! directors go on telling each other what happens.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use xdp_lb::config::model::{Endpoint, Protocol};
use xdp_lb::sync::key::{Keys, Secret};
use xdp_lb::sync::record::{Name, Phase, Record, ServiceName, Subject};
use xdp_lb::sync::wire::records::Told;
use xdp_lb::sync::wire::{self, Header, Hello, Message, Part, body};
use xdp_lb_tests::cluster::{PORT, VIP, server_address};
use xdp_lb_tests::director::{Director, List};
use xdp_lb_tests::lan::Host;
use xdp_lb_tests::needs;
use xdp_lb_tests::stream::be_prompt;
use xdp_lb_tests::traffic::{Call, Heart, beat_on};
use xdp_lb_tests::wait;

use crate::site::{By, LIMIT, SERVICE, Site, address, sync};
use crate::wire::{Datagram, Tap, raw};

/// Datagrams a second, to both directors together, and for how long.
const RATE: u32 = 10_000;
const LASTS: Duration = Duration::from_secs(6);
/// So many are sent at once.
const BATCH: usize = 10;
/// Lines of the journal a second.
const LINES: f64 = 10.0;
/// Connections that stand meanwhile.
const CALLS: usize = 30;

/// Where the hostile host is.
const ENEMY: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 66);

#[test]
fn a_flood_of_hostile_datagrams_changes_nothing_and_stops_nothing() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sh");
    let enemy = site.lan.add_host("enemy", [&*format!("{ENEMY}/24")]);
    let enemy = enemy.unwrap();
    let recorded = live(&mut site);
    let calls = stand(&site);
    let hostile = hostile(&recorded);
    let sent_before = [0, 1].map(|number| site_sent(&site, number));
    let before: Vec<_> = site.directors.iter().map(Look::at).collect();

    let start = Instant::now();
    let sent = flood(&enemy, &hostile);
    let lasted = start.elapsed().as_secs_f64();

    let rate = f64::from(sent) / lasted;
    say(&format!("{sent} datagrams, {rate:.0} a second"));
    // The sender works as hard as those who refuse, and a busy machine slows it down.
    assert!(rate > f64::from(RATE) * 0.5, "only {rate:.0} a second");
    // Whoever is behind works it off.
    let after: Vec<_> = site.directors.iter().map(Look::at).collect();
    let mut refused = 0.0;
    for number in 0..2 {
        let (was, is) = (&before[number], &after[number]);
        let mut changed = Vec::new();
        differences("", &was.state, &is.state, &mut changed);
        assert!(changed.is_empty(), "{changed:#?}");
        let lines = is.log.lines().count() - was.log.lines().count();
        let lines = u32::try_from(lines).unwrap();
        assert!(f64::from(lines) <= LINES * lasted, "{}", is.log);
        let counted = counted(was, is);
        say(&format!(
            "lb{}: refused {counted:?}, {lines} lines",
            number + 1
        ));
        for reason in ["foreign", "version", "digest", "stranger", "replay"] {
            let count = counted.get(reason).copied().unwrap_or(0.0);
            assert!(count > 500.0, "{reason}: {counted:?}");
        }
        // What a peer said before it was restarted.
        let old = ["session", "elsewhere"].map(|reason| counted.get(reason).copied());
        assert!(old.iter().flatten().sum::<f64>() > 0.0, "{counted:?}");
        refused += counted.values().sum::<f64>();
        // Nothing was taken that the other did not send.
        let taken = is.received - was.received;
        let genuine = site_sent(&site, 1 - number) - sent_before[1 - number];
        assert!(taken <= genuine, "{taken} of {genuine}");
    }
    assert!(refused > f64::from(sent) / 2.0, "{refused} of {sent}");
    drop(calls);
    goes_on(&site);
}

/// Two directors in sync, one of which was restarted; what they said to each other.
fn live(site: &mut Site) -> Vec<Datagram> {
    // Nothing that stands ends by itself meanwhile.
    let lines = "persistence_timeout 600";
    site.configure(0, By::Unicast, lines);
    site.configure(1, By::Unicast, lines);
    let tap = Tap::start(&site.hosts[0].netns);
    site.start(0);
    site.wait_master(0);
    site.start(1);
    site.wait_synced();
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(10, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(1, 10);
    site.directors[1].end_by(Signal::SIGQUIT).unwrap();
    site.start(1);
    site.wait_synced();
    drop(hearts);
    site.wait_known(0, 0);
    site.wait_known(1, 0);
    let heard = tap.heard();
    assert!(heard.len() > 20, "{}", heard.len());
    heard
}

/// Connections of which nothing is heard any more, and a server that was drained.
fn stand(site: &Site) -> Vec<Call> {
    let client = &site.client.netns;
    let calls = (0..CALLS).map(|_| Call::open(client, SERVICE).unwrap());
    let calls: Vec<_> = calls.collect();
    let (service, server) = (SERVICE.to_string(), format!("{}:{PORT}", server_address(3)));
    site.directors[0]
        .ask(&["drain", &service, &server])
        .unwrap();
    for number in 0..2 {
        site.wait_known(number, CALLS as u64);
        let is_drained = |list: &List| {
            let drained = list.real_server(server_address(3));
            drained.is_ok_and(|server| server.weight == 0)
        };
        site.directors[number]
            .wait_list("the server is drained", is_drained)
            .unwrap();
        // It has compared what there is, and told what there is to tell.
        let director = &site.directors[number];
        wait::until("the directors hold the same", LIMIT, || {
            let shown = sync(director);
            let services = shown["peers"][0]["services"].as_array();
            let ours = services.into_iter().flatten().find(|of| {
                let name = of["service"].as_str().unwrap_or_default();
                name.contains(&service)
            });
            let is = ours.is_some_and(|of| {
                of["equal"] == true && of["entries"] == of["peer_entries"] && of["entries"] != 0
            });
            Ok(is.then_some(()))
        })
        .unwrap();
    }
    calls
}

/// A new connection arrives at the peer, and both are up to date.
fn goes_on(site: &Site) {
    site.wait_synced();
    for number in 0..2 {
        site.wait_known(number, 0);
    }
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(5, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(1, 5);
}

/// A director, as far as nobody may change it.
struct Look {
    /// Whatever must be the same.
    state: Value,
    /// Datagrams refused, by reason.
    refused: BTreeMap<String, f64>,
    /// Datagrams taken.
    received: u64,
    log: String,
}

impl Look {
    fn at(director: &Director) -> Self {
        let json = |words: &[&str]| -> Value {
            serde_json::from_str(&director.ask(words).unwrap()).unwrap()
        };
        let mut list = json(&["list", "--json"]);
        let mut vrrp = json(&["vrrp", "--json"]);
        let mut sync = json(&["sync", "--json"])["sync"].clone();
        let received = sync["datagrams"]["received"].as_u64().unwrap();
        for passing in ["since_s", "age_s", "state_age_ms"] {
            strip(&mut list, passing);
        }
        let instances = vrrp["instances"].as_array().unwrap();
        let states = instances.iter().map(|instance| {
            let of = |field: &str| instance[field].clone();
            ["name", "state", "master", "priority", "transitions"].map(of)
        });
        vrrp = serde_json::json!(states.collect::<Vec<_>>());
        for passing in [
            "silent_ms",
            "behind",
            "lag",
            "scan_us",
            "scan_every_ms",
            "parts",
            "datagrams",
            "bytes",
            "refused",
        ] {
            strip(&mut sync, passing);
        }
        let scrape = director.scrape().unwrap();
        let refused = scrape.all("xdp_lb_sync_refused_total");
        Self {
            state: serde_json::json!({ "list": list, "vrrp": vrrp, "sync": sync }),
            refused: refused
                .map(|sample| (sample.labels["reason"].clone(), sample.value))
                .collect(),
            received,
            log: director.log(),
        }
    }
}

/// Takes a field out, wherever it stands.
fn strip(value: &mut Value, field: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(field);
            fields.values_mut().for_each(|value| strip(value, field));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| strip(value, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What differs, by its place.
fn differences(place: &str, was: &Value, is: &Value, all: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) if was.keys().eq(is.keys()) => {
            for (field, was) in was {
                differences(&format!("{place}/{field}"), was, &is[field], all);
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            for (number, (was, is)) in was.iter().zip(is).enumerate() {
                differences(&format!("{place}/{number}"), was, is, all);
            }
        }
        (was, is) if was == is => {}
        (was, is) => all.push(format!("{place}: {was} → {is}")),
    }
}

fn counted(was: &Look, is: &Look) -> BTreeMap<String, f64> {
    let more = is.refused.iter().map(|(reason, count)| {
        let before = was.refused.get(reason).copied().unwrap_or(0.0);
        (reason.clone(), count - before)
    });
    more.filter(|(_, count)| *count > 0.0).collect()
}

fn site_sent(site: &Site, director: usize) -> u64 {
    let shown = sync(&site.directors[director]);
    shown["datagrams"]["sent"].as_u64().unwrap()
}

#[expect(clippy::print_stderr, reason = "figures for whoever looks at them")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// Sends them from a host, over and over, evenly; returns how many.
fn flood(host: &Host, hostile: &[Datagram]) -> u32 {
    let packets: Vec<_> = hostile
        .iter()
        .map(|datagram| {
            let to = SocketAddrV4::new(*datagram.to.ip(), 0);
            (datagram.packet(), to.into())
        })
        .collect();
    let body = move || {
        be_prompt();
        let socket = raw();
        let (start, mut sent) = (Instant::now(), 0_u32);
        let mut all = packets.iter().cycle();
        while start.elapsed() < LASTS {
            for (packet, to) in all.by_ref().take(BATCH) {
                // A full queue of the device is no reason to stop.
                sent += u32::from(socket.send_to(packet, to).is_ok());
            }
            let due = start + Duration::from_secs(1) * sent / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        sent
    };
    host.netns.run(body).unwrap()
}

/// Numbers that look random and are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll().to_le_bytes()[3]).collect()
    }
}

/// All kinds, in turn.
fn hostile(recorded: &[Datagram]) -> Vec<Datagram> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let wrong = Keys::of(&Secret::new(b"fedcba9876543210".to_vec()).unwrap()).unwrap();
    // Everything that was said, newest first and last.
    let mut replayed = recorded.iter().rev().chain(recorded).cycle();
    let mut all = Vec::new();
    for number in 0..4_000_u64 {
        let receiver = usize::from(number.is_multiple_of(2));
        let (from, to) = (address(1 - receiver), address(receiver));
        let length = dice.below(1400);
        let random = dice.octets(length);
        let mut marked = dice.octets(24 + length);
        marked[..6].copy_from_slice(&[b'X', b'L', b'B', b'S', wire::VERSION, 2]);
        all.push(Datagram::new(from, to, random));
        all.push(Datagram::new(from, to, marked.clone()));
        all.push(Datagram::new(ENEMY, to, marked));
        let genuine = replayed.next().unwrap().clone();
        all.push(forged(&wrong, &genuine, number));
        let mut cut = genuine.clone();
        cut.payload.truncate(dice.below(genuine.payload.len()));
        all.push(cut);
        let mut other = genuine.clone();
        other.payload[4] ^= 1 << dice.below(8);
        all.push(other);
        all.extend([genuine.clone(), genuine]);
    }
    all
}

/// What looks as a genuine one, goes on where that ended, and is signed with another key.
fn forged(keys: &Keys, like: &Datagram, number: u64) -> Datagram {
    let word = |at: usize| u64::from_be_bytes(like.payload[at..at + 8].try_into().unwrap());
    let header = Header {
        cluster: like.payload[6],
        session: word(8),
        epoch: word(16),
        nonce: 1_000_000 + number,
        to: 0,
    };
    let message = if number.is_multiple_of(2) {
        Message::Hello(Hello {
            next: 1 << 40,
            ..Hello::default()
        })
    } else {
        let seq = 1_000 + number;
        let part = Part::Records(vec![lie(number)]);
        Message::Stream { seq, part }
    };
    let (kind, body) = body::write(&message);
    let payload = wire::seal(keys, &header, kind, &body);
    Datagram {
        payload,
        ..like.clone()
    }
}

/// A connection that there is not.
fn lie(number: u64) -> Told {
    let called = Endpoint {
        vip: VIP.into(),
        port: PORT,
        protocol: Protocol::Tcp,
    };
    let port = 1024 + u16::try_from(number % 60_000).unwrap();
    Told {
        record: Record {
            name: Name {
                service: ServiceName::Endpoint(called),
                subject: Subject::Flow {
                    client: SocketAddr::from((ENEMY, port)),
                    called,
                },
            },
            server: SocketAddr::from((server_address(1), PORT)),
            phase: Phase::Established,
            remaining: Duration::from_mins(15),
        },
        is_owned: true,
    }
}
