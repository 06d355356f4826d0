//! The connection table between CPUs that interrupt each other anywhere.
//!
//! Each CPU is a thread, and one of them runs at a time: before every access to the table a schedule
//! says whether it goes on or another one does. So all that can happen between two accesses can be
//! tried out, and what fails fails again.
//!
//! Accesses are in the order of the code here. Real CPUs may also reorder plain reads and writes; every
//! change of a way is a locked instruction, which they do not reorder.
#![expect(clippy::unwrap_used, reason = "a test whose tools break has failed")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use xdp_lb_common::conn::table::{Claim, Inserted, Place, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::hash::key;
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::tick::Tick;

const NOW: Tick = Tick(1000);
const SOON: Tick = Tick(1100);

/// Who runs, and when somebody else does.
struct Turns {
    state: Mutex<Turn>,
    changed: Condvar,
}

struct Turn {
    running: usize,
    finished: Vec<bool>,
    /// Accesses so far.
    accesses: usize,
    /// Before which accesses another CPU takes over, in order.
    switches: Vec<usize>,
}

impl Turn {
    fn pass_on(&mut self) {
        let count = self.finished.len();
        let others = (1..=count).map(|step| (self.running + step) % count);
        if let Some(next) = others.into_iter().find(|cpu| !self.finished[*cpu]) {
            self.running = next;
        }
    }
}

thread_local! {
    static ME: RefCell<Option<(usize, Arc<Turns>)>> = const { RefCell::new(None) };
}

impl Turns {
    fn new(cpus: usize, switches: &[usize]) -> Arc<Self> {
        let turn = Turn {
            running: 0,
            finished: vec![false; cpus],
            accesses: 0,
            switches: switches.iter().rev().copied().collect(),
        };
        Arc::new(Self {
            state: Mutex::new(turn),
            changed: Condvar::new(),
        })
    }

    /// Before each access: waits while it is another CPU's turn.
    fn access(&self, me: usize) {
        let mut turn = self.state.lock().unwrap();
        while turn.running != me {
            turn = self.changed.wait(turn).unwrap();
        }
        if turn.switches.last() == Some(&turn.accesses) {
            turn.switches.pop();
            turn.pass_on();
            self.changed.notify_all();
            while turn.running != me {
                turn = self.changed.wait(turn).unwrap();
            }
        }
        turn.accesses += 1;
    }

    fn finish(&self, me: usize) {
        let mut turn = self.state.lock().unwrap();
        while turn.running != me {
            turn = self.changed.wait(turn).unwrap();
        }
        turn.finished[me] = true;
        turn.pass_on();
        self.changed.notify_all();
    }
}

/// Connections by backend.
type Counts = [AtomicU64; 10];

/// A place in ordinary memory, and where its connections are counted.
#[derive(Default)]
struct Memory([[AtomicU64; 2]; WAYS], Arc<Counts>);

impl Memory {
    fn word(&self, way: usize, word: usize) -> &AtomicU64 {
        ME.with_borrow(|me| {
            if let Some((me, turns)) = me {
                turns.access(*me);
            }
        });
        &self.0[way][word]
    }

    fn set(&self, way: usize, hash: u64, state: State) {
        self.0[way][0].store(hash, Ordering::SeqCst);
        self.0[way][1].store(state.0, Ordering::SeqCst);
    }
}

impl Place for &Memory {
    fn key(&self, way: usize) -> u64 {
        self.word(way, 0).load(Ordering::SeqCst)
    }

    fn state(&self, way: usize) -> State {
        State(self.word(way, 1).load(Ordering::SeqCst))
    }

    fn swap_key(&self, way: usize, old: u64, new: u64) -> bool {
        let order = Ordering::SeqCst;
        let word = self.word(way, 0);
        word.compare_exchange(old, new, order, order).is_ok()
    }

    fn swap_state(&self, way: usize, old: State, new: State) -> bool {
        let order = Ordering::SeqCst;
        let word = self.word(way, 1);
        word.compare_exchange(old.0, new.0, order, order).is_ok()
    }

