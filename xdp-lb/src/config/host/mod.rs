//! Whether a host has what a configuration asks of it: commands that can be run, by users that exist,
//! safely; interfaces.
//!
//! In: a configuration, its places, and a [`Host`] that answers questions. Out: [`Finding`]s. What is
//! missing is no error: a host can change, and keepalived starts all the same. An interface is one if it is
//! there and packets that come in by it cannot be balanced.

mod command;
mod path;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::diagnostic::{Code, Diagnostic};
use super::model::{Config, Probe, Ssl, VirtualServer, XdpMode};
use super::places::{Places, ServicePlaces};
use super::source::Span;

/// The host that a configuration is for.
pub trait Host {
    /// What stands at a path; symbolic links are followed.
    fn file(&self, path: &Path) -> Option<File>;

    /// The path without symbolic links, if there is such a file.
    fn resolve(&self, path: &Path) -> Option<PathBuf>;

    /// Where names without `/` are looked up.
    fn search_path(&self) -> Vec<PathBuf>;

    /// What stands behind `#!` in the first line of a file, if it begins so.
    fn interpreter(&self, path: &Path) -> Option<String>;

    /// Whether there is such a user.
    fn has_user(&self, name: &str) -> bool;

    /// Whether there is such a group.
    fn has_group(&self, name: &str) -> bool;

    /// Why the files of an `SSL` block cannot be used, if they cannot.
    fn refuses_certificates(&self, ssl: &Ssl) -> Option<String>;

    /// Whether there is such a network interface.
    fn has_interface(&self, name: &str) -> bool;

    /// How the program works on an interface.
    fn ground(&self, name: &str) -> Ground;
}

/// How the program works on an interface, as far as its kind tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// As on any other.
    Good,
    /// In the stack only; why, and what to do.
    OnlyGeneric(String),
    /// Not at all; why, and what to do.
    Useless(String),
}

/// What a [`Host`] tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Permissions, with the sticky bit.
    pub mode: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// One thing that the host lacks, or that is not safe on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What to say.
    pub diagnostic: Diagnostic,
    /// Whether `keepalived -t` would complain of it, too.
    pub keepalived_complains: bool,
}

impl Finding {
    /// Something that keepalived says nothing about.
    fn ours(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostic,
            keepalived_complains: false,
        }
    }
}

/// All that there is to find.
pub fn check(config: &Config, places: &Places, host: &dyn Host) -> Vec<Finding> {
    let mut findings = commands(config, places, host);
    findings.extend(interfaces(config, places, host));
    findings.extend(grounds(config, places, host));
    findings.extend(certificates(config, places, host));
    findings
}

/// The files of the `SSL` block, if there is an `SSL_GET` that needs them.
pub fn certificates(config: &Config, places: &Places, host: &dyn Host) -> Option<Finding> {
    let servers = |(service, place): (&VirtualServer, &ServicePlaces)| {
        let servers = service.real_servers.iter().zip(&place.real_servers);
        let checks = servers.flat_map(|(server, place)| server.checks.iter().zip(&place.checks));
        let mut needs = checks.filter(|(check, _)| needs_tls(&check.probe));
        needs.next().map(|(_, span)| *span)
    };
    let mut services = config.virtual_servers.iter().zip(&places.services);
    let first = services.find_map(servers)?;
    let why = host.refuses_certificates(&config.ssl)?;
    Some(Finding::ours(
        Diagnostic::warning(
            Code::BadCertificate,
            format!("the SSL block cannot be used: {why}"),
        )
        .at(first, "this check and all others like it will fail")
        .help("correct the file and load the configuration again"),
    ))
}

fn needs_tls(probe: &Probe) -> bool {
    matches!(probe, Probe::Http(http) if http.tls.is_some())
}

/// The commands, each told about once however often the file has it.
pub fn commands(config: &Config, places: &Places, host: &dyn Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    let mut runs: Option<Span> = None;
    for placed in &places.commands {
        if !seen.insert((&placed.command, placed.purpose.as_str())) {
            continue;
        }
        let judged = command::check(config, placed, host);
        // Scripts of VRRP are not run without an instance.
        let is_run = judged.is_runnable
            && (!config.vrrp_instances.is_empty() || !command::is_of_vrrp(&placed.purpose));
        if is_run {
            runs.get_or_insert(placed.span);
        }
        findings.extend(judged.findings);
    }
    let first = runs.filter(|_| !config.global.script_security);
    findings.extend(first.map(security_notice));
    findings
}

