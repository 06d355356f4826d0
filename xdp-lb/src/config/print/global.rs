//! `global_defs`.

use super::{Writer, seconds, word};
use crate::config::model::{Fifo, Global, Mail, SyncDaemon, TimedCommand, Timeouts};

pub(super) fn print(writer: &mut Writer, global: &Global) {
    let Global {
        router_id,
        mail,
        script_user,
        script_security,
        startup_script,
        shutdown_script,
        notify_fifo,
        vrrp_notify_fifo,
        lvs_notify_fifo,
        notify_at_start,
        log_all_failures,
        vrrp_startup_delay,
        dynamic_interfaces,
        sync,
        timeouts,
    } = global;
    writer.block_if_any("global_defs", |writer| {
        writer.optional("router_id", router_id.as_deref().map(word));
        print_mail(writer, mail);
        if let Some(user) = script_user {
            let group = user
                .group
                .as_deref()
                .map(|group| format!(" {}", word(group)));
            let group = group.unwrap_or_default();
            writer.line(format_args!("script_user {}{group}", word(&user.name)));
        }
        writer.flag("enable_script_security", *script_security);
        timed(writer, "startup_script", startup_script.as_ref());
        timed(writer, "shutdown_script", shutdown_script.as_ref());
        fifo(writer, "notify_fifo", notify_fifo.as_ref());
        fifo(writer, "vrrp_notify_fifo", vrrp_notify_fifo.as_ref());
        fifo(writer, "lvs_notify_fifo", lvs_notify_fifo.as_ref());
        writer.flag("rs_init_notifies", *notify_at_start);
        writer.flag("checker_log_all_failures", *log_all_failures);
        if !vrrp_startup_delay.is_zero() {
            let delay = seconds(*vrrp_startup_delay);
            writer.line(format_args!("vrrp_startup_delay {delay}"));
        }
        writer.flag("dynamic_interfaces", *dynamic_interfaces);
        if let Some(sync) = sync {
            print_sync(writer, sync);
        }
        if *timeouts != Timeouts::default() {
            let [tcp, fin, udp] = [timeouts.tcp, timeouts.tcp_fin, timeouts.udp].map(seconds);
            writer.line(format_args!(
                "lvs_timeouts tcp {tcp} tcpfin {fin} udp {udp}"
            ));
        }
    });
}

fn print_mail(writer: &mut Writer, mail: &Mail) {
    let Mail {
        to,
        from,
        server,
        helo_name,
        connect_timeout,
        faults,
    } = mail;
    writer.block_if_any("notification_email", |writer| {
        for address in to {
            writer.line(word(address));
        }
    });
    writer.optional("notification_email_from", from.as_deref().map(word));
    if let Some((host, port)) = server {
        writer.line(format_args!("smtp_server {} {port}", word(host)));
    }
    writer.optional("smtp_helo_name", helo_name.as_deref().map(word));
    if *connect_timeout != Mail::default().connect_timeout {
        writer.line(format_args!(
            "smtp_connect_timeout {}",
            seconds(*connect_timeout)
        ));
    }
    writer.flag("no_email_faults", !faults);
}

fn timed(writer: &mut Writer, keyword: &str, script: Option<&TimedCommand>) {
    if let Some(script) = script {
        writer.command(keyword, Some(&script.command));
        writer.line(format_args!(
            "{keyword}_timeout {}",
            seconds(script.timeout)
        ));
    }
}

fn fifo(writer: &mut Writer, keyword: &str, fifo: Option<&Fifo>) {
    if let Some(Fifo { path, script }) = fifo {
        writer.line(format_args!("{keyword} {}", word(&path.to_string_lossy())));
        writer.command(&format!("{keyword}_script"), script.as_ref());
    }
}

fn print_sync(writer: &mut Writer, sync: &SyncDaemon) {
    let SyncDaemon {
        interface,
        instance,
        id,
        max_length,
        port,
        ttl,
        group,
    } = sync;
    let instance = instance.as_deref().map(|name| format!(" {}", word(name)));
    let id = id.map(|id| format!(" id {id}"));
    let length = max_length.map(|bytes| format!(" maxlen {bytes}"));
    let [instance, id, length] = [instance, id, length].map(Option::unwrap_or_default);
    writer.line(format_args!(
        "lvs_sync_daemon {interface}{instance}{id}{length} port {port} ttl {ttl} group {group}"
    ));
}
