//! Health checks.

use std::fmt::Write;

use super::{Writer, seconds, word};
use crate::config::model::{
    Check, Connection, DnsProbe, FileProbe, HttpProbe, MiscProbe, Pattern, Probe, Reply, SmtpProbe,
    Sni, Ssl, UdpProbe, Url,
};

/// `log_all`: what `log_all_failures` is by default.
pub(super) fn print(writer: &mut Writer, check: &Check, log_all: bool) {
    writer.block(check.probe.name(), |writer| {
        match &check.probe {
            Probe::Tcp(connection) => print_connection(writer, connection),
            Probe::Ping(connection) => {
                writer.line(format_args!("connect_ip {}", connection.target.ip()));
                print_source(writer, connection);
            }
            Probe::Http(http) => print_http(writer, http),
            Probe::Smtp(smtp) => print_smtp(writer, smtp),
            Probe::Dns(DnsProbe {
                connection,
                record,
                name,
            }) => {
                print_connection(writer, connection);
                writer.line(format_args!("type {}", record.name()));
                writer.line(format_args!("name {}", word(name)));
            }
            Probe::Udp(udp) => print_udp(writer, udp),
            Probe::Misc(misc) => print_misc(writer, misc),
            Probe::File(file) => return print_file(writer, file),
        }
        print_times(writer, check, log_all);
    });
}

fn print_times(writer: &mut Writer, check: &Check, log_all: bool) {
    let Check {
        probe,
        delay_loop,
        retry,
        delay_before_retry,
        warmup,
        alpha,
        log_all_failures,
    } = check;
    let connection = match probe {
        Probe::Tcp(connection) | Probe::Ping(connection) => Some(connection),
        Probe::Http(http) => Some(&http.connection),
        Probe::Smtp(smtp) => smtp.connections.first(),
        Probe::Dns(dns) => Some(&dns.connection),
        Probe::Udp(udp) => Some(&udp.connection),
        Probe::Misc(_) | Probe::File(_) => None,
    };
    let timeout = connection.map(|connection| seconds(connection.connect_timeout));
    writer.optional("connect_timeout", timeout);
    writer.line(format_args!("delay_loop {}", seconds(*delay_loop)));
    writer.line(format_args!("retry {retry}"));
    let delay = seconds(*delay_before_retry);
    writer.line(format_args!("delay_before_retry {delay}"));
    writer.line(format_args!("warmup {}", seconds(*warmup)));
    writer.flag("alpha", *alpha);
    if *log_all_failures != log_all {
        let on = if *log_all_failures { "on" } else { "off" };
        writer.line(format_args!("log_all_failures {on}"));
    }
}

fn print_connection(writer: &mut Writer, connection: &Connection) {
    writer.line(format_args!("connect_ip {}", connection.target.ip()));
    writer.line(format_args!("connect_port {}", connection.target.port()));
    print_source(writer, connection);
}

fn print_source(writer: &mut Writer, connection: &Connection) {
    let Connection {
        target: _,
        source,
        interface,
        mark,
        connect_timeout: _,
    } = connection;
    if let Some(source) = source {
        writer.line(format_args!("bindto {}", source.ip()));
        writer.optional("bind_port", Some(source.port()).filter(|port| *port != 0));
    }
    writer.optional("bind_if", interface.as_deref().map(word));
    writer.optional("fwmark", Some(*mark).filter(|mark| *mark != 0));
}

fn print_http(writer: &mut Writer, http: &HttpProbe) {
    let HttpProbe {
        connection,
        tls,
        version,
        urls,
        fast_recovery,
    } = http;
    print_connection(writer, connection);
    writer.line(format_args!("http_protocol {}", version.name()));
    match tls.as_ref().and_then(|tls| tls.sni.as_ref()) {
        Some(Sni::Host) => writer.line("enable_sni"),
        Some(Sni::Name(name)) => writer.line(format_args!("sni_name {}", word(name))),
        None => {}
    }
    writer.flag("fast_recovery", *fast_recovery);
    for url in urls {
        writer.block("url", |writer| print_url(writer, url));
    }
}

