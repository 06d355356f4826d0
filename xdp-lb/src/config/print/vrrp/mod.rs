//! VRRP: instances, groups, what they track.

use super::{Writer, seconds, word};
use crate::config::model::{
    Authentication, Config, Deleted, Garp, HmacKeys, InitialState, Notify, OwnRoute, OwnRule,
    Preemption, Transport, Version, VirtualInterface, VrrpInstance,
};

mod address;
mod host;
mod track;

use address::address;

/// In the order that reading them needs: what is tracked stands above what tracks it.
pub(super) fn print(writer: &mut Writer, config: &Config) {
    track::objects(writer, config);
    for instance in &config.vrrp_instances {
        let head = format!("vrrp_instance {}", word(&instance.name));
        writer.block(&head, |writer| {
            election(writer, instance);
            settings(writer, instance);
            transport(writer, instance);
            owned(writer, instance);
            track::trackers(writer, &instance.trackers, config);
            notify(writer, &instance.notify);
        });
    }
    track::groups(writer, config);
    host::print(writer, config);
}

fn election(writer: &mut Writer, instance: &VrrpInstance) {
    let state = match instance.initial_state {
        InitialState::Master => "MASTER",
        InitialState::Backup => "BACKUP",
    };
    writer.line(format_args!("state {state}"));
    writer.line(format_args!("interface {}", word(&instance.interface)));
    let id = instance.virtual_router_id;
    writer.line(format_args!("virtual_router_id {id}"));
    writer.line(format_args!("priority {}", instance.priority));
    writer.line(format_args!("version {}", instance.version.number()));
    let interval = seconds(instance.version.advert_interval());
    writer.line(format_args!("advert_int {interval}"));
    match &instance.version {
        Version::V2 { authentication, .. } => {
            if let Some(authentication) = authentication {
                password(writer, authentication);
            }
        }
        Version::V3 { checksum_as_v2, .. } => writer.flag("v3_checksum_as_v2", *checksum_as_v2),
    }
    if let Some(hmac) = &instance.hmac {
        signed(writer, hmac);
    }
    match instance.preemption {
        Preemption::Never => writer.line("nopreempt"),
        Preemption::After(delay) if delay.is_zero() => {}
        Preemption::After(delay) => writer.line(format_args!("preempt_delay {}", seconds(delay))),
    }
    writer.line(format_args!(
        "down_timer_adverts {}",
        instance.down_timer_adverts
    ));
}

fn password(writer: &mut Writer, authentication: &Authentication) {
    writer.block("authentication", |writer| {
        writer.line("auth_type PASS");
        writer.line(format_args!("auth_pass {}", word(authentication.text())));
    });
}

fn signed(writer: &mut Writer, hmac: &HmacKeys) {
    writer.block("auth_hmac", |writer| {
        writer.line(format_args!("mode {}", hmac.mode.name()));
        writer.line(format_args!("send_key {}", hmac.send_key));
        for (id, secret) in &hmac.keys {
            let digits: Vec<String> = secret.bytes().iter().map(|b| format!("{b:02x}")).collect();
            let digits = digits.concat();
            writer.line(format_args!("key {id} {digits}"));
        }
    });
}

fn settings(writer: &mut Writer, instance: &VrrpInstance) {
    garp(writer, &instance.garp);
    writer.flag("lower_prio_no_advert", instance.lower_prio_no_advert);
    writer.optional("higher_prio_send_advert", instance.higher_prio_send_advert);
    writer.flag("owner_ignore_adverts", instance.owner_ignore_adverts);
    writer.flag("timer_expired_backup", instance.timer_expired_backup);
    writer.flag("strict_mode", instance.strict);
    writer.flag("skip_check_adv_addr", instance.skip_check_adv_addr);
    writer.flag("no_accept", !instance.accept);
    writer.flag("use_vmac_addr", instance.vmac_addresses);
    match &instance.virtual_interface {
        None => {}
        Some(VirtualInterface::Vmac {
            name,
            mac,
            adverts_below,
        }) => {
            let mac = mac.map(|mac| {
                let bytes = mac.map(|byte| format!("{byte:02x}"));
                format!(" {}", bytes.join(":"))
            });
            let mac = mac.unwrap_or_default();
            writer.line(format_args!("use_vmac {}{mac}", word(name)));
            writer.flag("vmac_xmit_base", *adverts_below);
        }
        Some(VirtualInterface::Ipvlan { name, address }) => {
            let address = address.map(|address| format!(" {address}"));
            let address = address.unwrap_or_default();
            writer.line(format_args!("use_ipvlan {}{address}", word(name)));
        }
    }
    writer.optional("kernel_rx_buf_size", instance.receive_buffer);
    writer.flag("promote_secondaries", instance.promote_secondaries);
    writer.flag("dont_track_primary", instance.ignore_own_interface);
}

