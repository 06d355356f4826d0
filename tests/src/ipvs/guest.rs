//! The director with IPVS: keepalived puts the service of a case into a kernel that has `ip_vs`, in a
//! network namespace for each case, and frames come back from there.
//!
//! keepalived reads the same file as xdp-lb does, and is killed once the servers stand in IPVS's table,
//! which stays. What it would do upon a later change or a failed check is done by ipvsadm, at once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, bind, send};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

use super::case::{Case, Edit};
use super::frame::{DIRECTOR, PORT, ROUTER, server_mac, server_of};
use super::play::{Director, Servers};
use crate::netns::{Netns, output};

/// How long nothing must come back before a frame counts as dropped. What comes back is there before the
/// call that sent it returns, or a moment later.
const SILENCE: Duration = Duration::from_millis(300);
/// How long keepalived takes at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// The end of the cable at the director.
const INNER: &str = "d0";
/// The other end.
const OUTER: &str = "c0";
/// All protocols, in `linux/if_ether.h`.
const ETH_P_ALL: u16 = 3;
/// Where keepalived's file and log are.
const FOLDER: &str = "/tmp";

/// The director.
#[derive(Debug, Default)]
pub struct Ipvs {
    here: Option<Here>,
    number: u32,
}

#[derive(Debug)]
struct Here {
    netns: Netns,
    cable: Socket,
}

impl Director for Ipvs {
    fn begin(&mut self, case: &Case) -> Result<()> {
        self.here = None;
        self.number += 1;
        let netns = Netns::create(&format!("ipvs{}", self.number))?;
        let cable = network(&netns, case)?;
        configure(&netns, case).with_context(|| format!("`{}`", case.name))?;
        self.here = Some(Here { netns, cable });
        Ok(())
    }

    fn edit(&mut self, case: &Case, edit: Edit, now: &Servers) -> Result<()> {
        let here = self.here.as_ref().context("no case has begun")?;
        for vip in 0..case.vips {
            let Some(words) = command(case, vip, edit, now) else {
                continue;
            };
            here.netns.output(Command::new("ipvsadm").args(words))?;
        }
        Ok(())
    }

    fn send(&mut self, frame: &[u8]) -> Result<Option<u8>> {
        let here = self.here.as_ref().context("no case has begun")?;
        through(&here.cable, frame)
    }
}

/// What keepalived tells IPVS upon a change, in ipvsadm's words.
fn command(case: &Case, vip: u8, edit: Edit, now: &Servers) -> Option<Vec<OsString>> {
    let (verb, number, weight) = match edit {
        Edit::Weight(number, _) if now.down.contains(&number) => return None,
        Edit::Weight(number, weight) => ("--edit-server", number, Some(weight)),
        Edit::Add(number, weight) => ("--add-server", number, Some(weight)),
        Edit::Down(number) if case.inhibits() => ("--edit-server", number, Some(0)),
        Edit::Up(number) if case.inhibits() => ("--edit-server", number, Some(now.weight(number))),
        Edit::Up(number) => ("--add-server", number, Some(now.weight(number))),
        Edit::Remove(number) | Edit::Down(number) => ("--delete-server", number, None),
    };
    let protocol = if case.udp { "-u" } else { "-t" };
    let service = SocketAddr::new(case.vip(vip), PORT).to_string();
    let server = SocketAddr::new(case.server(number), PORT).to_string();
    let mut words = vec![verb, protocol, &service, "-r", &server]
        .into_iter()
        .map(OsString::from)
        .collect::<Vec<_>>();
    if let Some(weight) = weight {
        words.extend(["-g", "-w", &weight.to_string()].map(OsString::from));
        for (option, limit) in case.limits() {
            words.extend([option, limit].map(OsString::from));
        }
    }
    Some(words)
}

