//! Keeps decision logic apart from effects: the pure modules get time and events as arguments and
//! return actions, so that tests can drive them on a virtual clock.
//!
//! Judged by the paths that their sources name. Addresses (`std::net::IpAddr`) and spans
//! (`std::time::Duration`) are values and welcome; sockets, files, clocks, threads, the environment
//! and the modules that use them are not.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::paths::{Named, named};
use crate::progress::say;
use crate::tree;

/// Modules of the agent that are pure, as far as they exist.
const PURE: [&str; 6] = ["config", "health", "machine", "plan", "sync", "vrrp"];
/// The one file that reads what a pure module is about.
const READER: &str = "xdp-lb/src/config/source.rs";

/// What no pure module names, nor anything inside it.
const EFFECTS: [&str; 24] = [
    "hyper",
    "nix",
    "rand",
    "rtnetlink",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "tokio",
    "tokio_util",
    "tracing",
];
/// Imports that would bring the above in under a name that this check does not know.
const HIDING: [&str; 6] = [
    "std",
    "std::*",
    "std::net",
    "std::net::*",
    "std::time",
    "std::time::*",
];

/// Checks all pure modules; says what is wrong where.
pub(super) fn check() -> Result<()> {
    let mut files = Vec::new();
    collect(&tree::root().join("xdp-lb-common/src"), &mut files)?;
    for module in PURE {
        let module = tree::root().join("xdp-lb/src").join(module);
        if module.exists() {
            collect(&module, &mut files)?;
        }
        files.extend(Some(module.with_extension("rs")).filter(|file| file.is_file()));
    }
    files.sort_unstable();
    let mut wrong = 0;
    for file in &files {
        let shown = file.strip_prefix(tree::root()).unwrap_or(file);
        let source = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        for Named { line, path } in named(&source) {
            if let Some(why) = objection(shown, &path) {
                say(format_args!(
                    "{}:{line}: `{path}` in a pure module: {why}",
                    shown.display()
                ));
                wrong += 1;
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} effects in pure modules: move them to the module that drives this one");
    }
    say(format_args!(
        "{} files of pure modules name no effect",
        files.len()
    ));
    Ok(())
}

/// The sources below a folder. Those that hold tests alone may do what they like.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Why this file may not name this path.
fn objection(file: &Path, path: &str) -> Option<&'static str> {
    if file == Path::new(READER) {
        return None;
    }
    let path = path.replacen("core::", "std::", 1);
    if HIDING.contains(&path.as_str()) {
        return Some("import the items by name, so that this check sees them");
    }
    let within = |outer: &str| {
        path.strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    if EFFECTS.into_iter().any(within) {
        return Some("effects and clocks are for its callers");
    }
    let sibling = path.strip_prefix("crate::")?.split("::").next()?;
    let in_agent = file.starts_with("xdp-lb/src");
    (in_agent && !PURE.contains(&sibling)).then_some("pure modules import only each other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_refused_and_values_are_not() {
        let cases = [
            ("tokio", true),
            ("tokio::sync::watch", true),
            ("tokio_util::codec", true),
            ("tokiosk::Menu", false),
            ("std::time::Instant", true),
            ("std::time::Instant::now", true),
            ("core::time::Duration", false),
            ("std::time::Duration", false),
            ("std::time", true),
            ("std::net::*", true),
            ("std::net::IpAddr", false),
            ("std::net::SocketAddr::new", false),
            ("std::net::UdpSocket::bind", true),
            ("std::io::Error", false),
            ("std::io::stdin", true),
            ("crate::config::model::Config", false),
            ("crate::net::links", true),
            ("crate::dataplane", true),
            ("super::model", false),
        ];
        for (path, refused) in cases {
            let said = objection(Path::new("xdp-lb/src/plan/diff.rs"), path);
            assert_eq!(said.is_some(), refused, "{path}: {said:?}");
        }
    }

    #[test]
    fn one_file_reads_sources_and_the_common_crate_has_modules_of_its_own() {
        assert_eq!(objection(Path::new(READER), "std::fs::read"), None);
        let common = Path::new("xdp-lb-common/src/flow.rs");
        assert_eq!(objection(common, "crate::addr::Addr"), None);
        assert!(objection(common, "std::fs").is_some());
    }
}
