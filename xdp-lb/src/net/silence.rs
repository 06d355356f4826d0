//! VIPs that take no packets (`no_accept`): a table of netfilter rules, kept by the `nft` command.
//!
//! The XDP program balances what it balances before any of it reaches these rules. What else is for
//! such a VIP is dropped, and so is what would leave with it as its source; ARP and IPv6 neighbour
//! discovery go on. The table is written as a whole, in one transaction.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::Error;
use super::addresses::Added;
use crate::plan::belongings::Silence;

/// The kernel answers at once; only something broken takes longer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// The table of one agent, in the network namespace of the process.
#[derive(Debug)]
pub struct Silences {
    table: String,
    standing: BTreeSet<Silence>,
}

impl Silences {
    /// The table of the agent of that name. `standing` is what a predecessor left in it.
    pub fn resume(agent: &str, standing: BTreeSet<Silence>) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let agent: String = agent.chars().map(plain).collect();
        let table = format!("xdp_lb_{agent}");
        Self { table, standing }
    }

    /// Has VIPs take no packets.
    ///
    /// # Errors
    ///
    /// No `nft`, or what that says.
    pub async fn put(&mut self, silence: &Silence) -> Result<Added, Error> {
        let operation = "have VIPs take no packets (no_accept)";
        if self.standing.contains(silence) && self.exists().await? {
            return Ok(Added::Existed);
        }
        let mut wanted = self.standing.clone();
        wanted.insert(silence.clone());
        self.write(wanted, operation).await?;
        Ok(Added::New)
    }

    /// Has them take packets again.
    ///
    /// # Errors
    ///
    /// As [`Silences::put`].
    pub async fn take(&mut self, silence: &Silence) -> Result<(), Error> {
        let operation = "have VIPs take packets again";
        let mut wanted = self.standing.clone();
        if wanted.remove(silence) {
            self.write(wanted, operation).await?;
        }
        Ok(())
    }

    async fn write(&mut self, wanted: BTreeSet<Silence>, operation: &str) -> Result<(), Error> {
        let output = nft(&["-f", "-"], &script(&self.table, &wanted)).await;
        let output = output.map_err(|source| refused(operation, source))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or("nft failed").to_owned();
            return Err(refused(operation, io::Error::other(first)));
        }
        self.standing = wanted;
        Ok(())
    }

    async fn exists(&self) -> Result<bool, Error> {
        let output = nft(&["list", "table", "inet", &self.table], "").await;
        let output = output.map_err(|source| refused("list rules", source))?;
        Ok(output.status.success())
    }
}

fn refused(operation: &str, source: io::Error) -> Error {
    let source = match source.kind() {
        io::ErrorKind::NotFound => io::Error::other("there is no command nft; install nftables"),
        _ => source,
    };
    Error::Refused {
        operation: operation.to_owned(),
        source,
    }
}

async fn nft(arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let run = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match timeout(ANSWER_TIME, run).await {
        Ok(output) => output,
        Err(_) => Err(io::Error::other("nft did not end")),
    }
}

/// What makes the table as it should be, whatever it is now; none for no VIP.
fn script(table: &str, silences: &BTreeSet<Silence>) -> String {
    // It can only be deleted if it is there.
    let mut script = format!("table inet {table}\ndelete table inet {table}\n");
    let all: BTreeSet<_> = silences.iter().flat_map(|own| &own.addresses).collect();
    if all.is_empty() {
        return script;
    }
    // Writing to a string cannot fail.
    writeln!(script, "table inet {table} {{").ok();
    for (hook, side, interface) in [("input", "daddr", "iif"), ("output", "saddr", "oif")] {
        writeln!(script, "chain {hook} {{").ok();
        writeln!(script, "type filter hook {hook} priority filter - 1;").ok();
        let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
        writeln!(script, "{neighbours}").ok();
        for (address, ifindex) in &all {
            match address {
                IpAddr::V4(ip) => writeln!(script, "ip {side} {ip} drop"),
                // The same may stand on another link.
                IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                    writeln!(script, "{interface} {ifindex} ip6 {side} {ip} drop")
                }
                IpAddr::V6(ip) => writeln!(script, "ip6 {side} {ip} drop"),
            }
            .ok();
        }
        script.push_str("}\n");
    }
    script.push_str("}\n");
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_written_as_a_whole() {
        let silence = |addresses: &[(&str, u32)]| {
            let addresses = addresses.iter();
            let addresses = addresses.map(|(ip, ifindex)| (ip.parse().unwrap(), *ifindex));
            Silence {
                addresses: addresses.collect(),
            }
        };
        let gone = "table inet t\ndelete table inet t\n";
        assert_eq!(script("t", &BTreeSet::new()), gone);
        let two = [
            silence(&[("10.0.0.1", 2), ("fe80::1", 2)]),
            silence(&[("fd00::1", 3)]),
        ];
        let script = script("t", &two.into());
        for line in [
            "type filter hook input priority filter - 1;",
            "ip daddr 10.0.0.1 drop",
            "ip saddr 10.0.0.1 drop",
            "iif 2 ip6 daddr fe80::1 drop",
            "oif 2 ip6 saddr fe80::1 drop",
            "ip6 daddr fd00::1 drop",
        ] {
            let count = script.lines().filter(|is| *is == line).count();
            assert_eq!(count, 1, "{line} in {script}");
        }
    }

    #[test]
    fn the_name_of_an_agent_may_be_any() {
        let silences = Silences::resume("edge-1.a", BTreeSet::new());
        assert_eq!(silences.table, "xdp_lb_edge_1_a");
    }
}
