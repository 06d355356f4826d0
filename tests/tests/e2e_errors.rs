//! Wrong input: each mistake gives one clear line (what, why, what to do) on standard error, exit 1,
//! or 2 for wrong usage, and nothing on the machine is other than before.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use xdp_lb_tests::cluster::{real_server, virtual_server, vrrp_instance};
use xdp_lb_tests::director::{Director, Service, program, traces};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{link, needs};

/// What any of these commands may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// A host with [`INTERFACE`], and a folder for files.
struct Site {
    netns: Netns,
    instance: String,
    folder: TempDir,
}

/// How a command ended.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Site {
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    fn new(tag: &str) -> Self {
        let prefix = unique_prefix(tag);
        let netns = Netns::create(&format!("{prefix}host")).unwrap();
        netns
            .ip(&format!(
                "link add name {INTERFACE} type veth peer name peer0\n\
                 address add 10.80.0.1/24 dev {INTERFACE}\n\
                 link set dev peer0 up\n\
                 link set dev {INTERFACE} up"
            ))
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Others than root are to reach what lies in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            netns,
            instance: prefix.trim_end_matches('-').to_owned(),
            folder,
        }
    }

    /// Writes a file.
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A file that is fine.
    fn good_file(&self) -> PathBuf {
        self.file("good.conf", &good())
    }

    /// `xdp-lb up` for a file.
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn up(&self, file: &Path) -> Command {
        let mut command = Command::new(program().unwrap());
        command.arg("up").arg("-f").arg(file);
        command.args(["--instance", &self.instance]);
        command
    }

    /// Runs a command to its end.
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn run(&self, command: &mut Command) -> Outcome {
        let mut process =
            Process::start("command", &self.netns, command, self.folder.path()).unwrap();
        let status = process.wait(LIMIT).unwrap();
        Outcome {
            code: status.code(),
            stdout: process.stdout().unwrap(),
            stderr: fs::read_to_string(process.log()).unwrap(),
        }
    }

    /// All that a start could leave: pins, folder, addresses, links with their programs, processes.
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn traces(&self) -> BTreeSet<String> {
        let mut found: BTreeSet<_> = traces(&self.instance)
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        for device in ["lo", INTERFACE, "peer0"] {
            let addresses = link::addresses(&self.netns, device).unwrap().addr_info;
            // IPv6 addresses come by themselves a moment after the link.
            let v4 = addresses.into_iter().filter_map(|a| a.local);
            let v4 = v4.filter(|address| !address.contains(':'));
            found.extend(v4.map(|address| format!("{address} on {device}")));
            let program = link::show(&self.netns, device).unwrap().xdp;
            found.extend(program.map(|xdp| format!("{} XDP on {device}", xdp.name())));
        }
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|p| fs::read_to_string(p.path().join("cmdline")).ok());
        found.extend(lines.filter(|line| line.contains(&format!("\0{}\0", self.instance))));
        found
    }

    /// Runs a command that must fail with one line that holds each of `parts`, and leave nothing.
    fn fails(&self, command: &mut Command, parts: &[&str]) -> Outcome {
        let before = self.traces();
        let outcome = self.run(command);
        let Outcome {
            code,
            stdout,
            stderr,
        } = &outcome;
        assert_eq!(*code, Some(1), "{stderr}");
        assert_eq!(stdout, "", "data goes there, and there is none");
        let line = the_error(stderr);
        for part in parts {
            assert!(line.contains(part), "no '{part}' in: {line}");
        }
        assert_eq!(self.traces(), before);
        outcome
    }
}

/// The one line of an error; the last one that is said.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn the_error(stderr: &str) -> String {
    let errors = stderr.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{stderr}");
    assert!(
        last.len() < 500,
        "{} characters are no line: {last}",
        last.len()
    );
    last.to_owned()
}

fn good() -> String {
    let service = virtual_server(&format!("lb_algo rr\n{}", real_server(1, 1)));
    vrrp_instance("MASTER") + &service
}

