//! What the lab has to know of the configuration it runs: read from the file, so that nothing is
//! said twice. This is no parser of the language; the agent has that.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::SplitWhitespace;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// keepalived's defaults for `TCP_CHECK`.
const RETRY: u64 = 1;
const DELAY_BEFORE_RETRY: u64 = 1;

/// What reaction time is allowed beyond what the configuration says: a check is late, a client is
/// between two attempts, the machine is busy.
const SLACK: Duration = Duration::from_secs(1);

/// A seed's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    /// The file.
    pub(crate) path: PathBuf,
    /// The virtual server's address.
    pub(crate) vip: Ipv4Addr,
    /// Its port.
    pub(crate) port: u16,
    /// The two real servers, in the order of the file.
    pub(crate) servers: [Ipv4Addr; 2],
    /// The interface that the VRRP instance names.
    pub(crate) interface: String,
    /// `delay_loop` of the checks, s.
    pub(crate) delay_loop: u64,
    /// `retry` of the checks.
    pub(crate) retry: u64,
    /// `delay_before_retry` of the checks, s.
    pub(crate) delay_before_retry: u64,
}

impl Seed {
    /// Reads a file with one `virtual_server`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(path.to_owned(), &text).with_context(|| path.display().to_string())
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let virtual_server = words_after(text, "virtual_server");
        let [vip, port] = &virtual_server[..] else {
            bail!("the lab needs exactly one virtual_server");
        };
        let servers: Vec<Ipv4Addr> = text
            .lines()
            .filter_map(|line| after(line, "real_server")?.next()?.parse().ok())
            .collect();
        let &[first, second] = &servers[..] else {
            bail!("the lab needs exactly two real servers");
        };
        let number = |keyword| -> Option<u64> { words_after(text, keyword).first()?.parse().ok() };
        Ok(Self {
            path,
            vip: vip.parse()?,
            port: port.parse()?,
            servers: [first, second],
            interface: words_after(text, "interface")
                .first()
                .context("no interface")?
                .to_string(),
            delay_loop: number("delay_loop").context("no delay_loop")?,
            // keepalived knows only `retry`; xdp-lb takes the other, which the seed has, for it.
            retry: number("retry")
                .or_else(|| number("nb_get_replies"))
                .unwrap_or(RETRY),
            delay_before_retry: number("delay_before_retry").unwrap_or(DELAY_BEFORE_RETRY),
        })
    }

    /// Another address of the /24 that the VIP is in.
    pub(crate) const fn address(&self, last_octet: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.vip.octets();
        Ipv4Addr::new(a, b, c, last_octet)
    }

    /// When a server that refuses connections must be out of the tables, at the latest: the check
    /// has just passed, then fails, then fails `retry` times more.
    pub(crate) const fn time_to_fail(&self) -> Duration {
        let seconds = self.delay_loop + self.retry * self.delay_before_retry;
        Duration::from_secs(seconds).saturating_add(SLACK)
    }

    /// When a server that serves again must be back, at the latest: the check has just failed.
    pub(crate) const fn time_to_return(&self) -> Duration {
        Duration::from_secs(self.delay_loop).saturating_add(SLACK)
    }

    /// The sum behind [`Self::time_to_fail`], for people.
    pub(crate) fn time_to_fail_explained(&self) -> String {
        format!(
            "bound: delay_loop {} s + retry {} × {} s + {} s for the rest",
            self.delay_loop,
            self.retry,
            self.delay_before_retry,
            SLACK.as_secs()
        )
    }
}

/// The words that follow the first line that begins with `keyword`.
fn words_after<'a>(text: &'a str, keyword: &str) -> Vec<&'a str> {
    text.lines()
        .find_map(|line| after(line, keyword))
        .map(|words| words.filter(|word| *word != "{").collect())
        .unwrap_or_default()
}

fn after<'a>(line: &'a str, keyword: &str) -> Option<SplitWhitespace<'a>> {
    let mut words = line.split_whitespace();
    (words.next()? == keyword).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../tests/scenarios/websocket/004-master.conf");

    #[test]
    fn seed_004_is_understood() {
        let seed = Seed::parse(PathBuf::new(), TEXT).unwrap();
        assert_eq!(seed.vip.to_string(), "192.168.1.200");
        assert_eq!(seed.port, 80);
        assert_eq!(seed.interface, "eth0");
        assert_eq!(seed.servers, [102, 103].map(|octet| seed.address(octet)));
    }

    #[test]
    fn the_bounds_follow_from_the_checks() {
        let seed = |text: &str| Seed::parse(PathBuf::new(), text).unwrap();
        assert_eq!(seed(TEXT).time_to_fail(), Duration::from_secs(5 + 3 + 1));
        assert_eq!(seed(TEXT).time_to_return(), Duration::from_secs(5 + 1));
        let plain = TEXT.replace("nb_get_replies 3", "");
        assert_eq!(seed(&plain).time_to_fail(), Duration::from_secs(5 + 1 + 1));
        let slow = TEXT.replace("nb_get_replies 3", "retry 2\ndelay_before_retry 4");
        assert_eq!(seed(&slow).time_to_fail(), Duration::from_secs(5 + 8 + 1));
    }
}
