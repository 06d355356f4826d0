//! Cases as they stand in files: a virtual service, and what happens.
//!
//! ```text
//! == wrr 3:1, and a server that goes
//! wrr                       the scheduler
//! udp | v6 | vips 4         otherwise: TCP, IPv4, one virtual IP
//! set persistence_timeout 50        a line of the virtual server
//! real uthreshold 2                 a line of each real server
//! servers 3 1               the weights of real servers 1, 2, … in the order of the file
//! open 4                    4 new connections, of a client each
//! open 4 from 10.2.9.9      4 of one client
//! syn 4                     as `open`, without the client's answer: half-open
//! visit                     one new connection to each virtual IP
//! sweep 500                 500 half-open ones from clients all over
//! data 1-3                  another packet of connections 1 to 3
//! fin 1-3 | rst 1-3         they end
//! weight 1 0                server 1 gets weight 0
//! add 3 2 | remove 3        server 3 of weight 2 comes into the file, or goes
//! down 1 | up 1             the checks of server 1 fail, or pass again
//! differs WHY               the directors differ here on purpose, for this reason
//! ```

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail, ensure};

/// A service and what happens to it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// In a few words.
    pub name: String,
    /// As `lb_algo` has it.
    pub scheduler: String,
    /// Its virtual IPs.
    pub vips: u8,
    /// UDP, not TCP.
    pub udp: bool,
    /// IPv6, not IPv4.
    pub v6: bool,
    /// Real servers and their weights, in the order of the file.
    pub servers: Vec<(u8, u32)>,
    /// What happens.
    pub steps: Vec<Step>,
    /// Why the directors differ.
    pub differs: Option<String>,
    /// Lines of the virtual servers.
    settings: Vec<String>,
    /// Lines of the real servers.
    of_servers: Vec<String>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// New connections.
    Open {
        /// How many.
        count: u32,
        /// Of this client; `None`: of a client each.
        from: Option<IpAddr>,
        /// The client answers the server, so that the connection is established.
        established: bool,
    },
    /// A new connection to each virtual IP.
    Visit,
    /// Half-open connections from clients all over.
    Sweep(u32),
    /// A packet of connections that were opened, by their numbers from 1 on.
    Again(Sort, RangeInclusive<usize>),
    /// The file or the checks change.
    Edit(Edit),
}

/// What a packet of a known connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Data.
    Data,
    /// The client's last.
    Fin,
    /// An end at once.
    Rst,
}

/// A change of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It has this weight in the file.
    Weight(u8, u32),
    /// It stands in the file with this weight, as the last one.
    Add(u8, u32),
    /// It does not stand in the file any more.
    Remove(u8),
    /// Its checks fail.
    Down(u8),
    /// They pass again.
    Up(u8),
}

/// Reads cases.
///
/// # Errors
/// At the first line that is none of the above.
pub fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for (at, line) in lines {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: name.to_owned(),
                vips: 1,
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().context("a case begins with `== NAME`")?;
        case.read(line)
            .with_context(|| format!("line {}: `{line}`", at + 1))?;
    }
    for case in &cases {
        let whole = !case.scheduler.is_empty() && !case.steps.is_empty();
        ensure!(whole, "`{}` has no scheduler or no steps", case.name);
    }
    Ok(cases)
}

impl Case {
    fn read(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<_> = rest.split_whitespace().collect();
        match (word, words.as_slice()) {
            ("udp", []) => self.udp = true,
            ("v6", []) => self.v6 = true,
            ("vips", [count]) => self.vips = count.parse()?,
            ("set", [_, ..]) => self.settings.push(rest.to_owned()),
            ("real", [_, ..]) => self.of_servers.push(rest.to_owned()),
            ("differs", [_, ..]) => self.differs = Some(rest.to_owned()),
            ("servers", weights) => {
                let weights = weights.iter().map(|weight| weight.parse());
                let weights: Vec<_> = weights.collect::<Result<_, _>>()?;
                self.servers = (1..).zip(weights).collect();
            }
            (scheduler, []) if self.scheduler.is_empty() => {
                scheduler.clone_into(&mut self.scheduler);
            }
            (word, words) => self.steps.push(step(word, words)?),
        }
        Ok(())
    }

    /// Whether a server that fails stays with weight 0.
    pub fn inhibits(&self) -> bool {
        let mut lines = self.of_servers.iter();
        lines.any(|line| line == "inhibit_on_failure")
    }