    fn moved(&self, old: State, new: State) {
        for (state, sign) in [(old, -1_i64), (new, 1)] {
            // The backend of a way that nobody used is none that counts.
            let by = sign.wrapping_mul(i64::try_from(state.counts()).unwrap());
            let count = &self.1[state.backend() as usize % 10];
            count.fetch_add(by.cast_unsigned(), Ordering::SeqCst);
        }
    }
}

/// Two places that all flows here share.
struct Table {
    places: [Memory; 2],
    /// Both are the first one.
    is_one: bool,
}

impl Table {
    /// Two places that count together.
    fn counting(is_one: bool) -> Self {
        let counts = Arc::<Counts>::default();
        let places = [Arc::clone(&counts), counts].map(|counts| Memory(Default::default(), counts));
        Self { places, is_one }
    }

    /// What was counted for each backend, and what there is; nobody is at work. Expired ways count
    /// until somebody takes them.
    fn counted(&self) -> (Vec<u64>, Vec<u64>) {
        let counted = self.places[0].1.iter().map(|n| n.load(Ordering::SeqCst));
        let ways = self.places.iter().flat_map(|place| &place.0);
        let mut there = vec![0; 10];
        for state in ways.map(|way| State(way[1].load(Ordering::SeqCst))) {
            there[state.backend() as usize] += state.counts();
        }
        (counted.collect(), there)
    }

    /// Counts anew what stands in the places now.
    fn recount(&self) {
        for (count, there) in self.places[0].1.iter().zip(self.counted().1) {
            count.store(there, Ordering::SeqCst);
        }
    }

    fn places(&self) -> Places<&Memory> {
        let second_at = u32::from(!self.is_one);
        Places {
            first: &self.places[0],
            second: &self.places[usize::from(!self.is_one)],
            first_at: 0,
            second_at,
        }
    }

    /// Fills every way with the same kind of entry, of flows that nobody asks for.
    fn filled(kind: Kind) -> Self {
        let table = Self::counting(false);
        for (number, place) in (0_u64..).zip(&table.places) {
            for way in 0..WAYS {
                let hash = key(0x00ab_0000_0000 | number << 8 | way as u64);
                place.set(way, hash, State::new(hash, kind, 9, 0, SOON));
            }
        }
        table
    }

    /// Live ways of a flow.
    fn ways(&self, hash: u64) -> Vec<State> {
        let ways = self.places.iter().flat_map(|place| &place.0);
        let of_flow = ways.filter(|way| way[0].load(Ordering::SeqCst) == hash);
        let states = of_flow.map(|way| State(way[1].load(Ordering::SeqCst)));
        states.filter(|state| state.is_free(NOW) == 0).collect()
    }

    fn count(&self, kind: Kind) -> usize {
        let ways = self.places.iter().flat_map(|place| &place.0);
        let states = ways.map(|way| State(way[1].load(Ordering::SeqCst)));
        states.filter(|state| state.kind() == kind).count()
    }
}

/// A packet: of which flow, and where the scheduler would send it.
#[derive(Clone, Copy)]
struct Packet {
    hash: u64,
    choice: u32,
    /// What its connection is after it.
    kind: Kind,
}

/// What the packet path does with a packet: the backend it is sent to.
fn handle(table: &Table, packet: Packet) -> u32 {
    let places = table.places();
    let Packet { hash, choice, kind } = packet;
    let found = places.find(hash, NOW);
    if found.exists() {
        places.update(&found, found.state.with(kind, SOON));
        return found.state.backend();
    }
    let state = State::new(hash, kind, choice, 0, SOON);
    let claim = places
        .claim(hash, state, NOW)
        .or_else(|| places.claim(hash, state, NOW));
    // As the words that pass between the functions of the program.
    let Some(claim) = Claim::unpack(Claim::pack(claim)) else {
        return choice;
    };
    let inserted = places.publish(&claim, hash, state, NOW).pack();
    match Inserted::unpack(inserted) {
        Inserted::Other(other) => other.backend(),
        Inserted::Mine { .. } | Inserted::Lost => choice,
    }
}

