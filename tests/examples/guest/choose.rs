//! All cases, played before IPVS.

use std::fs;
use std::io::Write;

use anyhow::{Context as _, Result};
use xdp_lb_tests::ipvs::guest::{Ipvs, whose};
use xdp_lb_tests::ipvs::{case, play};

/// Where the guest finds them.
const CASES: &str = "/job/cases.txt";

pub(crate) fn run(out: &mut dyn Write) -> Result<()> {
    let text = fs::read_to_string(CASES).context(CASES)?;
    writeln!(out, "# {}", whose()?)?;
    let mut ipvs = Ipvs::default();
    for case in case::parse(&text)? {
        let lines =
            play::play(&case, &mut ipvs).with_context(|| format!("case `{}`", case.name))?;
        writeln!(out, "== {}", case.name)?;
        for line in lines {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