    /// The limits of each real server, as ipvsadm's options.
    pub fn limits(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.of_servers
            .iter()
            .filter_map(|line| match line.split_once(' ')? {
                ("uthreshold", limit) => Some(("-x", limit)),
                ("lthreshold", limit) => Some(("-y", limit)),
                _ => None,
            })
    }

    /// The virtual IP of a number from 0 on.
    pub fn vip(&self, number: u8) -> IpAddr {
        self.address(100 + number)
    }

    /// The address of a real server.
    pub fn server(&self, number: u8) -> IpAddr {
        self.address(10 + number)
    }

    fn address(&self, host: u8) -> IpAddr {
        if self.v6 {
            IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(host)])
        } else {
            IpAddr::from([10, 1, 0, host])
        }
    }

    /// Its keepalived.conf, with these real servers.
    pub fn config(&self, servers: &[(u8, u32)]) -> String {
        let protocol = if self.udp { "UDP" } else { "TCP" };
        let mut text = String::new();
        for number in 0..self.vips {
            let head = format!(
                "virtual_server {} {} {{\n    lb_algo {}\n    lb_kind DR\n    protocol {protocol}\n",
                self.vip(number),
                super::frame::PORT,
                self.scheduler
            );
            text.push_str(&head);
            for line in &self.settings {
                put(&mut text, format_args!("    {line}\n"));
            }
            for (server, weight) in servers {
                let (address, port) = (self.server(*server), super::frame::PORT);
                let head = format_args!("    real_server {address} {port} {{\n");
                put(&mut text, head);
                put(&mut text, format_args!("        weight {weight}\n"));
                for line in &self.of_servers {
                    put(&mut text, format_args!("        {line}\n"));
                }
                text.push_str("    }\n");
            }
            text.push_str("}\n");
        }
        text
    }
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _never = text.write_fmt(more);
}

fn step(word: &str, words: &[&str]) -> Result<Step> {
    let open = |count: &str, from| -> Result<Step> {
        Ok(Step::Open {
            count: count.parse()?,
            from,
            established: word == "open",
        })
    };
    Ok(match (word, words) {
        ("open" | "syn", [count]) => open(count, None)?,
        ("open" | "syn", [count, "from", client]) => open(count, Some(client.parse()?))?,
        ("visit", []) => Step::Visit,
        ("sweep", [count]) => Step::Sweep(count.parse()?),
        ("data", [which]) => Step::Again(Sort::Data, range(which)?),
        ("fin", [which]) => Step::Again(Sort::Fin, range(which)?),
        ("rst", [which]) => Step::Again(Sort::Rst, range(which)?),
        ("weight", [server, weight]) => Step::Edit(Edit::Weight(server.parse()?, weight.parse()?)),
        ("add", [server, weight]) => Step::Edit(Edit::Add(server.parse()?, weight.parse()?)),
        ("remove", [server]) => Step::Edit(Edit::Remove(server.parse()?)),
        ("down", [server]) => Step::Edit(Edit::Down(server.parse()?)),
        ("up", [server]) => Step::Edit(Edit::Up(server.parse()?)),
        _ => bail!("this is no step"),
    })
}

fn range(text: &str) -> Result<RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse()?, last.parse()?);
    ensure!(first > 0 && first <= last, "connections are 1, 2, …");
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_is_written() {
        let text = "== one\nwrr\nset ops\nreal uthreshold 2\nservers 3 1\nopen 2 from 10.2.0.1\n\
                    rst 1-2\nweight 1 0\n# a remark\n== other\nrr\nv6\nservers 1\nvisit\n";
        let cases = parse(text).unwrap();
        let client = "10.2.0.1".parse().unwrap();
        let steps = [
            Step::Open {
                count: 2,
                from: Some(client),
                established: true,
            },
            Step::Again(Sort::Rst, 1..=2),
            Step::Edit(Edit::Weight(1, 0)),
        ];
        assert_eq!(cases[0].steps, steps);
        let config = cases[0].config(&cases[0].servers);
        assert!(
            config.contains("    real_server 10.1.0.12 80 {\n        weight 1\n"),
            "{config}"
        );
        assert!(config.contains("        uthreshold 2\n") && config.contains("    ops\n"));
        assert_eq!(cases[1].vip(0).to_string(), "fd00:1::64");
    }

    #[test]
    fn what_is_no_step_is_refused_with_its_line() {
        for text in [
            "== one\nrr\nservers 1\nopen x\n",
            "== one\nrr\nclose 1\n",
            "rr\n",
            "== one\nrr\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = parse("== one\nrr\nservers 1\nopen x\n").unwrap_err();
        assert!(
            format!("{error:#}").starts_with("line 4: `open x`"),
            "{error:#}"
        );
    }
}