/// Runs one packet per CPU by a schedule; where each was sent, and how many accesses there were.
fn run(table: &Table, packets: &[Packet], switches: &[usize]) -> (Vec<u32>, usize) {
    let turns = Turns::new(packets.len(), switches);
    let sent = std::thread::scope(|scope| {
        let cpus: Vec<_> = (0..)
            .zip(packets)
            .map(|(me, packet)| {
                let turns = Arc::clone(&turns);
                scope.spawn(move || {
                    ME.set(Some((me, Arc::clone(&turns))));
                    let sent = handle(table, *packet);
                    turns.finish(me);
                    sent
                })
            })
            .collect();
        cpus.into_iter().map(|cpu| cpu.join().unwrap()).collect()
    });
    let accesses = turns.state.lock().unwrap().accesses;
    (sent, accesses)
}

/// A number of accesses that no two packets need together.
const LONGEST: usize = 260;

/// Every schedule of one and of two switches, and many of more.
fn schedules() -> impl Iterator<Item = Vec<usize>> {
    let once = (0..LONGEST).map(|at| vec![at]);
    let twice = (0..LONGEST / 2).flat_map(|a| (a + 1..LONGEST / 2).map(move |b| vec![a, b]));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let often = (0..6_000).map(move |_| {
        let mut roll = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % (LONGEST as u64 / 2)).unwrap()
        };
        let mut switches: Vec<_> = (0..3 + roll() % 6).map(|_| roll()).collect();
        switches.sort_unstable();
        switches.dedup();
        switches
    });
    once.chain(twice).chain(often)
}

/// Two flows that lie in the same places. Their check bits differ.
const H: u64 = key(0x1234_5678_0100_0000);
const G: u64 = key(0x1234_5678_0200_0000);

const fn syn(hash: u64, choice: u32) -> Packet {
    let kind = Kind::Syn;
    Packet { hash, choice, kind }
}

/// Every packet of a flow goes to one backend, which its one way names; nothing is left claimed.
fn inserted_once(table: &Table, hash: u64, sent: &[u32]) -> Result<(), String> {
    let ways = table.ways(hash);
    let agreed = sent.iter().all(|backend| Some(backend) == sent.first());
    let named = ways.len() == 1 && Some(&ways[0].backend()) == sent.first();
    if agreed && named && table.count(Kind::Claimed) == 0 {
        return Ok(());
    }
    Err(format!("sent to {sent:?}, ways {ways:?}"))
}

#[test]
fn one_flow_inserted_by_two_cpus_has_one_backend_and_one_way() {
    for is_one in [false, true] {
        for switches in schedules() {
            let table = Table::counting(is_one);
            let (sent, accesses) = run(&table, &[syn(H, 1), syn(H, 2)], &switches);
            assert!(accesses < LONGEST, "{accesses} accesses");
            inserted_once(&table, H, &sent).unwrap_or_else(|why| panic!("{switches:?}: {why}"));
        }
    }
}

/// Ways that are free, but still bear the key of the flow that is inserted, and that of another.
#[test]
fn what_expired_flows_left_behind_misleads_nobody() {
    for switches in schedules() {
        let table = Table::counting(false);
        let expired = |hash, backend| State::new(hash, Kind::Syn, backend, 0, Tick(900));
        table.places[0].set(0, H, expired(H, 7));
        table.places[0].set(1, G, expired(G, 8));
        let (sent, _) = run(&table, &[syn(G, 2), syn(H, 1)], &switches);
        assert_eq!(sent, [2, 1], "{switches:?}");
        for (hash, backend) in [(G, 2), (H, 1)] {
            inserted_once(&table, hash, &[backend])
                .unwrap_or_else(|why| panic!("{switches:?}: {why}"));
        }
    }
}

