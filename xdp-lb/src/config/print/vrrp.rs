//! VRRP: instances, groups, what they track.

use super::{Writer, word};
use crate::config::model::{Config, InitialState, VrrpInstance};

pub(super) fn print(writer: &mut Writer, config: &Config) {
    for instance in &config.vrrp_instances {
        let head = format!("vrrp_instance {}", word(&instance.name));
        writer.block(&head, |writer| print_instance(writer, instance));
    }
}

fn print_instance(writer: &mut Writer, instance: &VrrpInstance) {
    let VrrpInstance {
        name: _,
        initial_state,
        interface,
        virtual_router_id,
        priority,
        virtual_addresses,
    } = instance;
    let state = match initial_state {
        InitialState::Master => "MASTER",
        InitialState::Backup => "BACKUP",
    };
    writer.line(format_args!("state {state}"));
    writer.line(format_args!("interface {}", word(interface)));
    writer.line(format_args!("virtual_router_id {virtual_router_id}"));
    writer.line(format_args!("priority {priority}"));
    writer.block_if_any("virtual_ipaddress", |writer| {
        for address in virtual_addresses {
            let device = address
                .device
                .as_deref()
                .map(|name| format!(" dev {}", word(name)));
            let label = address
                .label
                .as_deref()
                .map(|name| format!(" label {}", word(name)));
            let broadcast = address.broadcast.map(|address| format!(" brd {address}"));
            let scope = (address.scope != 0).then(|| format!(" scope {}", address.scope));
            let options = [device, label, broadcast, scope].map(Option::unwrap_or_default);
            writer.line(format_args!("{}{}", address.address, options.concat()));
        }
    });
}
