//! docs/metrics.md, written from the tables that the metrics themselves are made from.

use std::fmt::{Error, Write};

use xdp_lb_common::reason::{Event, Reason};

use super::table;
use crate::control::snapshot::verdict_name;
use crate::vrrp::packet::refusal::Kind;

/// What docs/metrics.md must hold.
pub fn markdown() -> Result<String, Error> {
    let mut out = String::from(INTRODUCTION);
    writeln!(
        out,
        "\n## Metrics\n\n| Name | Type | Labels | Meaning |\n|---|---|---|---|"
    )?;
    for metric in table::ALL {
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            metric.sample_name(),
            metric.kind.name(),
            labels.join(", "),
            metric.help
        )?;
    }
    writeln!(
        out,
        "\n{REASONS}\n\n| `reason` | Packet | Meaning |\n|---|---|---|"
    )?;
    for reason in Reason::ALL {
        let verdict = verdict_name(reason.verdict());
        writeln!(
            out,
            "| `{}` | {verdict} | {} |",
            reason.name(),
            reason.help().trim()
        )?;
    }
    writeln!(
        out,
        "\n{ADVERT_ERRORS}\n\n| `reason` | Meaning |\n|---|---|"
    )?;
    for kind in Kind::ALL {
        writeln!(out, "| `{}` | {} |", kind.label(), refusal_help(*kind))?;
    }
    writeln!(out, "\n{EVENTS}\n\n| `event` | Meaning |\n|---|---|")?;
    for event in Event::ALL {
        writeln!(out, "| `{}` | {} |", event.name(), event_help(*event))?;
    }
    Ok(out)
}

/// What an event means to an operator.
const fn event_help(event: Event) -> &'static str {
    match event {
        Event::NoWay => {
            "A connection found no room in its two places of the table and goes without state, by \
             consistent hash. More than a few: raise `connections`."
        }
        Event::Evicted => {
            "An unconfirmed or closing connection gave its place to a new one. Many: a flood of SYNs \
             or of spoofed UDP."
        }
        Event::NoTemplateWay => {
            "A client's persistence found no room in its table: its next connection may reach another \
             real server."
        }
        Event::RaceLost => "Another CPU inserted the same connection first. Harmless.",
        Event::NoFragmentWay => {
            "Where a first fragment went found no room in the connection table: the others of its \
             datagram are lost. Together with `no_way`: raise `connections`."
        }
    }
}

/// What a refusal means to an operator.
const fn refusal_help(kind: Kind) -> &'static str {
    match kind {
        Kind::Header => "The IP header is damaged.",
        Kind::Fragment => "A fragment; adverts are too short to need any.",
        Kind::Protocol => "Not VRRP (IP protocol 112).",
        Kind::AuthHeader => {
            "`auth_type AH` on the sender, which is not supported: use PASS or `auth_hmac` on all."
        }
        Kind::OwnPacket => {
            "From this director's own address: another host uses it, or the network sends adverts back."
        }
        Kind::Unicast => {
            "By unicast to a director that uses multicast: write `unicast_peer` on both or on none."
        }
        Kind::Multicast => "To a multicast group that this director does not use.",
        Kind::NotPeer => "`check_unicast_src`: the sender is not in `unicast_peer`.",
        Kind::Ttl => {
            "TTL or hop limit is not what it should be: a router lies between, or it is forged."
        }
        Kind::Version => "Another version: make `vrrp_version` equal.",
        Kind::Type => "Not an advert.",
        Kind::Length => "Longer or shorter than it says it is.",
        Kind::Checksum => "The checksum is wrong.",
        Kind::Vrid => "For another VRID.",
        Kind::Interval => "An advert interval of 0.",
        Kind::VipList => "Without any VIP.",
        Kind::AuthType => "Another kind of authentication: make `auth_type` equal.",
        Kind::AuthData => "Another password: make `auth_pass` equal; only 8 bytes count.",
        Kind::HmacMissing => "Without an HMAC, and `auth_hmac` is enforced here.",
        Kind::HmacUnexpected => "With an HMAC, and `auth_hmac` is not configured here.",
        Kind::HmacType => "With an HMAC of an unknown layout.",
        Kind::HmacKey => "With an HMAC of a key that is not configured here.",
        Kind::HmacDigest => "With a wrong HMAC: the keys differ, or it is forged.",
        Kind::HmacStale => {
            "Made too long ago or in the future: the clocks differ, or it is replayed."
        }
        Kind::HmacReplay => "No newer than the one before of the same sender: it is replayed.",
    }
}

const INTRODUCTION: &str = "\
<!-- Generated from xdp-lb/src/telemetry/metrics/table.rs. To write it anew:
     XDP_LB_BLESS=1 cargo test -p xdp-lb --lib metrics_md_is_what_the_program_serves -->

# Metrics

`xdp-lb up` serves Prometheus metrics at `http://127.0.0.1:9165/metrics` (`--metrics ADDR:PORT`, or
`metrics` in the `xdp_lb` block), in the text format or as OpenMetrics, whichever the client asks for.
Every scrape takes a snapshot of that moment. Counters of connections and packets live in the kernel's
maps: they survive a restart of the agent and begin at zero when the maps are made anew. Those of VRRP
and of health checks begin at zero with the agent.

`/healthz` answers 200 while the process runs; `/readyz` answers 200 while the agent answers and at
least one interface carries the program, else 503 and the cause.

Labels:

| Label | Value |
|---|---|
| `service` | protocol, VIP and port of a virtual service: `tcp/192.168.1.200:80`; `fwmark/1` of a firewall mark |
| `real_server` | address and port of a real server: `192.168.1.102:80` |
| `instance_name` | name of a `vrrp_instance` |
| `interface` | name of a network interface |

Replies of real servers do not come through the director, so there are no counters for them.
";

const REASONS: &str = "\
## Reasons

Every packet that enters the XDP program leaves it for exactly one reason, so the sum over all reasons
is the number of packets. `tx` and `redirect` were sent to a real server, out of the port they came in
by or out of another; `pass` went to the kernel of the director; `drop` went to nobody.";

const ADVERT_ERRORS: &str = "\
## Refused adverts

The values of `reason` of `xdp_lb_vrrp_advert_errors_total`. `xdp-lb vrrp` names the last sender of each
and says what was wrong; so does the log, at most once a minute. What to do is in
[vrrp.md](vrrp.md#two-masters).";

const EVENTS: &str = "\
## Events";

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn metrics_md_is_what_the_program_serves() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let wanted = super::markdown().unwrap();
        if std::env::var_os("XDP_LB_BLESS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(
            found == wanted,
            "docs/metrics.md is stale; run: XDP_LB_BLESS=1 cargo test -p xdp-lb --lib \
             metrics_md_is_what_the_program_serves"
        );
    }
}
