//! `xdp_lb`.

use super::{Writer, word};
use crate::config::model::{StateSync, SyncKey, XdpLb, XdpMode};

pub(super) fn print(writer: &mut Writer, ours: &XdpLb) {
    let XdpLb {
        interfaces,
        xdp_mode,
        metrics,
        connections,
        fail_static,
        drain_timeout,
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
        writer.line(format_args!("drain_timeout {}", drain_timeout.as_secs()));
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
