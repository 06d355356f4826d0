//! `xdp_lb`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Writer, word};
use crate::config::model::{EmptyPool, Endpoint, StateSync, SyncKey, XdpLb, XdpMode};

pub(super) fn print(writer: &mut Writer, ours: &XdpLb) {
    let XdpLb {
        interfaces,
        xdp_mode,
        metrics,
        connections,
        fail_static,
        empty_pool,
        drain_timeout,
        marks,
        sync,
    } = ours;
    writer.block("xdp_lb", |writer| {
        if !interfaces.is_empty() {
            let names: Vec<String> = interfaces.iter().map(|name| word(name)).collect();
            writer.line(format_args!("interface {}", names.join(" ")));
        }
        let mode = match xdp_mode {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        };
        writer.line(format_args!("xdp_mode {mode}"));
        writer.line(format_args!("metrics {metrics}"));
        writer.line(format_args!("connections {connections}"));
        let fail_static = if *fail_static { "on" } else { "off" };
        writer.line(format_args!("fail_static {fail_static}"));
        let empty_pool = match empty_pool {
            EmptyPool::Unreachable => "unreachable",
            EmptyPool::Reset => "reset",
            EmptyPool::Silent => "silent",
        };
        writer.line(format_args!("empty_pool {empty_pool}"));
        writer.line(format_args!("drain_timeout {}", drain_timeout.as_secs()));
        for (mark, endpoints) in marks {
            writer.block(&format!("fwmark {mark}"), |writer| {
                print_endpoints(writer, endpoints);
            });
        }
        if let Some(sync) = sync {
            state_sync(writer, sync);
        }
    });
}

fn state_sync(writer: &mut Writer, sync: &StateSync) {
    let StateSync {
        peers,
        key,
        interface,
        port,
        max_length,
        wait,
    } = sync;
    writer.block("sync", |writer| {
        for peer in peers {
            writer.line(format_args!("peer {peer}"));
        }
        match key {
            SyncKey::Text(secret) => {
                let secret = String::from_utf8_lossy(secret.reveal());
                writer.line(format_args!("key {}", word(&secret)));
            }
            SyncKey::File(path) => {
                writer.line(format_args!("key_file {}", word(&path.to_string_lossy())));
            }
        }
        writer.optional("interface", interface.as_deref().map(word));
        writer.optional("port", *port);
        writer.optional("maxlen", *max_length);
        writer.line(format_args!("wait {}", wait.as_secs()));
    });
}

/// A line for each address, with all its ports.
fn print_endpoints(writer: &mut Writer, endpoints: &BTreeSet<Endpoint>) {
    let mut lines: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for endpoint in endpoints {
        let address = (endpoint.protocol, endpoint.vip, endpoint.port == 0);
        let ports = lines.entry(address).or_default();
        ports.push(endpoint.port.to_string());
    }
    for ((protocol, vip, is_every_port), ports) in lines {
        let name = protocol.name();
        if is_every_port {
            writer.line(format_args!("{name} {vip}"));
            continue;
        }
        let ports = ports.join(",");
        match vip {
            IpAddr::V4(vip) => writer.line(format_args!("{name} {vip}:{ports}")),
            IpAddr::V6(vip) => writer.line(format_args!("{name} [{vip}]:{ports}")),
        }
    }
}
