//! `xdp-lb weight`, `drain`, `undrain` and `reload`: what a running agent is told to do.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clap::Args;

use super::output;
use crate::control::client;
use crate::control::protocol::Request;
use crate::plan::pool::asked::{Asked, NotAService};
use crate::plan::pool::order::{Order, Target, What};

/// The largest weight, of keepalived and of IPVS.
const MAX_WEIGHT: u32 = 2_147_483_647;

/// Arguments of `weight`.
#[derive(Clone, Debug, Args)]
pub struct WeightArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// 0 to 2147483647, or `file` for what the file says
    weight: Weight,
}

/// Arguments of `drain` and `undrain`.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// The virtual service, `VIP:PORT`, with `/tcp` or `/udp` if both have it; `fwmark:NUMBER` or
    /// `group:NAME`
    ///
    /// A mark may also be written as `list` has it, 'FWM 1'. The addresses of a `virtual_server_group`
    /// share their real servers: naming one of them means all.
    #[arg(value_name = "VIP:PORT[/PROTO]|fwmark:N")]
    service: Service,
    /// The real server; its port may be left out if the address says enough
    #[arg(value_name = "RS[:PORT]", value_parser = server)]
    server: SocketAddr,
}

/// A virtual service, as it is typed.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// What it is called.
    pub(super) name: Asked,
    /// `tcp` or `udp`.
    pub(super) protocol: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Weight(Option<u32>);

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.rsplit_once('/');
        let split = split.map(|(name, protocol)| (name, protocol.to_lowercase()));
        let split = split.filter(|(_, protocol)| ["tcp", "udp"].contains(&protocol.as_str()));
        let (name, protocol) = match split {
            Some((name, protocol)) => (name, Some(protocol)),
            None => (text, None),
        };
        let name = name.parse();
        let name = name.map_err(|wrong: NotAService| wrong.to_string())?;
        Ok(Self { name, protocol })
    }
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "file" {
            return Ok(Self(None));
        }
        let weight = text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
        let weight = weight.ok_or_else(|| format!("expected 0 to {MAX_WEIGHT}, or 'file'"))?;
        Ok(Self(Some(weight)))
    }
}

/// An address with its port, or alone.
fn server(text: &str) -> Result<SocketAddr, String> {
    let alone = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 0));
    let found = text.parse().ok().or_else(alone);
    found.ok_or_else(|| "expected RS:PORT, as in 192.168.1.102:80".to_owned())
}

/// Sets the weight of a real server.
pub fn weight(instance: &str, args: &WeightArgs) -> anyhow::Result<()> {
    order(instance, &args.target, What::Weight(args.weight.0))
}

/// Keeps new connections from a real server.
pub fn drain(instance: &str, args: &TargetArgs) -> anyhow::Result<()> {
    order(instance, args, What::Drain)
}

/// Undoes a drain.
pub fn undrain(instance: &str, args: &TargetArgs) -> anyhow::Result<()> {
    order(instance, args, What::Undrain)
}

/// Has the configuration read again, and prints what that changed.
pub fn reload(instance: &str) -> anyhow::Result<()> {
    let changes = client::order(instance, &Request::Reload)?;
    if changes.is_empty() {
        output::data("nothing changes\n")?;
    }
    print(&changes)
}

fn order(instance: &str, args: &TargetArgs, what: What) -> anyhow::Result<()> {
    let target = Target {
        service: args.service.name,
        protocol: args.service.protocol.clone(),
        server: args.server,
    };
    let request = Request::Order(Order { target, what });
    print(&client::order(instance, &request)?)
}

fn print(lines: &[String]) -> anyhow::Result<()> {
    for line in lines {
        output::data(&format!("{line}\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    fn parsed(line: &str) -> Option<WeightArgs> {
        match Args::try_parse_from(line.split(' ')).ok()?.command {
            Command::Weight(args) => Some(args),
            _ => None,
        }
    }

    #[test]
    fn a_server_is_named_by_its_service_and_its_address() {
        let args = parsed("xdp-lb weight 10.0.0.1:80/TCP 10.0.0.2:80 5").unwrap();
        let service = &args.target.service;
        assert_eq!(service.name.to_string(), "10.0.0.1:80");
        assert_eq!(service.protocol.as_deref(), Some("tcp"));
        assert_eq!(args.weight.0, Some(5));
        let args = parsed("xdp-lb weight [2001:db8::1]:80 [2001:db8::2]:80 file").unwrap();
        assert_eq!((args.target.service.protocol, args.weight.0), (None, None));
        let args = parsed("xdp-lb weight fwmark:1 10.0.0.2 5").unwrap();
        assert_eq!(args.target.service.name.to_string(), "fwmark:1");
        assert_eq!(args.target.server.to_string(), "10.0.0.2:0");
        for wrong in [
            "10.0.0.1 10.0.0.2:80 5",
            "10.0.0.1:80/sctp 10.0.0.2:80 5",
            "10.0.0.1:80 10.0.0.2:80 -1",
            "10.0.0.1:80 10.0.0.2:80 2147483648",
        ] {
            assert!(
                parsed(&format!("xdp-lb weight {wrong}")).is_none(),
                "{wrong}"
            );
        }
    }
}
