//! Three directors, xdp-lb and keepalived mixed, and whatever may happen to them, at random. After each
//! event those that reach each other have exactly one master, and none of them is better.
//!
//! `XDP_LB_MIXED_SEED=N` repeats a run; what is random in it is the events, not their timing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use xdp_lb_tests::wait;

use crate::site::{Kind, LIMIT, Site, VIP, address, instance};

/// Events of a run.
const EVENTS: usize = 32;

/// So long nothing may change before all is settled: ten adverts.
const CALM: Duration = Duration::from_secs(2);

/// Who answers a request for the VIP has this long for it.
const ANSWERS: Duration = Duration::from_millis(100);

/// Few values, so that there are ties.
const PRIORITIES: [u8; 5] = [50, 100, 101, 150, 254];

#[test]
fn two_xdp_lb_and_a_keepalived_settle_on_one_master_after_every_event() {
    play("ma", [Kind::XdpLb, Kind::Keepalived, Kind::XdpLb]);
}

#[test]
fn an_xdp_lb_and_two_keepalived_settle_on_one_master_after_every_event() {
    play("mb", [Kind::Keepalived, Kind::XdpLb, Kind::Keepalived]);
}

/// What may happen to a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// SIGTERM, and nothing after it.
    Stop,
    /// It runs again after a stop.
    Start,
    /// SIGTERM and a start at once.
    Restart,
    /// SIGKILL and a start so many milliseconds later: before or after others take over.
    Crash(u64),
    /// Another priority, by a reload.
    Priority(u8),
    /// The cable is pulled, which both ends see.
    Cut,
    /// It is plugged in again.
    Repair,
    /// Its switch port forwards nothing, which nobody sees: it is alone.
    Partition,
    /// The port forwards again.
    Heal,
}

/// How a director is.
#[derive(Clone, Copy, Debug)]
struct State {
    priority: u8,
    runs: bool,
    has_cable: bool,
    is_alone: bool,
}

struct Game {
    site: Site,
    random: Random,
    states: [State; 3],
    journal: String,
}

fn play(tag: &str, kinds: [Kind; 3]) {
    let Some(site) = Site::create(tag, &kinds) else {
        return;
    };
    let (seed, mut game) = Game::begin(site);
    let begun = Instant::now();
    for number in 0..=EVENTS {
        if number > 0 {
            game.step(number);
        }
        let settled = game.settle();
        if let Err(late) = settled {
            let (journal, logs) = (&game.journal, game.site.logs());
            panic!(
                "XDP_LB_MIXED_SEED={seed}, after {:?}: {late:#}\n{journal}{logs}",
                begun.elapsed()
            );
        }
    }
    say(&format!(
        "{kinds:?}: {EVENTS} events in {:.0} s, XDP_LB_MIXED_SEED={seed}",
        begun.elapsed().as_secs_f64()
    ));
}