/// Both places are full of unconfirmed flows: one CPU takes the way of the flow that the other asks for.
#[test]
fn a_flow_that_is_evicted_meanwhile_is_never_sent_by_its_successors_entry() {
    for switches in schedules() {
        let table = Table::filled(Kind::Syn);
        // The first to go.
        table.places[0].set(3, H, State::new(H, Kind::Syn, 1, 0, NOW));
        let (sent, _) = run(&table, &[syn(H, 1), syn(G, 2)], &switches);
        assert_eq!(sent, [1, 2], "{switches:?}");
        for (hash, backend) in [(H, 1), (G, 2)] {
            let ways = table.ways(hash);
            let right = ways.iter().all(|way| way.backend() == backend);
            assert!(ways.len() <= 1 && right, "{switches:?}: {ways:?}");
        }
        let (left, claimed) = (table.ways(G).len(), table.count(Kind::Claimed));
        assert_eq!((left, claimed), (1, 0), "{switches:?}");
    }
}

#[test]
fn established_flows_are_pushed_out_by_nobody() {
    for switches in schedules().step_by(7) {
        let table = Table::filled(Kind::Established);
        let (sent, _) = run(&table, &[syn(H, 1), syn(G, 2)], &switches);
        assert_eq!(
            (sent, table.count(Kind::Established)),
            (vec![1, 2], 2 * WAYS)
        );
        // With one way that may go, one of the two gets it.
        table.places[1].set(5, 0, State(0));
        let (_, _) = run(&table, &[syn(H, 1), syn(G, 2)], &switches);
        assert_eq!(table.count(Kind::Established), 2 * WAYS - 1, "{switches:?}");
        assert_eq!(table.ways(H).len() + table.ways(G).len(), 1, "{switches:?}");
    }
}

/// With a third CPU a first packet may follow one that gave up in turn; but the flow has a way, and
/// whoever asks from then on is told the same.
#[test]
fn one_flow_inserted_by_three_cpus_has_one_backend_from_then_on() {
    for switches in schedules().step_by(3) {
        let table = Table::counting(false);
        let packets = [syn(H, 1), syn(H, 2), syn(H, 3)];
        let (sent, _) = run(&table, &packets, &switches);
        assert!(sent.iter().all(|backend| (1..=3).contains(backend)));
        let first = handle(&table, syn(H, 4));
        assert!(
            sent.contains(&first),
            "{switches:?}: {sent:?}, then {first}"
        );
        assert_eq!(handle(&table, syn(H, 5)), first, "{switches:?}");
        assert_eq!(table.count(Kind::Claimed), 0, "{switches:?}");
    }
}

/// Whatever two CPUs do to a flow, to the flow it pushes out and to an expired one, the connections
/// that were counted are those that are there when both are done.
#[test]
fn the_counts_are_those_of_the_ways_once_all_is_quiet() {
    let packet = |hash, choice, kind| Packet { hash, choice, kind };
    let pairs = [
        [syn(H, 1), syn(H, 2)],
        [syn(H, 1), syn(G, 2)],
        [packet(H, 1, Kind::Fin), packet(H, 1, Kind::Established)],
        [packet(G, 2, Kind::Closed), syn(H, 3)],
        [packet(G, 2, Kind::Established), packet(H, 3, Kind::Udp)],
    ];
    for switches in schedules().step_by(7) {
        for packets in &pairs {
            for kind in [
                None,
                Some(Kind::Syn),
                Some(Kind::Fin),
                Some(Kind::Established),
            ] {
                let table = kind.map_or_else(|| Table::counting(false), Table::filled);
                let expired = State::new(H, Kind::Syn, 7, 0, Tick(900));
                table.places[0].set(0, H, expired);
                table.places[1].set(3, G, State::new(G, Kind::Established, 2, 0, SOON));
                table.recount();
                run(&table, packets, &switches);
                let (counted, there) = table.counted();
                assert_eq!(counted, there, "{switches:?}, {kind:?}");
            }
        }
    }
}
