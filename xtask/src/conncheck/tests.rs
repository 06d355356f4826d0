//! Client and server against each other, over the loopback.

use super::*;

/// Starts a server's thread, which lasts as long as the test's process, and returns where it listens.
fn serve(name: &str) -> SocketAddrV4 {
    // A port that was free a moment ago.
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = probe.local_addr().unwrap();
    drop(probe);
    let name: Name = name.parse().unwrap();
    std::thread::spawn(move || serve::run(name, &[at]).unwrap());
    match at {
        SocketAddr::V4(at) => at,
        SocketAddr::V6(at) => panic!("{at} is not 127.0.0.1"),
    }
}

#[test]
fn connections_of_servers_that_serve_stand_and_are_answered() {
    let to = vec![serve("one"), serve("two")];
    let mut checker = Checker::start(Plan {
        to,
        from: [2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last)).to_vec(),
        count: 100,
        rules: Rules {
            every: Duration::from_millis(20),
            ..Rules::default()
        },
    })
    .unwrap();
    checker.wait_open(SETTLE).unwrap();
    checker.renew(50).unwrap();
    checker.mark().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let window = checker.mark().unwrap();
    assert_eq!(window.broken_in_all(), 0, "{}", window.breaks());
    assert_eq!(
        window.standing,
        [("one".to_owned(), 50), ("two".to_owned(), 50)].into()
    );
    assert!(window.answered > 100, "{window:?}");
    assert!(window.renewed > 5 && window.lost == 0, "{window:?}");
    assert_eq!(window.strayed, [0, 0]);
}

#[test]
fn a_server_that_ends_every_connection_is_told_from_one_that_is_silent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let Ok(SocketAddr::V4(to)) = listener.local_addr() else {
        panic!("not an IPv4 address");
    };
    // The first connection is kept and not answered; the second is closed.
    std::thread::spawn(move || {
        let (mut kept, _) = listener.accept().unwrap();
        drop(listener.accept().unwrap());
        std::io::Read::read_to_end(&mut kept, &mut Vec::new()).ok();
    });
    let mut checker = Checker::start(Plan {
        to: vec![to],
        from: vec![Ipv4Addr::LOCALHOST],
        count: 2,
        rules: Rules {
            every: Duration::from_millis(20),
            silence: Duration::from_millis(300),
            ..Rules::default()
        },
    })
    .unwrap();
    let mut causes = BTreeMap::new();
    let start = Instant::now();
    while causes.len() < 2 && start.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_millis(50));
        for (cause, count) in checker.mark().unwrap().broken.into_values().flatten() {
            *causes.entry(cause.to_string()).or_insert(0) += count;
        }
    }
    let kinds: Vec<_> = causes.keys().map(String::as_str).collect();
    assert!(kinds.contains(&"silent"), "{kinds:?}");
    assert!(
        kinds.contains(&"ended") || kinds.contains(&"reset"),
        "{kinds:?}"
    );
}
