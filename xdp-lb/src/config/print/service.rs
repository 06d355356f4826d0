//! Virtual services, their real servers, and the checks of these.

use super::{Writer, seconds};
use crate::config::model::{Check, Config, Forwarding, Probe, RealServer, TcpProbe, VirtualServer};

pub(super) fn print(writer: &mut Writer, config: &Config) {
    for service in &config.virtual_servers {
        let head = format!("virtual_server {} {}", service.key.vip, service.key.port);
        writer.block(&head, |writer| print_service(writer, service));
    }
}

fn print_service(writer: &mut Writer, service: &VirtualServer) {
    let VirtualServer {
        key,
        scheduler,
        forwarding,
        persistence,
        real_servers,
    } = service;
    writer.line(format_args!("lb_algo {}", scheduler.name()));
    let kind = match forwarding {
        Forwarding::DirectRouting => "DR",
    };
    writer.line(format_args!("lb_kind {kind}"));
    writer.line(format_args!(
        "protocol {}",
        key.protocol.name().to_uppercase()
    ));
    if let Some(persistence) = persistence {
        writer.line(format_args!(
            "persistence_timeout {}",
            persistence.timeout.as_secs()
        ));
        let mask = ipnet::Ipv4Net::new([0; 4].into(), persistence.prefix_len);
        writer.optional(
            "persistence_granularity",
            mask.ok().map(|net| net.netmask()),
        );
    }
    for server in real_servers {
        print_server(writer, server);
    }
}

fn print_server(writer: &mut Writer, server: &RealServer) {
    let head = format!(
        "real_server {} {}",
        server.address.ip(),
        server.address.port()
    );
    writer.block(&head, |writer| {
        writer.line(format_args!("weight {}", server.weight));
        for check in &server.checks {
            print_check(writer, check);
        }
    });
}

fn print_check(writer: &mut Writer, check: &Check) {
    let Probe::Tcp(TcpProbe {
        target,
        source,
        connect_timeout,
    }) = &check.probe;
    writer.block("TCP_CHECK", |writer| {
        writer.line(format_args!("connect_ip {}", target.ip()));
        writer.line(format_args!("connect_port {}", target.port()));
        if let Some(source) = source {
            writer.line(format_args!("bindto {}", source.ip()));
            writer.optional("bind_port", Some(source.port()).filter(|port| *port != 0));
        }
        writer.line(format_args!(
            "connect_timeout {}",
            seconds(*connect_timeout)
        ));
        writer.line(format_args!("delay_loop {}", seconds(check.delay_loop)));
        writer.line(format_args!("retry {}", check.retry));
        let delay = seconds(check.delay_before_retry);
        writer.line(format_args!("delay_before_retry {delay}"));
        writer.line(format_args!("warmup {}", seconds(check.warmup)));
    });
}
