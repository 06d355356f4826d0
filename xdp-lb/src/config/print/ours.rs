//! `xdp_lb`.

use super::{Writer, word};
use crate::config::model::{XdpLb, XdpMode};

pub(super) fn print(writer: &mut Writer, ours: &XdpLb) {
    let XdpLb {
        interfaces,
        xdp_mode,
        metrics,
        connections,
        fail_static,
        drain_timeout,
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
    });
}