/// A cable in a namespace: the director's end has the addresses; what the far end sends is from clients,
/// by a router.
fn network(netns: &Netns, case: &Case) -> Result<Socket> {
    let mac = crate::packet::mac;
    let far = mac([2, 0, 0, 0, 0, 0xfe]);
    netns.ip(&format!(
        "link add {INNER} address {} type veth peer name {OUTER} address {far}",
        mac(DIRECTOR)
    ))?;
    netns.run(|| {
        for (name, value) in [
            ("ipv6/conf/c0/disable_ipv6", "1"),
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            // Refusals are told at once, however many.
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv6/icmp/ratelimit", "0"),
        ] {
            let path = Path::new("/proc/sys/net").join(name);
            fs::write(&path, value).with_context(|| path.display().to_string())?;
        }
        anyhow::Ok(())
    })??;
    let (own, router, prefix) = if case.v6 {
        ("fd00:1::1/64", "fd00:1::fe", "/128 nodad")
    } else {
        ("10.1.0.1/24", "10.1.0.254", "/32")
    };
    let nodad = if case.v6 { "nodad" } else { "" };
    let mut lines = vec![
        format!("link set {OUTER} arp off up"),
        format!("link set {INNER} up"),
        format!("addr add {own} dev {INNER} {nodad}"),
        format!("route add default via {router} dev {INNER}"),
        format!(
            "neigh replace {router} lladdr {} dev {INNER} nud permanent",
            mac(ROUTER)
        ),
    ];
    for number in 0..case.vips {
        lines.push(format!("addr add {}{prefix} dev {INNER}", case.vip(number)));
    }
    for number in 1..10 {
        let (address, mac) = (case.server(number), mac(server_mac(number)));
        lines.push(format!(
            "neigh replace {address} lladdr {mac} dev {INNER} nud permanent"
        ));
    }
    netns.ip(&lines.join("\n"))?;
    netns.run(cable)?
}

