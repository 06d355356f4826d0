//! Neighbour entries of the groups that directors send to: a kernel whose neighbour table is full makes
//! no new ones, and drops adverts without a word to their sender. That permanent ones do not count is for
//! the kernel: the table is one for all namespaces, so no suite fills it.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use xdp_lb_tests::capture::{Capture, Way};
use xdp_lb_tests::lan::{Host, INTERFACE};
use xdp_lb_tests::needs;
use xdp_lb_tests::wait;

use crate::site::{By, LIMIT, Site};

/// The permanent entries of groups on a host, as `ip neighbour` has them.
fn entries(host: &Host) -> Vec<String> {
    let mut command = Command::new("ip");
    command.args(["neighbour", "show", "dev", INTERFACE, "nud", "permanent"]);
    let text = host.netns.output(&mut command).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("224."));
    let mut lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
    lines.sort_unstable();
    lines
}

fn wait_entries(host: &Host, wanted: &[&str]) {
    let mut last = Vec::new();
    let waited = wait::until("the entries are permanent", LIMIT, || {
        last = entries(host);
        Ok((last == wanted).then_some(()))
    });
    waited
        .map_err(|late| late.context(last.join("\n")))
        .unwrap();
}

#[test]
fn groups_have_permanent_neighbour_entries_while_a_director_sends_to_them() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sg");
    // The operator of the second host has one of his own, by which adverts can be told.
    let own = "224.0.0.18 lladdr 01:00:5e:00:00:77";
    let own = (
        format!("neighbour add {own} dev {INTERFACE} nud permanent"),
        own,
    );
    site.hosts[1].netns.ip(&own.0).unwrap();
    for number in 0..2 {
        site.configure(number, By::Multicast, "");
        site.start(number);
    }
    site.wait_master(0);
    let ours = [
        "224.0.0.18 lladdr 01:00:5e:00:00:12 PERMANENT proto keepalived",
        "224.0.0.22 lladdr 01:00:5e:00:00:16 PERMANENT proto keepalived",
        "224.0.0.99 lladdr 01:00:5e:00:00:63 PERMANENT proto keepalived",
    ];
    wait_entries(&site.hosts[0], &ours);
    let foreign = format!("{} PERMANENT", own.1);
    wait_entries(&site.hosts[1], &[&foreign, ours[1], ours[2]]);

    // The kernel drops them with the interface, which is not for ever.
    let host = &site.hosts[0].netns;
    host.ip(&format!("link set dev {INTERFACE} down")).unwrap();
    assert_eq!(entries(&site.hosts[0]), [""; 0]);
    host.ip(&format!("link set dev {INTERFACE} up")).unwrap();
    wait_entries(&site.hosts[0], &ours);
    site.wait_master(0);

    // One that is killed leaves them to its successor, one that is stopped to nobody.
    site.directors[0].end_by(Signal::SIGKILL).unwrap();
    assert_eq!(entries(&site.hosts[0]), ours);
    site.start(0);
    site.directors[0].end_by(Signal::SIGTERM).unwrap();
    assert_eq!(entries(&site.hosts[0]), [""; 0]);
    site.wait_master(1);
    let adverts = Capture::start(
        ("adverts", site.folder.path()),
        (site.lan.switch(), &site.hosts[1].name),
        Way::FromHost,
        "ip proto 112 and ether dst 01:00:5e:00:00:77",
    )
    .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(adverts.finish().unwrap() > 0, "by the operator's entry");
    site.directors[1].end_by(Signal::SIGTERM).unwrap();
    assert_eq!(entries(&site.hosts[1]), [foreign]);
}
