//! Two CPUs that send at once.
//!
//! A test run keeps its CPU until the program returns, as a driver does, so two threads that are
//! pinned to two CPUs are two receive queues. Where there is but one CPU the tests run all the same,
//! and say that they prove less.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use xdp_lb::plan::desired::Desired;
use xdp_lb_tests::packet::Packet;
use xdp_lb_tests::program::{Action, Program};

use crate::director::Director;
use crate::tables::{PORT, server_mac};

/// Servers that any test here has.
pub(crate) const SERVERS: u8 = 4;

/// Runs `work` on two CPUs at once; it is told which of the two it is: 0 or 1.
pub(crate) fn on_two_cpus<T: Send>(work: impl Fn(usize) -> T + Sync) -> [T; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<_> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap())
        .collect();
    if cpus.len() < 2 {
        eprintln!("note: one CPU only, so nothing here happens at the same time");
    }
    let pinned = |which: usize| {
        let mut one = CpuSet::new();
        one.set(cpus[which % cpus.len()]).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        work(which)
    };
    std::thread::scope(|scope| {
        [0, 1]
            .map(|which| scope.spawn(move || pinned(which)))
            .map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

/// Waits for the other thread without giving the CPU away, unless it takes long. If that one has
/// failed, it never comes.
pub(crate) fn wait_for(happened: impl Fn() -> bool) {
    const LONG: Duration = Duration::from_mins(1);
    let (begin, mut spins) = (Instant::now(), 0_u32);
    while !happened() {
        spins = spins.wrapping_add(1);
        if spins.is_multiple_of(10_000) {
            assert!(begin.elapsed() < LONG, "the other thread does not come");
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// Lets two threads begin each step at the same moment.
#[derive(Default)]
pub(crate) struct Pace([AtomicUsize; 2]);

impl Pace {
    /// Waits until the other thread has come to step `step`, too.
    pub(crate) fn meet(&self, which: usize, step: usize) {
        self.0[which].store(step + 1, Ordering::SeqCst);
        wait_for(|| self.0[1 - which].load(Ordering::SeqCst) > step);
    }
}

/// The server a frame is sent to; `None` if it passes.
pub(crate) fn server_of(program: &Program, frame: &[u8]) -> Option<u8> {
    let outcome = program.run(frame, PORT).unwrap();
    match outcome.action {
        Action::Pass => None,
        Action::Tx => {
            let server = (1..=SERVERS).find(|n| outcome.frame.starts_with(&server_mac(*n)));
            Some(server.expect("it went to a real server"))
        }
        other => panic!("nothing here is to be {other:?}"),
    }
}

pub(crate) fn frames(
    clients: std::ops::Range<u32>,
    packet: impl Fn(u32) -> Packet,
) -> Vec<Vec<u8>> {
    clients
        .map(|client| packet(client).bytes().unwrap())
        .collect()
}

/// Room for all flows of a test.
pub(crate) fn roomy(services: &Desired) -> Director {
    Director::with(services, |options| {
        (options.connections, options.templates) = (1 << 15, 1 << 15);
    })
}
