//! What belongs to the director and not to an instance.

use super::address::address;
use super::{route, rule};
use crate::config::model::{Announcements, Config};
use crate::config::print::{Writer, seconds, word};

pub(super) fn print(writer: &mut Writer, config: &Config) {
    writer.block_if_any("static_ipaddress", |writer| {
        for own in &config.static_addresses {
            let group = own.track_group.as_deref();
            let group = group.map(|name| format!(" track_group {}", word(name)));
            let group = group.unwrap_or_default();
            writer.line(format_args!("{}{group}", address(&own.address)));
        }
    });
    writer.block_if_any("static_routes", |writer| {
        for own in &config.static_routes {
            route(writer, own);
        }
    });
    writer.block_if_any("static_rules", |writer| {
        for own in &config.static_rules {
            rule(writer, own);
        }
    });
    announcements(writer, &config.announcements);
    writer.block_if_any("interface_up_down_delays", |writer| {
        for delay in &config.link_delays {
            let [down, up] = [delay.down, delay.up].map(seconds);
            writer.line(format_args!("{} {down} {up}", word(&delay.interface)));
        }
    });
}

fn announcements(writer: &mut Writer, announcements: &Announcements) {
    let Announcements {
        garp_interval,
        na_interval,
        groups,
    } = announcements;
    writer.block_if_any("global_defs", |writer| {
        for (keyword, interval) in [
            ("vrrp_garp_interval", garp_interval),
            ("vrrp_gna_interval", na_interval),
        ] {
            if !interval.is_zero() {
                writer.line(format_args!("{keyword} {}", seconds(*interval)));
            }
        }
    });
    for group in groups {
        writer.block("garp_group", |writer| {
            writer.optional("garp_interval", group.garp_interval.map(seconds));
            writer.optional("gna_interval", group.na_interval.map(seconds));
            writer.block("interfaces", |writer| {
                for interface in &group.interfaces {
                    writer.line(word(interface));
                }
            });
        });
    }
}
