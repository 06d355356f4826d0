//! Every program of the object before this kernel's verifier, in each mode.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use aya::VerifierLogLevel;
use aya::programs::Xdp;
use xdp_lb::dataplane::ebpf::{Bare, Options};
use xdp_lb::sys::{bpffs, clock};
use xdp_lb_common::watch::mode;
use xdp_lb_tests::verifier::{Verdict, examine};

/// What the programs can be loaded for. Other constants are other branches.
const MODES: [(&str, u32); 3] = [
    ("forward", mode::FORWARD),
    ("capture", mode::WATCHED),
    ("trace", mode::DRY),
];

/// One line for each program; those that are refused have more lines, and the word REFUSED.
pub(crate) fn run(out: &mut dyn Write) -> Result<()> {
    bpffs::ensure()?;
    let kernel = nix::sys::utsname::uname()?;
    writeln!(out, "Linux {}", kernel.release().to_string_lossy())?;
    writeln!(
        out,
        "{:8} {:24} {:>12} {:>9} {:>7} {:>6} {:>6}",
        "mode", "program", "instructions", "verified", "states", "peak", "stack"
    )?;
    for (name, mode) in MODES {
        let mut bare = open(mode, VerifierLogLevel::STATS)?;
        let programs = bare.object().programs();
        let mut names: Vec<_> = programs.map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        for program in names {
            let line = line(mode, &mut bare, &program)?;
            writeln!(out, "{name:8} {program:24} {line}")?;
        }
    }
    Ok(())
}

pub(crate) fn open(mode: u32, log: VerifierLogLevel) -> Result<Bare> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let instance = format!("verify-{}-{number}", std::process::id());
    let mut options = Options::new(&instance, clock::kernel()?);
    (options.connections, options.templates) = (1024, 1024);
    Ok(Bare::open(&options, mode, log)?)
}

fn line(mode: u32, bare: &mut Bare, name: &str) -> Result<String> {
    Ok(match verdict(bare, name)? {
        Verdict::Loaded(stats) => format!(
            "{:12} {:9} {:7} {:6} {:6}",
            stats.instructions,
            stats.verified,
            stats.states,
            stats.peak,
            stats.deepest()
        ),
        Verdict::Refused(_) => {
            // Once more, with all that the verifier has to say.
            let mut bare = open(mode, VerifierLogLevel::DEBUG)?;
            match verdict(&mut bare, name)? {
                Verdict::Refused(why) => format!("REFUSED: {}", why.replace('\n', "\n    ")),
                Verdict::Loaded(_) => "REFUSED, and taken when asked again".to_owned(),
            }
        }
    })
}

fn verdict(bare: &mut Bare, name: &str) -> Result<Verdict> {
    let program = bare.object().program_mut(name).context("it was there")?;
    let program: &mut Xdp = program.try_into()?;
    let verdict = examine(program).with_context(|| format!("program {name}"))?;
    if matches!(verdict, Verdict::Loaded(_)) {
        program.unload()?;
    }
    Ok(verdict)
}