/// The far end, from where frames are sent and where they come back.
fn cable() -> Result<Socket> {
    // The number is in network byte order.
    let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all))?;
    let mut addresses = getifaddrs()?.filter(|entry| entry.interface_name == OUTER);
    let address = addresses
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no {OUTER}"))?;
    bind(socket.as_raw_fd(), &address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// Sends a frame and waits for what comes back: the frame itself on its way to a real server, or a
/// message to the client.
fn through(cable: &Socket, frame: &[u8]) -> Result<Option<u8>> {
    send(cable.as_raw_fd(), frame, MsgFlags::empty())?;
    let start = Instant::now();
    while start.elapsed() < SILENCE * 2 {
        let mut buffer = [0; 2048];
        let length = match std::io::Read::read(&mut &*cable, &mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let came = buffer.get(..length).unwrap_or_default();
        if let Some(number) = server_of(came)
            && transport(came) == transport(frame)
        {
            return Ok(Some(number));
        }
        // The director tells the client: nobody takes it.
        let (to, from) = (came.get(..6), came.get(6..12));
        if to == Some(&ROUTER) && from == Some(&DIRECTOR) && came.get(12..14) == frame.get(12..14) {
            return Ok(None);
        }
    }
    Ok(None)
}

/// What follows the IP header, which has no options.
fn transport(frame: &[u8]) -> Option<&[u8]> {
    match frame.get(12..14)? {
        [0x08, 0x00] => frame.get(34..),
        _ => frame.get(54..),
    }
}

/// Has keepalived put the service into the kernel.
fn configure(netns: &Netns, case: &Case) -> Result<()> {
    let (file, log) = (
        format!("{FOLDER}/keepalived.conf"),
        format!("{FOLDER}/keepalived.log"),
    );
    fs::write(&file, case.config(&case.servers))?;
    let pids = ["keepalived.pid", "checkers.pid"].map(|name| format!("{FOLDER}/{name}"));
    for pid in &pids {
        // That of the last one, which could not remove it.
        if Path::new(pid).exists() {
            fs::remove_file(pid)?;
        }
    }
    let mut command = Command::new("keepalived");
    command
        .args([
            "--dont-fork",
            "--log-console",
            "--check",
            "--use-file",
            &file,
        ])
        .args(["--pid", &pids[0], "--checkers_pid", &pids[1]])
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(Stdio::null())
        .process_group(0);
    let mut keepalived = netns
        .run(|| command.spawn())?
        .context("keepalived does not start")?;
    let stands = wait(netns, &mut keepalived, case);
    let ended = end(&mut keepalived);
    let said = || fs::read_to_string(&log).unwrap_or_default();
    stands.with_context(said)?;
    ended
}

fn wait(netns: &Netns, keepalived: &mut Child, case: &Case) -> Result<()> {
    let wanted = usize::from(case.vips) * case.servers.len();
    let start = Instant::now();
    loop {
        let table = netns.output(Command::new("ipvsadm").args(["--save", "--numeric"]))?;
        let services = table.lines().filter(|line| line.starts_with("-A")).count();
        let servers = table.lines().filter(|line| line.starts_with("-a")).count();
        if services == usize::from(case.vips) && servers == wanted {
            return Ok(());
        }
        if let Some(status) = keepalived.try_wait()? {
            bail!("keepalived ended ({status})");
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "keepalived set this up:\n{table}"
        );
        sleep(Duration::from_millis(20));
    }
}

/// Ends keepalived such that it takes nothing out of the table: the process that would, first, while its
/// parent cannot notice.
fn end(keepalived: &mut Child) -> Result<()> {
    let pid = Pid::from_raw(keepalived.id().try_into()?);
    kill(pid, Signal::SIGSTOP)?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        kill(Pid::from_raw(child.parse()?), Signal::SIGKILL)?;
    }
    kill(pid, Signal::SIGKILL)?;
    keepalived.wait()?;
    Ok(())
}

/// Who chooses, for the head of a record.
///
/// # Errors
/// When keepalived or ipvsadm does not run.
pub fn whose() -> Result<String> {
    let kernel = nix::sys::utsname::uname()?;
    let mut keepalived = Command::new("keepalived");
    // It tells its version on stderr.
    let said = keepalived.arg("--version").output()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let version = said
        .split_whitespace()
        .nth(1)
        .unwrap_or("of an unknown version");
    let ipvsadm = output(Command::new("ipvsadm").arg("--version"))?;
    let ipvsadm = ipvsadm
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let kernel = kernel.release().to_string_lossy();
    Ok(format!(
        "Linux {kernel}, keepalived {version}, ipvsadm {ipvsadm}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::case;
    use super::*;

    #[test]
    fn a_change_is_told_as_keepalived_tells_it() {
        let text = "== a\nrr\nreal uthreshold 2\nservers 1 2\nopen 1\n\
                    == b\nrr\nudp\nv6\nreal inhibit_on_failure\nservers 1 2\nopen 1\n";
        let cases = case::parse(text).unwrap();
        let mut now = Servers {
            listed: vec![(1, 1), (2, 2)],
            ..Servers::default()
        };
        let said = |at: usize, edit, now: &Servers| {
            let words = command(&cases[at], 0, edit, now)?;
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            Some(words.join(" "))
        };
        let edit = said(0, Edit::Weight(1, 5), &now).unwrap();
        assert_eq!(
            edit,
            "--edit-server -t 10.1.0.100:80 -r 10.1.0.11:80 -g -w 5 -x 2"
        );
        let down = said(0, Edit::Down(2), &now).unwrap();
        assert_eq!(down, "--delete-server -t 10.1.0.100:80 -r 10.1.0.12:80");
        let up = said(1, Edit::Up(2), &now).unwrap();
        assert_eq!(
            up,
            "--edit-server -u [fd00:1::64]:80 -r [fd00:1::c]:80 -g -w 2"
        );
        now.down.insert(1);
        assert_eq!(said(0, Edit::Weight(1, 5), &now), None, "it is in no table");
    }
}