fn print_url(writer: &mut Writer, url: &Url) {
    let Url {
        path,
        host,
        statuses,
        digest,
        pattern,
        tls_compliant,
    } = url;
    writer.line(format_args!("path {}", word(path)));
    writer.optional("virtualhost", host.as_deref().map(word));
    let ranges = statuses.iter().map(|range| match range {
        range if range.start() == range.end() => range.start().to_string(),
        range => format!("{}-{}", range.start(), range.end()),
    });
    let ranges: Vec<String> = ranges.collect();
    writer.line(format_args!("status_code {}", ranges.join(" ")));
    writer.optional("digest", digest.map(|digest| hex(&digest)));
    if let Some(pattern) = pattern {
        let Pattern {
            text,
            options,
            no_match,
            min_offset,
            max_offset,
        } = pattern;
        writer.line(format_args!("regex {}", word(text)));
        writer.flag("regex_no_match", *no_match);
        if !options.is_empty() {
            writer.line(format_args!("regex_options {}", options.join(" ")));
        }
        writer.line(format_args!("regex_min_offset {min_offset}"));
        writer.optional("regex_max_offset", *max_offset);
    }
    writer.flag("tls_compliant", *tls_compliant);
}

fn print_smtp(writer: &mut Writer, smtp: &SmtpProbe) {
    let SmtpProbe {
        helo_name,
        connections,
    } = smtp;
    writer.optional("helo_name", helo_name.as_deref().map(word));
    match connections.as_slice() {
        [one] => print_connection(writer, one),
        several => {
            for host in several {
                writer.block("host", |writer| print_connection(writer, host));
            }
        }
    }
}

fn print_udp(writer: &mut Writer, udp: &UdpProbe) {
    let UdpProbe {
        connection,
        payload,
        reply,
    } = udp;
    print_connection(writer, connection);
    writer.optional("payload", payload.as_deref().map(hex));
    let Some(reply) = reply else {
        return;
    };
    let Reply {
        pattern,
        min_length,
        max_length,
    } = reply;
    let mut digits = String::from("require_reply ");
    for byte in pattern {
        for shift in [4, 0] {
            let digit = char::from_digit(u32::from(byte.value >> shift & 0xf), 16);
            let counts = byte.mask >> shift & 0xf != 0;
            digits.push(digit.filter(|_| counts).unwrap_or('X'));
        }
    }
    writer.line(digits.trim_end());
    writer.line(format_args!("min_reply_length {min_length}"));
    writer.line(format_args!("max_reply_length {max_length}"));
}

fn print_misc(writer: &mut Writer, misc: &MiscProbe) {
    let MiscProbe {
        command,
        timeout,
        dynamic,
    } = misc;
    writer.command("misc_path", Some(command));
    writer.line(format_args!("misc_timeout {}", seconds(*timeout)));
    writer.flag("misc_dynamic", *dynamic);
}

fn print_file(writer: &mut Writer, file: &FileProbe) {
    let FileProbe {
        file,
        weight,
        dynamic,
    } = file;
    writer.line(format_args!("track_file {}", word(file)));
    if let Some(weight) = weight {
        let reverse = if weight.reverse { " reverse" } else { "" };
        writer.line(format_args!("weight {}{reverse}", weight.factor));
    }
    writer.flag("dynamic", *dynamic);
}

/// The `SSL` block.
pub(super) fn print_ssl(writer: &mut Writer, ssl: &Ssl) {
    let Ssl {
        password,
        ca,
        certificate,
        key,
    } = ssl;
    writer.block_if_any("SSL", |writer| {
        writer.optional("password", password.as_deref().map(word));
        for (keyword, path) in [("ca", ca), ("certificate", certificate), ("key", key)] {
            let path = path.as_ref().map(|path| word(&path.to_string_lossy()));
            writer.optional(keyword, path);
        }
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
