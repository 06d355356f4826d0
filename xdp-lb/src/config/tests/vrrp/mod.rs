//! VRRP: what settings mean, defaults of `global_defs`, and keepalived's effect of wrong values.

pub(super) mod goldens;
mod instances;
mod tracking;

use super::{found, said, usable};
use crate::config::diagnostic::Code;
use crate::config::model::VrrpInstance;
use crate::config::{Diagnostics, Severity};

pub(super) const ADDRESS: &str = "virtual_ipaddress {\n10.0.0.1/24\n}";
/// Objects that can be tracked.
pub(super) const OBJECTS: &str = "vrrp_script s {\nscript \"/bin/true\"\nweight 20\n}\n\
     vrrp_script z {\nscript \"/bin/true\"\n}\n\
     vrrp_script r {\nscript \"/bin/true\"\nweight 5 reverse\n}\n\
     track_file f {\nfile /tmp/f\n}\n\
     vrrp_track_process p {\nprocess nginx\n}\n\
     bfd_instance b {\nneighbor_ip 10.0.0.9\n}\n";

/// A file with `globals` and `before` above an instance A on eth0 that says `lines`.
pub(super) fn file(globals: &str, before: &str, lines: &str) -> String {
    let lines = lines.replace(';', "\n");
    format!(
        "global_defs {{\n{globals}\n}}\n{before}\
         vrrp_instance A {{\ninterface eth0\nvirtual_router_id 51\n{lines}\n}}\n"
    )
}

pub(super) fn instance_with(globals: &str, before: &str, lines: &str) -> (VrrpInstance, Vec<Code>) {
    let mut loaded = usable(&file(globals, before, lines));
    let codes = warnings(&loaded.diagnostics);
    (loaded.config.vrrp_instances.remove(0), codes)
}

pub(super) fn instance(lines: &str) -> (VrrpInstance, Vec<Code>) {
    instance_with("", "", lines)
}

/// Codes of warnings, without those of what does not work yet.
pub(super) fn warnings(diagnostics: &Diagnostics) -> Vec<Code> {
    let all = said(diagnostics).into_iter();
    all.filter(|(severity, code, ..)| *severity == Severity::Warning && *code != Code::NoEffectYet)
        .map(|(_, code, ..)| code)
        .collect()
}

pub(super) fn errors(text: &str) -> Vec<Code> {
    let all = said(&found(text)).into_iter();
    all.filter(|(severity, ..)| *severity == Severity::Error)
        .map(|(_, code, ..)| code)
        .collect()
}
