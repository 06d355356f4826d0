//! `xdp-lb realserver up|down|status`: the real server's side of direct routing.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};

use crate::realserver::RealServer;
use crate::realserver::status::{Finding, Verdict};
use crate::sys::privileges;

/// Where the VIPs are looked for when nothing names them.
const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";

/// Make this host a real server of direct routing: VIPs on lo, silent in ARP.
#[derive(Args, Debug)]
pub struct RealServerArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put the VIPs on lo and silence ARP for them; what stands already is left as it is.
    Up(Vips),
    /// Undo what `up` did: for the VIPs given, else for all of them.
    Down(Vips),
    /// Say line by line what is right and what is wrong; exit 1 if anything is wrong.
    Status(Vips),
}

#[derive(Args, Debug)]
struct Vips {
    /// Virtual IP address; may be given more than once.
    #[arg(long = "vip", value_name = "IP", conflicts_with = "file")]
    addresses: Vec<IpAddr>,
    /// Take the VIPs of the virtual servers of this keepalived.conf [default, unless `up` ran
    /// before: /etc/keepalived/keepalived.conf].
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the command. `vips_of_file` reads the VIPs of a keepalived.conf; lines that say what was done
/// or found go to `out`.
pub async fn run(
    args: &RealServerArgs,
    vips_of_file: impl Fn(&Path) -> anyhow::Result<Vec<IpAddr>>,
    mut out: impl Write,
) -> anyhow::Result<ExitCode> {
    // What is under way is finished even when nobody reads any more.
    let mut say = |line: &str| {
        writeln!(out, "{line}").ok();
    };
    match &args.verb {
        Verb::Up(vips) => {
            privileges::require("xdp-lb realserver up", privileges::REAL_SERVER)?;
            let vips = match named(vips, &vips_of_file)? {
                Some(vips) => vips,
                None => read(Path::new(DEFAULT_FILE), &vips_of_file)?,
            };
            let findings = RealServer::open()?.up(&vips, &mut say).await?;
            Ok(complain(&findings))
        }
        Verb::Down(vips) => {
            privileges::require("xdp-lb realserver down", privileges::REAL_SERVER)?;
            let vips = named(vips, &vips_of_file)?;
            RealServer::open()?.down(vips.as_ref(), &mut say).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Status(vips) => {
            let server = RealServer::open()?;
            let vips = match named(vips, &vips_of_file)? {
                Some(vips) => vips,
                None => match server.vips()? {
                    vips if vips.is_empty() => read(Path::new(DEFAULT_FILE), &vips_of_file)?,
                    vips => vips,
                },
            };
            let findings = server.status(&vips).await?;
            for finding in &findings {
                say(&finding.to_string());
            }
            Ok(exit_code(&findings))
        }
    }
}

/// The VIPs that the command line names, itself or by a file.
fn named(
    vips: &Vips,
    vips_of_file: &impl Fn(&Path) -> anyhow::Result<Vec<IpAddr>>,
) -> anyhow::Result<Option<BTreeSet<IpAddr>>> {
    match &vips.file {
        Some(file) => read(file, vips_of_file).map(Some),
        None if vips.addresses.is_empty() => Ok(None),
        None => Ok(Some(vips.addresses.iter().copied().collect())),
    }
}

fn read(
    file: &Path,
    vips_of_file: &impl Fn(&Path) -> anyhow::Result<Vec<IpAddr>>,
) -> anyhow::Result<BTreeSet<IpAddr>> {
    let help = || "cannot take the VIPs from a file; name them by --vip IP, or the file by -f FILE";
    let vips: BTreeSet<IpAddr> = vips_of_file(file).with_context(help)?.into_iter().collect();
    let path = file.display();
    ensure!(
        !vips.is_empty(),
        "{path} has no virtual_server: name the VIPs by --vip IP"
    );
    Ok(vips)
}

/// What `up` could not put right goes to stderr.
fn complain(findings: &[Finding]) -> ExitCode {
    let mut err = std::io::stderr().lock();
    for finding in findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Right)
    {
        writeln!(err, "{finding}").ok();
    }
    exit_code(findings)
}

fn exit_code(findings: &[Finding]) -> ExitCode {
    let is_wrong = |finding: &Finding| finding.verdict == Verdict::Wrong;
    if findings.iter().any(is_wrong) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