fn garp(writer: &mut Writer, garp: &Garp) {
    let Garp {
        delay,
        repeat,
        refresh,
        refresh_repeat,
        lower_prio_delay,
        lower_prio_repeat,
        extra,
    } = garp;
    writer.line(format_args!("garp_master_delay {}", seconds(*delay)));
    writer.line(format_args!("garp_master_repeat {repeat}"));
    writer.optional("garp_master_refresh", refresh.map(seconds));
    writer.line(format_args!("garp_master_refresh_repeat {refresh_repeat}"));
    let delay = seconds(*lower_prio_delay);
    writer.line(format_args!("garp_lower_prio_delay {delay}"));
    writer.line(format_args!("garp_lower_prio_repeat {lower_prio_repeat}"));
    if let Some(extra) = extra {
        let all = if extra.all { "all " } else { "" };
        writer.line(format_args!(
            "garp_extra_if {all}{}",
            seconds(extra.interval)
        ));
    }
}

fn transport(writer: &mut Writer, instance: &VrrpInstance) {
    let track = if instance.track_source { " track" } else { "" };
    let source = |writer: &mut Writer, keyword: &str| match instance.source {
        Some(source) => writer.line(format_args!("{keyword} {source}{track}")),
        None => writer.flag("track_src_ip", instance.track_source),
    };
    match &instance.transport {
        Transport::Multicast { group } => {
            writer.line(format_args!("mcast_dst_ip {group}"));
            source(writer, "mcast_src_ip");
        }
        Transport::NoPeer => {
            source(writer, "unicast_src_ip");
            writer.line("unicast_fault_no_peer");
        }
        Transport::Unicast {
            peers,
            ttl,
            check_source,
            old_checksum,
        } => {
            source(writer, "unicast_src_ip");
            writer.line(format_args!("unicast_ttl {ttl}"));
            writer.flag("check_unicast_src", *check_source);
            match old_checksum {
                None => {}
                Some(true) => writer.line("old_unicast_checksum"),
                Some(false) => writer.line("old_unicast_checksum never"),
            }
            writer.block("unicast_peer", |writer| {
                for peer in peers {
                    let min = (peer.min_ttl > 0).then(|| format!(" min_ttl {}", peer.min_ttl));
                    let max = (peer.max_ttl < 255).then(|| format!(" max_ttl {}", peer.max_ttl));
                    let limits = [min, max].map(Option::unwrap_or_default).concat();
                    writer.line(format_args!("{}{limits}", peer.address));
                }
            });
        }
    }
}

fn owned(writer: &mut Writer, instance: &VrrpInstance) {
    writer.block_if_any("virtual_ipaddress", |writer| {
        for own in &instance.virtual_addresses {
            writer.line(address(own));
        }
    });
    let version_3 = matches!(instance.version, Version::V3 { .. });
    let none = instance.virtual_addresses.is_empty();
    writer.flag("no_virtual_ipaddress", none && version_3);
    if none && instance.family == crate::config::model::Family::V6 {
        writer.line("native_ipv6");
    }
    writer.block_if_any("virtual_ipaddress_excluded", |writer| {
        for own in &instance.excluded_addresses {
            writer.line(address(own));
        }
    });
    writer.block_if_any("virtual_routes", |writer| {
        for own in &instance.routes {
            route(writer, own);
        }
    });
    writer.block_if_any("virtual_rules", |writer| {
        for own in &instance.rules {
            rule(writer, own);
        }
    });
}

fn route(writer: &mut Writer, route: &OwnRoute) {
    let has_device = route
        .words
        .iter()
        .any(|word| word == "dev" || word == "oif");
    let no_track = has_device && !route.tracked;
    words(writer, &route.words, no_track, route.track_group.as_deref());
}

fn rule(writer: &mut Writer, rule: &OwnRule) {
    words(
        writer,
        &rule.words,
        !rule.tracked,
        rule.track_group.as_deref(),
    );
}

fn words(writer: &mut Writer, words: &[String], no_track: bool, group: Option<&str>) {
    let mut line: Vec<String> = words.iter().map(|text| word(text)).collect();
    if no_track {
        line.push("no_track".to_owned());
    }
    if let Some(group) = group {
        line.extend(["track_group".to_owned(), word(group)]);
    }
    writer.line(line.join(" "));
}

fn notify(writer: &mut Writer, notify: &Notify) {
    let Notify {
        master,
        backup,
        fault,
        stop,
        deleted,
        any,
        lower_priority,
        priority_changes,
        mail,
    } = notify;
    writer.command("notify_master", master.as_ref());
    writer.command("notify_backup", backup.as_ref());
    writer.command("notify_fault", fault.as_ref());
    writer.command("notify_stop", stop.as_ref());
    match deleted {
        Deleted::Fault => {}
        Deleted::Named => writer.line("notify_deleted"),
        Deleted::Runs(command) => writer.command("notify_deleted", Some(command)),
    }
    writer.command("notify", any.as_ref());
    writer.command("notify_master_rx_lower_pri", lower_priority.as_ref());
    writer.flag("notify_priority_changes", *priority_changes);
    writer.flag("smtp_alert", *mail);
}