fn security_notice(first: Span) -> Finding {
    Finding::ours(
        Diagnostic::note(
            Code::ScriptSecurity,
            "commands are run without 'enable_script_security': keepalived calls this a security \
             violation, and 'keepalived -t' exits with 6",
        )
        .at(first, "the first of them")
        .help(
            "write 'enable_script_security' into global_defs: commands that others than root can \
             change are then not run as root",
        ),
    )
}

/// The interfaces that the file names.
pub fn interfaces(config: &Config, places: &Places, host: &dyn Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    let mut look = |name: &str, span: Option<Span>, asked_by: String, consequence: &str| {
        if seen.insert(name.to_owned()) && !host.has_interface(name) {
            let diagnostic = Diagnostic::warning(
                Code::NoSuchInterface,
                format!("this host has no interface '{name}', which {asked_by} asks for"),
            );
            let diagnostic = match span {
                Some(span) => diagnostic.at(span, consequence),
                None => diagnostic.because(consequence),
            };
            findings.push(Finding {
                diagnostic,
                keepalived_complains: !config.global.dynamic_interfaces,
            });
        }
    };
    for (index, instance) in config.vrrp_instances.iter().enumerate() {
        let place = places.instances.get(index);
        let asked_by = format!("vrrp_instance {}", instance.name);
        let consequence = "keepalived would not start, unless 'dynamic_interfaces' is set";
        look(
            &instance.interface,
            place.map(|at| at.name),
            asked_by,
            consequence,
        );
        for (number, vip) in instance.virtual_addresses.iter().enumerate() {
            let Some(device) = &vip.device else {
                continue;
            };
            let span = place.and_then(|at| at.addresses.get(number).copied().or(Some(at.name)));
            let asked_by = format!("virtual_ipaddress {}", vip.address.addr());
            look(device, span, asked_by, consequence);
        }
    }
    if let Some(sync) = &config.global.sync {
        look(
            &sync.interface,
            None,
            "lvs_sync_daemon".to_owned(),
            "no connections are made known by it",
        );
    }
    for name in &config.xdp_lb.interfaces {
        look(
            name,
            None,
            "the xdp_lb block".to_owned(),
            "'xdp-lb up' would not start",
        );
    }
    findings
}

/// The interfaces that the program goes on: those of the `xdp_lb` block or, without, those of the
/// instances if there is something to balance.
pub fn grounds(config: &Config, places: &Places, host: &dyn Host) -> Vec<Finding> {
    let named = &config.xdp_lb.interfaces;
    let mut on: Vec<(&String, Option<Span>)> = named.iter().map(|name| (name, None)).collect();
    if named.is_empty() && config.services().next().is_some() {
        let instances = config.vrrp_instances.iter().enumerate();
        on.extend(instances.map(|(index, instance)| {
            let place = places.instances.get(index);
            (&instance.interface, place.map(|at| at.name))
        }));
    }
    let mut seen = BTreeSet::new();
    on.retain(|(name, _)| seen.insert(*name));
    let findings = on.into_iter().filter_map(|(name, span)| {
        let (diagnostic, consequence) = match host.ground(name) {
            Ground::Good => return None,
            Ground::OnlyGeneric(_) if config.xdp_lb.xdp_mode == XdpMode::Generic => return None,
            Ground::OnlyGeneric(why) if config.xdp_lb.xdp_mode == XdpMode::Native => (
                Diagnostic::error(Code::UselessInterface, why),
                "'xdp_mode native' is refused there",
            ),
            Ground::OnlyGeneric(why) => (
                Diagnostic::note(Code::OnlyGeneric, why),
                "the program goes on its interface",
            ),
            Ground::Useless(why) => (
                Diagnostic::error(Code::UselessInterface, why),
                "'xdp-lb up' would not start",
            ),
        };
        Some(Finding::ours(match span {
            Some(span) => diagnostic.at(span, consequence),
            None => diagnostic.because(consequence),
        }))
    });
    findings.collect()
}

#[cfg(test)]
mod tests;