impl Game {
    fn begin(site: Site) -> (u64, Self) {
        let given = std::env::var("XDP_LB_MIXED_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::from(now.subsec_nanos())
            },
            |text| text.parse().expect("a number"),
        );
        say(&format!("XDP_LB_MIXED_SEED={seed}"));
        let state = |priority| State {
            priority,
            runs: true,
            has_cable: true,
            is_alone: false,
        };
        let mut game = Self {
            site,
            random: Random(seed),
            states: [state(150), state(100), state(50)],
            journal: String::new(),
        };
        for director in 0..3 {
            game.write(director);
            game.site.start(director);
        }
        (seed, game)
    }

    fn write(&self, director: usize) {
        let priority = self.states[director].priority;
        let lines = "version 3\nadvert_int 0.2";
        let text = instance("VI_1", 51, priority, VIP, lines);
        self.site.configure(director, &text);
    }

    /// Picks an event that can happen, and brings it about.
    fn step(&mut self, number: usize) {
        let director = self.random.index(3);
        let state = self.states[director];
        let mut can = Vec::new();
        if state.runs {
            let crash = Event::Crash(self.random.below(1_500));
            let priority = Event::Priority(PRIORITIES[self.random.index(PRIORITIES.len())]);
            can.extend([Event::Stop, Event::Restart, crash, priority]);
        } else {
            // The others should not be the minority.
            can.extend([Event::Start; 3]);
        }
        match (state.has_cable, state.is_alone) {
            (true, false) => can.extend([Event::Cut, Event::Partition]),
            (false, _) => can.extend([Event::Repair; 2]),
            (true, true) => can.extend([Event::Heal; 2]),
        }
        let event = can[self.random.index(can.len())];
        writeln!(self.journal, "{number}: dir{director} {event:?}").unwrap();
        self.bring_about(director, event);
    }

    fn bring_about(&mut self, director: usize, event: Event) {
        let name = self.site.hosts[director].name.clone();
        let state = &mut self.states[director];
        let lan = &self.site.lan;
        match event {
            Event::Stop => {
                state.runs = false;
                self.site.stop(director);
            }
            Event::Start => {
                state.runs = true;
                self.site.start(director);
            }
            Event::Restart => {
                self.site.stop(director);
                self.site.start(director);
            }
            Event::Crash(pause) => {
                self.site.peers[director].kill().unwrap();
                std::thread::sleep(Duration::from_millis(pause));
                self.site.start(director);
            }
            Event::Priority(priority) => {
                state.priority = priority;
                self.write(director);
                self.site.peers[director].reload().unwrap();
            }
            Event::Cut | Event::Repair => {
                state.has_cable = event == Event::Repair;
                lan.set_cable(&name, state.has_cable).unwrap();
            }
            Event::Partition | Event::Heal => {
                state.is_alone = event == Event::Partition;
                lan.set_forwarding(&name, !state.is_alone).unwrap();
            }
        }
    }

    /// Those that can be master and reach each other.
    fn parts(&self) -> Vec<Vec<usize>> {
        let up = |n: &usize| self.states[*n].runs && self.states[*n].has_cable;
        let is_alone = |n: &usize| self.states[*n].is_alone;
        let together = (0..3).filter(|n| up(n) && !is_alone(n)).collect();
        let alone = (0..3)
            .filter(|n| up(n) && is_alone(n))
            .map(|alone| vec![alone]);
        let parts = std::iter::once(together).chain(alone);
        parts.filter(|part: &Vec<usize>| !part.is_empty()).collect()
    }

    /// Is there one of these in each part, and none better in it? Of two that are as good, either may be:
    /// a backup leaves a master of its own priority alone.
    fn are_masters(&self, these: &[usize]) -> bool {
        let parts = self.parts();
        let priority = |n: usize| self.states[n].priority;
        let is_led = |part: &Vec<usize>| {
            let best = part.iter().map(|n| priority(*n)).max();
            let mut leaders = part.iter().filter(|n| these.contains(n));
            let leader = leaders.next().map(|n| priority(*n));
            leader == best && leaders.next().is_none()
        };
        these.len() == parts.len() && parts.iter().all(is_led)
    }

    /// Waits until the masters that there should be, and only they, have the VIP, advertise and answer.
    fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        let mut last = String::new();
        let waited = wait::until_every(ANSWERS, "one master in each part", LIMIT, || {
            let owners: Vec<_> = (0..3).filter(|n| self.site.has(*n, VIP)).collect();
            let since = Instant::now().checked_sub(CALM).unwrap_or(begun);
            let says = |n: &usize| !self.site.heard(address(*n), since).is_empty();
            let says: Vec<_> = (0..3).filter(says).collect();
            let parts = self.parts();
            last = format!("parts {parts:?}, have the VIP {owners:?}, advertise {says:?}");
            if since < begun || owners != says || !self.are_masters(&owners) {
                return Ok(None);
            }
            let answering = self.who_answers()?;
            let main = owners.iter().filter(|n| !self.states[**n].is_alone);
            let main: BTreeSet<_> = main.map(|n| self.site.hosts[*n].mac.clone()).collect();
            write!(last, ", answer {answering:?}, should {main:?}")?;
            Ok((answering == main).then_some(()))
        });
        waited.map_err(|late| late.context(last))?;
        Ok(())
    }

    /// MACs that answer the client's request for the VIP.
    fn who_answers(&self) -> Result<BTreeSet<String>> {
        let client = &self.site.client.netns;
        let ask = || -> Result<BTreeSet<String>> {
            // ETH_P_ARP in network byte order, on every interface; the link's header is cut off.
            let arp = Protocol::from(i32::from(0x0806_u16.to_be()));
            let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(arp))?;
            socket.set_read_timeout(Some(ANSWERS / 4))?;
            // Whoever is in the neighbour table is not asked again.
            client.ip("neighbour flush dev eth0")?;
            UdpSocket::bind("0.0.0.0:0")?.send_to(&[0], (VIP, 9))?;
            let (mut found, end) = (BTreeSet::new(), Instant::now() + ANSWERS);
            while Instant::now() < end {
                let mut packet = [0; 64];
                match socket.read(&mut packet) {
                    Ok(28..) => found.extend(answer(&packet)),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(found)
        };
        client.run(ask)?
    }
}

/// The MAC in an ARP reply for the VIP: operation 2, sender's MAC, sender's address.
fn answer(packet: &[u8]) -> Option<String> {
    let sender: [u8; 4] = packet.get(14..18)?.try_into().ok()?;
    let is_reply = packet.get(6..8)? == [0, 2];
    let mac: [u8; 6] = packet.get(8..14)?.try_into().ok()?;
    (is_reply && Ipv4Addr::from(sender) == VIP).then(|| xdp_lb_tests::packet::mac(mac))
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the test harness shows it of tests that fail"
)]
fn say(line: &str) {
    eprintln!("{line}");
}