#[test]
fn a_missing_file_is_named() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ea");
    let missing = site.folder.path().join("missing.conf");
    let name = missing.display().to_string();
    site.fails(
        &mut site.up(&missing),
        &["no configuration file", &name, "-f FILE"],
    );
}

/// Root may read every file: for one that may not be read see [`whoever_is_not_root_is_told`].
#[test]
fn a_folder_is_no_file() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("eb");
    let name = site.folder.path().display().to_string();
    site.fails(&mut site.up(site.folder.path()), &[&name, "directory"]);
}

#[test]
fn errors_in_a_file_are_shown_with_their_places() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ec");
    let cases = [
        // What is wrong, what is put in its place, what is said, where the word stands.
        ("protocol TCP", "protocol SCTP", "SCTP", "protocol"),
        ("TCP_CHECK {", "BFD_CHECK {", "BFD", "BFD_CHECK"),
    ];
    for (right, wrong, said, word) in cases {
        let text = good().replace(right, wrong);
        assert_ne!(text, good());
        let file = site.file("wrong.conf", &text);
        let name = file.display().to_string();
        let outcome = site.fails(&mut site.up(&file), &[&name, "1 error", "correct the file"]);
        let before = text.lines().take_while(|line| !line.contains(word));
        let place = format!("{name}:{}:", before.count() + 1);
        let stderr = outcome.stderr;
        assert!(stderr.contains(&place), "no {place} in: {stderr}");
        assert!(
            stderr.contains("error[") && stderr.contains(said),
            "{stderr}"
        );
    }
}

#[test]
fn every_error_of_a_file_is_shown_at_once() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ed");
    let other = good()[vrrp_instance("MASTER").len()..]
        .replace("protocol TCP", "protocol SCTP")
        .replace(" 80 {", " 81 {");
    let text = good().replace("protocol TCP", "protocol SCTP") + &other;
    let file = site.file("wrong.conf", &text);
    let outcome = site.fails(&mut site.up(&file), &["2 errors"]);
    assert_eq!(
        outcome.stderr.matches("error[").count(),
        2,
        "{}",
        outcome.stderr
    );
}

#[test]
fn whoever_is_not_root_is_told() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ee");
    // The build may lie where only root looks.
    let copy = site.folder.path().join("xdp-lb");
    fs::copy(program().unwrap(), &copy).unwrap();
    let file = site.good_file();
    let as_nobody = |file: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&copy).arg("up").arg("-f").arg(file);
        command.args(["--instance", &site.instance]);
        command
    };
    let lacks = "lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF";
    site.fails(&mut as_nobody(&file), &["must run as root", lacks]);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let name = file.display().to_string();
    site.fails(
        &mut as_nobody(&file),
        &["may not read", &name, "run as root"],
    );
}

#[test]
fn root_without_capabilities_is_told_which() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ef");
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-bpf,-sys_admin");
    let up = site.up(&site.good_file());
    command.arg(up.get_program()).args(up.get_args());
    site.fails(&mut command, &["must run as root", "lacks CAP_BPF"]);
}

/// In a user namespace of its own a process has every capability, but the kernel gives programs and
/// maps only to those who have them on the whole machine: a rootless container.
#[test]
fn a_kernel_that_refuses_the_program_is_quoted() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("eg");
    let script = format!(
        "ip link add name {INTERFACE} type veth peer name peer0 && \
         ip link set {INTERFACE} up && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    let up = site.up(&site.good_file());
    command.arg(up.get_program()).args(up.get_args());
    let parts = ["the kernel refused", "Operation not permitted", "CAP_BPF"];
    site.fails(&mut command, &parts);
}

#[test]
fn an_interface_that_does_not_exist_is_named_with_those_that_do() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("eh");
    let mut up = site.up(&site.good_file());
    up.args(["--interface", "eth7"]);
    let exist = "this host has eth0, lo, peer0";
    site.fails(&mut up, &["no interface 'eth7'", "--interface", exist]);

    let elsewhere = good().replace("interface eth0", "interface eth8");
    let file = site.file("elsewhere.conf", &elsewhere);
    let parts = ["no interface 'eth8'", "vrrp_instance VI_1", exist];
    site.fails(&mut site.up(&file), &parts);
}

