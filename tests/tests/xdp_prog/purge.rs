//! Real servers that fail and come back while both CPUs send.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use xdp_lb_tests::program::Program;

use crate::cpus::{SERVERS, frames, on_two_cpus, roomy, server_of};
use crate::director::in_a_network;
use crate::tables::{ack, datagram, syn, tables, tcp, udp};

/// What the senders know of a real server: a number that only grows, 0 to 3 and on.
#[derive(Default)]
struct Phase(AtomicU32);

impl Phase {
    /// It is being taken out; until the purge has returned, packets may still go there.
    const FAILING: u32 = 1;
    /// Its purge has returned, and its return has not begun.
    const DEAD: u32 = 2;
    const ALL: u32 = 4;

    fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    fn advance(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a flow that was placed in one phase may have been purged by another.
    const fn may_have_failed(placed: u32, now: u32) -> bool {
        let next_failure = placed + (Self::ALL + Self::FAILING - placed % Self::ALL) % Self::ALL;
        now >= next_failure
    }
}

/// A flow as its sender knows it: its server, and the phase of that when the flow was placed.
#[derive(Clone, Copy)]
struct Placed {
    server: u8,
    phase: u32,
}

/// Servers fail and come back while both CPUs send: no packet goes to one whose purge has returned,
/// no flow goes to one that it was purged from, and flows of other servers never move.
#[test]
fn a_purge_during_traffic_ends_the_flows_of_one_server_and_no_other() {
    const FLOWS: u32 = 1500;
    const ROUNDS: u32 = 40;
    /// Where others take a CPU for themselves its sender is slow.
    const PATIENCE: u32 = 100 * ROUNDS;
    in_a_network(|| {
        let services = [tcp(80).rr(SERVERS), udp(80).rr(SERVERS)];
        let mut director = roomy(&tables(services.clone()));
        let phases: [Phase; SERVERS as usize] = Default::default();
        let stop = AtomicBool::new(false);
        let have_moved: [AtomicBool; 2] = Default::default();
        let program = director.second_program();
        let senders = || {
            on_two_cpus(|which| {
                let clients = u32::try_from(which).unwrap() * FLOWS;
                let clients = clients..clients + FLOWS;
                let tcp = (frames(clients.clone(), syn), frames(clients.clone(), ack));
                let udp = (frames(clients.clone(), datagram), frames(clients, datagram));
                let mut flows = [Sender::new(tcp), Sender::new(udp)];
                while !stop.load(Ordering::SeqCst) {
                    for sender in &mut flows {
                        sender.send_all(&program, &phases);
                    }
                    let all = flows.iter().all(|sender| sender.moved > 0);
                    have_moved[which].store(all, Ordering::SeqCst);
                }
                flows.map(|sender| sender.moved)
            })
        };
        let moved = std::thread::scope(|scope| {
            let senders = scope.spawn(senders);
            let mut service = services.clone();
            for round in 0..PATIENCE {
                let all = have_moved.iter().all(|moved| moved.load(Ordering::SeqCst));
                if senders.is_finished() || (all && round >= ROUNDS) {
                    break;
                }
                let n = u8::try_from(round % u32::from(SERVERS)).unwrap() + 1;
                let phase = &phases[usize::from(n) - 1];
                phase.advance();
                director.set(&tables(service.clone().map(|s| s.fail(n))));
                phase.advance();
                std::thread::sleep(Duration::from_millis(20));
                phase.advance();
                service = service.map(|s| s.fail(n).recover(n));
                director.set(&tables(service.clone()));
                phase.advance();
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::SeqCst);
            match senders.join() {
                Ok(moved) => moved,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        eprintln!("flows that moved, by CPU and protocol: {moved:?}");
        assert!(moved.iter().flatten().all(|count| *count > 0), "{moved:?}");
    });
}

/// Flows of one CPU: opening and following frames, and where each was placed.
struct Sender {
    frames: (Vec<Vec<u8>>, Vec<Vec<u8>>),
    placed: Vec<Option<Placed>>,
    moved: u64,
}

impl Sender {
    fn new(frames: (Vec<Vec<u8>>, Vec<Vec<u8>>)) -> Self {
        let placed = vec![None; frames.0.len()];
        Self {
            frames,
            placed,
            moved: 0,
        }
    }

    /// A packet of every flow: its first one, if it has no server.
    fn send_all(&mut self, program: &Program, phases: &[Phase; SERVERS as usize]) {
        let all = || std::array::from_fn::<_, { SERVERS as usize }, _>(|at| phases[at].get());
        for (flow, placed) in self.placed.iter_mut().enumerate() {
            let frame = match placed {
                Some(_) => &self.frames.1[flow],
                None => &self.frames.0[flow],
            };
            let before = all();
            let server = server_of(program, frame);
            let after = all();
            if let Some(server) = server {
                let at = usize::from(server) - 1;
                let dead = before[at] % Phase::ALL == Phase::DEAD && before[at] == after[at];
                assert!(!dead, "flow {flow} went to {server}, which is dead");
            }
            if server == placed.map(|p| p.server) {
                continue;
            }
            if let Some(old) = placed {
                let now = after[usize::from(old.server) - 1];
                let why = Phase::may_have_failed(old.phase, now);
                assert!(why, "flow {flow} went from {} to {server:?}", old.server);
                self.moved += 1;
            }
            *placed = server.map(|server| {
                let phase = before[usize::from(server) - 1];
                Placed { server, phase }
            });
        }
    }
}
