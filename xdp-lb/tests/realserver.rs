//! `xdp-lb realserver` against a real kernel, in namespaces of its own. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use support::{Namespace, can_run, pair};
use xdp_lb::cli::realserver::{RealServerArgs, run};
use xdp_lb::net::watch::Watcher;
use xdp_lb::realserver::RealServer;
use xdp_lb::realserver::status::Verdict;

const VIP: &str = "10.77.0.200";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    realserver: RealServerArgs,
}

/// The command in a namespace: exit code and standard output.
fn command(namespace: &Namespace, arguments: &str) -> anyhow::Result<(ExitCode, String)> {
    let words = ["realserver"]
        .into_iter()
        .chain(arguments.split_whitespace());
    let cli = Cli::parse_from(words);
    namespace.block_on(async || {
        let mut out = Vec::new();
        let of_file = |path: &Path| {
            anyhow::ensure!(
                path == Path::new("two.conf"),
                "no such file: {}",
                path.display()
            );
            Ok(vec![VIP.parse().unwrap(), "fd77::200".parse().unwrap()])
        };
        let code = run(&cli.realserver, of_file, &mut out).await?;
        Ok((code, String::from_utf8(out)?))
    })
}

fn sysctl(namespace: &Namespace, name: &str) -> String {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf").join(name);
    namespace.enter(|| std::fs::read_to_string(path).unwrap().trim().to_owned())
}

fn set_sysctl(namespace: &Namespace, name: &str, value: &str) {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf").join(name);
    namespace.enter(|| std::fs::write(path, value).unwrap());
}

fn everything(namespace: &Namespace) -> (String, Vec<String>) {
    let sysctls = [
        "all/arp_ignore",
        "all/arp_announce",
        "lo/arp_ignore",
        "lo/arp_announce",
    ];
    let sysctls = sysctls.iter().map(|name| sysctl(namespace, name)).collect();
    (namespace.ip("-o addr show"), sysctls)
}

#[test]
fn up_status_and_down_leave_the_host_as_it_was() {
    if !can_run() {
        return;
    }
    let (_director, server) = pair();
    set_sysctl(&server, "all/arp_announce", "1");
    let before = everything(&server);

    let (code, lines) = command(&server, &format!("status --vip {VIP}")).unwrap();
    assert_eq!(code, ExitCode::FAILURE);
    assert!(
        lines.contains("wrong   10.77.0.200/32 is not on lo"),
        "{lines}"
    );

    let (code, lines) = command(&server, "up -f two.conf").unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(
        lines,
        "set     net.ipv4.conf.all.arp_ignore = 1 (was 0)\n\
         set     net.ipv4.conf.all.arp_announce = 2 (was 1)\n\
         set     net.ipv4.conf.lo.arp_ignore = 1 (was 0)\n\
         set     net.ipv4.conf.lo.arp_announce = 2 (was 0)\n\
         add     10.77.0.200/32 on lo\n\
         add     fd77::200/128 on lo\n"
    );
    let lo = server.ip("-o addr show dev lo");
    assert!(lo.contains("inet 10.77.0.200/32 scope host lo"), "{lo}");
    assert!(lo.contains("inet6 fd77::200/128"), "{lo}");
    let (code, lines) = command(&server, "status").unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(lines.lines().all(|line| line.starts_with("ok ")), "{lines}");

    let up = everything(&server);
    let (code, lines) = command(&server, "up -f two.conf").unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(
        lines.lines().all(|line| line.starts_with("stands ")),
        "{lines}"
    );
    assert_eq!(everything(&server), up);

    let (code, lines) = command(&server, "down").unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    assert_eq!(lines.lines().count(), 6, "{lines}");
    assert_eq!(everything(&server), before);
    let (code, lines) = command(&server, "down").unwrap();
    assert_eq!((code, lines.as_str()), (ExitCode::SUCCESS, ""));
    let refused = command(&server, "up").unwrap_err();
    assert_eq!(
        format!("{refused:#}"),
        "cannot take the VIPs from a file; name them by --vip IP, or the file by -f FILE: no such \
         file: /etc/keepalived/keepalived.conf"
    );
}

#[test]
fn what_is_beyond_us_is_said_and_fails() {
    if !can_run() {
        return;
    }
    let (_director, server) = pair();
    server.ip("addr add 10.77.0.200/24 dev eth0");
    let folder = tempfile::tempdir().unwrap();
    let vips: BTreeSet<IpAddr> = [VIP.parse().unwrap()].into();
    server.block_on(async || {
        let realserver = RealServer::open_in(folder.path()).unwrap();
        let findings = realserver.up(&vips, |_| {}).await.unwrap();
        let wrong: Vec<_> = findings
            .iter()
            .filter(|f| f.verdict == Verdict::Wrong)
            .collect();
        assert_eq!(wrong.len(), 1, "{findings:?}");
        assert!(wrong[0].text.contains("is also on eth0"));
        let local = ["127.0.0.9".parse().unwrap()].into();
        let refused = realserver.up(&local, |_| {}).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "127.0.0.9 cannot be a virtual IP address"
        );

        let file = std::fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        std::fs::write(&file, "{").unwrap();
        let refused = realserver.down(None, |_| {}).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with(&format!("{} is damaged", file.display()))
        );
    });
}

#[test]
fn a_real_server_takes_packets_for_the_vip_and_never_answers_arp_for_it() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    server.ip("addr add 10.77.0.200/32 dev lo");
    let folder = tempfile::tempdir().unwrap();
    let vips: BTreeSet<IpAddr> = [VIP.parse().unwrap()].into();
    director.block_on(async || {
        let (_watcher, mut network) = Watcher::start(vips.clone()).await.unwrap();
        let bound = Duration::from_secs(10);
        // The mistake that `up` prevents: the VIP on lo alone, and Linux answers for it.
        let answered = network.wait_for(|network| !network.reach.is_empty());
        tokio::time::timeout(bound, answered)
            .await
            .unwrap()
            .unwrap();

        server.block_on(async || {
            RealServer::open_in(folder.path())
                .unwrap()
                .up(&vips, |_| {})
                .await
                .unwrap();
        });
        director.ip("neigh change 10.77.0.200 dev eth0 nud probe");
        let silent = network.wait_for(|network| network.reach.is_empty());
        tokio::time::timeout(bound, silent).await.unwrap().unwrap();
    });
    // A frame for the VIP that comes to this server's MAC, as the director sends it, is its own.
    let listener = server.enter(|| std::net::TcpListener::bind((VIP, 8080)).unwrap());
    let mac = server.mac("eth0");
    director.ip(&format!(
        "neigh replace 10.77.0.200 lladdr {mac} dev eth0 nud permanent"
    ));
    director.enter(|| {
        let vip = (VIP.parse::<IpAddr>().unwrap(), 8080).into();
        std::net::TcpStream::connect_timeout(&vip, Duration::from_secs(10)).unwrap();
    });
    drop(listener);
}
