//! The rules of this host's firewall, as its own tools print them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::config::marks::Ruleset;

/// Longest that a tool may take; a set of rules with a million addresses takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where tools of the firewall are, beside the folders of PATH.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Asks every tool that is here. The rules are those of this process's network namespace.
pub fn rules() -> Ruleset {
    let mut failures = Vec::new();
    let mut print = |tool: &str, arguments: &[&str]| {
        let program = find(tool)?;
        match output(&program, arguments) {
            Ok(text) => Some(text),
            Err(why) => {
                failures.push(format!("{tool}: {why}"));
                None
            }
        }
    };
    let iptables = print("iptables-save", &["-t", "mangle"]);
    let ip6tables = print("ip6tables-save", &["-t", "mangle"]);
    let nftables = print("nft", &["-j", "list", "ruleset"]);
    if iptables.is_none() && nftables.is_none() && failures.is_empty() {
        failures.push("neither iptables-save nor nft is on this host".to_owned());
    }
    Ruleset {
        iptables,
        ip6tables,
        nftables,
        failures,
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let mut programs = folders.map(|folder| folder.join(tool));
    programs.find(|program| program.is_file())
}

fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (sender, printed) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = thread::spawn(move || {
        let (mut text, mut complaint) = (Vec::new(), Vec::new());
        // What cannot be read is missing, and the tool's exit status says so.
        out.map(|mut out| out.read_to_end(&mut text).ok());
        err.map(|mut err| err.read_to_end(&mut complaint).ok());
        // Nobody waits any more for one that took too long.
        sender.send((text, complaint)).ok();
    });
    let Ok((text, complaint)) = printed.recv_timeout(PATIENCE) else {
        end(&mut child);
        return Err(format!("it took more than {} s", PATIENCE.as_secs()));
    };
    drop(reader);
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let first = complaint.lines().find(|line| !line.trim().is_empty());
    Err(first.map_or_else(|| status.to_string(), |line| line.trim().to_owned()))
}

fn end(child: &mut Child) {
    // It may end by itself meanwhile.
    child.kill().ok();
    child.wait().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_heard_or_its_complaint_is() {
        let shell = find("sh").unwrap();
        assert_eq!(
            output(&shell, &["-c", "echo rules"]),
            Ok("rules\n".to_owned())
        );
        let complaint = output(&shell, &["-c", "echo; echo no >&2; exit 4"]);
        assert_eq!(complaint, Err("no".to_owned()));
        let silent = output(&shell, &["-c", "exit 4"]).unwrap_err();
        assert!(silent.contains('4'), "{silent}");
        assert_eq!(find("no-such-tool"), None);
    }
}