#[test]
fn an_interface_without_xdp_is_named() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ei");
    site.netns.ip("link add name br0 type bridge").unwrap();
    let mut up = site.up(&site.good_file());
    // The first one takes it, and is let go again.
    up.args([
        "--interface",
        INTERFACE,
        "--interface",
        "br0",
        "--xdp-mode",
        "native",
    ]);
    let parts = ["br0 in native mode", "not supported", "--xdp-mode generic"];
    site.fails(&mut up, &parts);
}

#[test]
fn somebody_elses_program_stays_where_it_is() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ej");
    let rig = xdp_lb_tests::xdp::rig().unwrap();
    let _theirs = xdp_lb_tests::xdp::Pass::attach(&rig, &site.netns, INTERFACE).unwrap();
    let parts = [
        INTERFACE,
        "another XDP program is attached there",
        "xdp off",
    ];
    site.fails(&mut site.up(&site.good_file()), &parts);
}

#[test]
fn metrics_on_an_address_in_use_are_refused() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ek");
    let taken = SocketAddr::from(([127, 0, 0, 1], 9165));
    let _holder = site
        .netns
        .run(|| TcpListener::bind(taken))
        .unwrap()
        .unwrap();
    let parts = ["127.0.0.1:9165", "in use", "`--metrics`"];
    site.fails(&mut site.up(&site.good_file()), &parts);

    let mut up = site.up(&site.good_file());
    up.args(["--metrics", "10.80.0.99:9165"]);
    site.fails(
        &mut up,
        &["10.80.0.99:9165", "Cannot assign requested address"],
    );
}

/// The services, without what its server is like: that changes by itself.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn services(director: &Director) -> Vec<Service> {
    let mut services = director.list().unwrap().services;
    for service in &mut services {
        service.real_servers.clear();
    }
    services
}

#[test]
fn a_second_agent_of_a_name_leaves_the_first_alone() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("el");
    let mut first = Director::new(&site.netns, &site.instance, site.folder.path(), &[]).unwrap();
    first.configure(&good()).unwrap();
    first.start().unwrap();
    let pid = first.pid().unwrap().to_string();
    let before = services(&first);
    let name = format!("instance '{}' runs already (pid {pid})", site.instance);
    let parts = [&*name, "--instance"];
    site.fails(&mut site.up(&first.file()), &parts);
    assert_eq!(first.pid().unwrap().to_string(), pid);
    assert_eq!(services(&first), before);
    assert!(first.end_by(Signal::SIGTERM).unwrap().success());
}

#[test]
fn a_question_to_nobody_fails() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("em");
    for verb in ["list", "vrrp", "status"] {
        let mut command = Command::new(program().unwrap());
        command.args([verb, "--instance", &site.instance]);
        site.fails(&mut command, &[&site.instance, "xdp-lb up"]);
    }
}

#[test]
fn wrong_usage_is_no_failure() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("en");
    let before = site.traces();
    let wrong: [&[&str]; 6] = [
        &["up", "--xdp-mode", "fast"],
        &["up", "--metrics", "here"],
        &["up", "--no-such-flag"],
        &["list", "--instance", "../x"],
        &["balance"],
        &["realserver"],
    ];
    for words in wrong {
        let mut command = Command::new(program().unwrap());
        let Outcome {
            code,
            stdout,
            stderr,
        } = site.run(command.args(words));
        assert_eq!(code, Some(2), "{words:?}: {stderr}");
        assert_eq!(stdout, "", "{words:?}");
        let errors = stderr.lines().filter(|line| line.starts_with("error: "));
        assert!(
            errors.count() <= 1 && !stderr.is_empty(),
            "{words:?}: {stderr}"
        );
    }
    assert_eq!(site.traces(), before);
}
