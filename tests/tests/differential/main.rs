//! The XDP program against the data plane in memory: the same tables, the same frames, at the same
//! time, and everything that comes of them compared; and what a frame is against `etherparse`.
//!
//! [`world`] makes tables with [`servers`] and changes them, [`frames`] and [`replies`] make frames of what is [`made`], both at
//! random and with a taste for what is odd; [`routes`] are the kernel's, and [`outside`] what else the model is
//! told; [`case`] is a sequence of both, as a fixture holds it; [`rig`] plays a case on
//! both data planes and compares, with [`view`] as the third opinion and [`state`] in the end; [`shrink`] makes a case that
//! fails as short as it gets. Fixtures of what was found are in `cases/`.
//!
//! `XDP_LB_DIFFERENTIAL_SEED` repeats what a failure names, `XDP_LB_DIFFERENTIAL_FRAMES` asks for more.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test whose tools break has failed, and says so"
)]

mod case;
#[path = "../xdp_prog/dice.rs"]
mod dice;
mod frames;
mod made;
mod outside;
#[path = "../xdp_prog/pinned.rs"]
mod pinned;
mod replies;
mod rig;
mod routes;
mod servers;
mod shrink;
mod state;
mod view;
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use xdp_lb_common::answer::empty_pool;
use xdp_lb_tests::netns::{Netns, unique_prefix};

use case::{Case, Style};
use dice::Dice;
use rig::{Played, Rig};

/// Frames that are sent if nobody asks for more.
const FRAMES: u64 = 120_000;
/// The first seed if nobody names another one.
const SEED: u64 = 1;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs a test in a network namespace that has the interfaces of the tables.
fn in_a_network(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this suite needs root");
        eprintln!("SKIPPED: this suite needs root");
        return;
    }
    xdp_lb::sys::bpffs::ensure().unwrap();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let netns = Netns::create(&format!("{}{number}", unique_prefix("df"))).unwrap();
    // A VLAN is one by the tables; the kernel has its MTU.
    let networks = frames::NETWORKS.map(|(index, parent, _)| (index, frames::mtu(parent)));
    let ports = frames::PORTS.map(|index| (index, frames::mtu(index)));
    let lines = ports.iter().chain(&networks).map(|(index, mtu)| {
        format!("link add p{index} index {index} mtu {mtu} type veth peer q{index}")
    });
    let lines: Vec<_> = lines.chain(routes::lines()).collect();
    netns.ip(&lines.join("\n")).unwrap();
    let forwards = |family: &str| format!("/proc/sys/net/{family}/conf/all/forwarding");
    let test = || {
        for family in ["ipv4", "ipv6"] {
            std::fs::write(forwards(family), "1").unwrap();
        }
        test();
    };
    netns.run(test).unwrap();
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Plays a case, and tells what it comes to if the two differ: the shortest one that still shows it.
fn hold(rig: &mut Rig, case: &Case, origin: &str) -> u64 {
    match rig.play(case) {
        Played::Same(frames) => frames,
        Played::Differs(why) => {
            let (short, why) = shrink::shrink(case, why, |case| rig.play(case));
            panic!(
                "{why}\n\n{origin}; the shortest case that shows it, a fixture for \
                 tests/tests/differential/cases/NAME.json:\n\n{}\n",
                short.json()
            );
        }
    }
}

fn play_at_random(styles: &[Style], frames: u64, policy: u32) {
    in_a_network(|| {
        let mut rig = Rig::new(policy);
        let first = setting("XDP_LB_DIFFERENTIAL_SEED", SEED);
        let wanted = setting("XDP_LB_DIFFERENTIAL_FRAMES", frames);
        let (mut seed, mut sent) = (first, 0);
        while sent < wanted {
            let mut dice = Dice::new(seed);
            let style = styles[usize::try_from(seed).unwrap() % styles.len()];
            let case = Case::random(&mut dice, style);
            sent += hold(&mut rig, &case, &format!("XDP_LB_DIFFERENTIAL_SEED={seed}"));
            seed += 1;
        }
        eprintln!(
            "{sent} frames, {} tables; reasons: {:?}; events: {:?}",
            seed - first,
            rig.reasons(),
            rig.events()
        );
    });
}

#[test]
fn program_and_model_agree_about_whatever_comes() {
    play_at_random(
        &[Style::Mixed, Style::Scheduling, Style::Mixed, Style::Tidy],
        FRAMES,
        empty_pool::UNREACHABLE,
    );
}

#[test]
fn program_and_model_agree_when_tcp_is_reset() {
    play_at_random(
        &[Style::Mixed, Style::Mixed, Style::Tidy],
        FRAMES / 4,
        empty_pool::RESET,
    );
}

#[test]
fn program_and_model_agree_when_tables_are_full() {
    play_at_random(&[Style::Flood], FRAMES / 2, empty_pool::UNREACHABLE);
}

/// What was found once.
#[test]
fn program_and_model_agree_about_the_fixtures() {
    in_a_network(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/cases");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut rig = Rig::new(empty_pool::UNREACHABLE);
        for file in &files {
            let case: Case = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            hold(&mut rig, &case, &file.display().to_string());
        }
        assert!(!files.is_empty());
    });
}
