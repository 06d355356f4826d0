//! The harness itself: what the lab and the other suites take for granted.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use xdp_lb_tests::capture::{Capture, Way};
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::{Process, start_time};
use xdp_lb_tests::xdp::{Pass, rig};
use xdp_lb_tests::{link, wait};

const A: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 2);

#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn two_hosts(tag: &str) -> (Lan, Host, Host) {
    let lan = Lan::create(&unique_prefix(tag)).unwrap();
    let a = lan.add_host("a", ["10.9.8.1/24"]).unwrap();
    let b = lan.add_host("b", ["10.9.8.2/24"]).unwrap();
    (lan, a, b)
}

#[test]
fn hosts_on_a_switch_reach_each_other() {
    let (_lan, a, b) = two_hosts("xa");
    let listener = b.netns.run(|| TcpListener::bind((B, 80))).unwrap().unwrap();
    let stream = a
        .netns
        .run(|| TcpStream::connect((B, 80)))
        .unwrap()
        .unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, stream.local_addr().unwrap());
    assert_eq!(from.ip(), A);
}

#[test]
fn names_are_gone_after_drop_and_after_a_panic() {
    let name = format!("{}x", unique_prefix("xb"));
    let netns = Netns::create(&name).unwrap();
    assert!(netns.path().exists());
    let twice = Netns::create(&name).unwrap_err();
    assert!(twice.to_string().contains(&name), "{twice:#}");
    drop(netns);
    assert!(Netns::existing(&name).is_none());

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _netns = Netns::create(&name).unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(Netns::existing(&name).is_none());
}

#[test]
fn a_process_ends_with_its_children_when_it_is_dropped() {
    let netns = Netns::create(&format!("{}x", unique_prefix("xc"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // A shell passes no signal on: only one for the whole group reaches the child.
    let script = "sleep 300 & echo $!; wait";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    let shell = Process::start("shell", &netns, &mut shell, folder.path()).unwrap();
    let (child, _) = wait::until("the child's number", Duration::from_secs(10), || {
        Ok(shell.stdout()?.trim().parse::<u32>().ok())
    })
    .unwrap();
    assert!(start_time(child).is_some());
    drop(shell);
    assert_eq!(start_time(child), None);
}

#[test]
fn a_process_that_fails_says_why() {
    let netns = Netns::create(&format!("{}x", unique_prefix("xd"))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo out; echo the reason >&2; exit 3"]);
    let shell = Process::start("shell", &netns, &mut shell, folder.path()).unwrap();
    let error = format!("{:#}", shell.finish(Duration::from_secs(10)).unwrap_err());
    assert!(
        error.contains("exit 3") && error.contains("the reason"),
        "{error}"
    );
}

#[test]
fn a_capture_counts_every_frame_one_way() {
    const FRAMES: u64 = 250;
    let (lan, a, b) = two_hosts("xe");
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str, port: &str, way| {
        let at = (lan.switch(), port);
        Capture::start((name, folder.path()), at, way, "udp dst port 7").unwrap()
    };
    let counts = [
        start("from-a", "a", Way::FromHost),
        start("to-a", "a", Way::ToHost),
        start("from-b", "b", Way::FromHost),
        start("to-b", "b", Way::ToHost),
    ];
    let receiver = b.netns.run(|| UdpSocket::bind((B, 7))).unwrap().unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let sender = a.netns.run(|| UdpSocket::bind((A, 0))).unwrap().unwrap();
    for _ in 0..FRAMES {
        sender.send_to(b"x", (B, 7)).unwrap();
        receiver.recv(&mut [0]).unwrap();
    }
    let counts = counts.map(|capture| capture.finish().unwrap());
    assert_eq!(counts, [FRAMES, 0, 0, FRAMES]);
}

#[test]
fn a_capture_counts_no_frame_from_before_its_filter() {
    let (lan, a, b) = two_hosts("xh");
    let folder = tempfile::tempdir().unwrap();
    let _receiver = b.netns.run(|| UdpSocket::bind((B, 7))).unwrap().unwrap();
    let sender = a.netns.run(|| UdpSocket::bind((A, 0))).unwrap().unwrap();
    // tcpdump listens first and compiles then: this takes it a tenth of a second.
    let ports = (1000..1200).map(|port| format!("udp dst port {port}"));
    let filter = ports.collect::<Vec<_>>().join(" or ");
    let listens = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !listens.load(Ordering::Relaxed) {
                sender.send_to(b"x", (B, 7)).ok();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let at = (lan.switch(), "a");
        let capture = Capture::start(("others", folder.path()), at, Way::FromHost, &filter);
        listens.store(true, Ordering::Relaxed);
        capture.and_then(Capture::finish)
    });
    assert_eq!(count.unwrap(), 0);
}

#[test]
fn the_passing_program_is_native_and_goes_with_its_owner() {
    let (lan, a, b) = two_hosts("xf");
    let pass = Pass::attach(&rig().unwrap(), lan.switch(), "a").unwrap();
    let attached = || {
        link::show(lan.switch(), "a")
            .unwrap()
            .xdp
            .map(link::LinkXdp::name)
    };
    assert_eq!(attached(), Some("native"));
    let _listener = b.netns.run(|| TcpListener::bind((B, 80))).unwrap().unwrap();
    a.netns
        .run(|| TcpStream::connect((B, 80)))
        .unwrap()
        .unwrap();
    drop(pass);
    assert_eq!(attached(), None);
}

#[test]
fn sent_frames_are_whole() {
    let (_lan, a, _b) = two_hosts("xg");
    let mut show = Command::new("ethtool");
    show.args(["-k", INTERFACE]);
    let features = a.netns.output(&mut show).unwrap();
    for feature in [
        "tx-checksumming",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
    ] {
        assert!(features.contains(&format!("{feature}: off")), "{features}");
    }
}
