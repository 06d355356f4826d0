use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Books with one connection that stands since `at` and has been answered once by rs1.
fn open(at: Duration) -> Books {
    let mut books = Books::new(Rules::default(), 1, (1, 1));
    connect(&mut books, 0, at, "rs1");
    books
}

fn connect(books: &mut Books, index: usize, at: Duration, server: &str) {
    assert_eq!(books.visit(index, at), Todo::Open);
    books.connected(index, at, Resent::default());
    beat(books, index, at, server);
}

fn beat(books: &mut Books, index: usize, at: Duration, server: &str) {
    let Todo::Ask(number) = books.visit(index, at) else {
        panic!("it is not asked at {at:?}");
    };
    let name = name(server);
    assert!(books.answered(index, at, &Answer { number, name }));
}

fn broken(window: &Window) -> Vec<(&str, Cause, u64)> {
    let servers = window.broken.iter();
    servers
        .flat_map(|(server, causes)| causes.iter().map(|(cause, n)| (&**server, *cause, *n)))
        .collect()
}

#[test]
fn two_seconds_without_an_answer_break_a_connection_and_less_does_not() {
    let mut books = open(ms(0));
    assert_eq!(books.visit(0, ms(100)), Todo::Ask(2));
    assert_eq!(books.visit(0, ms(2099)), Todo::Nothing);
    assert_eq!(books.standing(), 1);
    assert_eq!(books.visit(0, ms(2100)), Todo::GiveUp);
    let window = books.mark(ms(2200));
    assert_eq!(broken(&window), [("rs1", Cause::Silent, 1)]);
    assert!((window.silence.max - 2.0).abs() < 1e-9);
    assert_eq!(books.standing(), 0);
    assert_eq!(
        books.visit(0, ms(2300)),
        Todo::Open,
        "and it is opened anew"
    );
}

#[test]
fn an_answer_of_another_server_breaks_the_connection_of_the_first() {
    let mut books = open(ms(0));
    let Todo::Ask(number) = books.visit(0, ms(100)) else {
        panic!("it is not asked");
    };
    let name = name("rs2");
    assert!(!books.answered(0, ms(101), &Answer { number, name }));
    let window = books.mark(ms(200));
    assert_eq!(broken(&window), [("rs1", Cause::OtherServer, 1)]);
    assert_eq!(window.intruders, ByServer::from([("rs2".to_owned(), 1)]));
}

#[test]
fn an_answer_to_nothing_or_to_another_heartbeat_is_garbled() {
    for number in [1, 7] {
        let mut books = open(ms(0));
        let name = name("rs1");
        assert!(!books.answered(0, ms(1), &Answer { number, name }));
        let window = books.mark(ms(200));
        assert_eq!(broken(&window), [("rs1", Cause::Garbled, 1)]);
    }
}

#[test]
fn resets_and_ends_are_counted_by_server_and_failed_attempts_apart() {
    let mut books = Books::new(Rules::default(), 3, (3, 1));
    connect(&mut books, 0, ms(0), "rs1");
    connect(&mut books, 1, ms(1), "rs2");
    assert_eq!(books.visit(2, ms(2)), Todo::Open);
    books.over(0, ms(10), Cause::Reset);
    books.over(1, ms(10), Cause::Ended);
    books.over(2, ms(10), Cause::Reset);
    // What is closed cannot break once more.
    books.over(0, ms(11), Cause::Reset);
    let window = books.mark(ms(20));
    assert_eq!(
        broken(&window),
        [("rs1", Cause::Reset, 1), ("rs2", Cause::Ended, 1)]
    );
    assert_eq!(window.refused.values().sum::<u64>(), 1);
    assert_eq!(window.opened, 2);
    assert_eq!(books.visit(2, ms(9) + RETRY), Todo::Nothing);
    assert_eq!(books.visit(2, ms(10) + RETRY), Todo::Open);
}

#[test]
fn an_attempt_that_hangs_is_given_up_and_no_break() {
    let mut books = Books::new(Rules::default(), 1, (1, 1));
    assert_eq!(books.visit(0, ms(0)), Todo::Open);
    assert_eq!(books.visit(0, ms(1999)), Todo::Nothing);
    assert_eq!(books.visit(0, ms(2000)), Todo::GiveUp);
    let window = books.mark(ms(2000));
    assert_eq!(window.broken_in_all(), 0);
    assert_eq!(window.refused.len(), 1);
}

#[test]
fn a_break_belongs_to_the_window_it_happens_in_and_knows_whether_it_was_young() {
    let mut books = Books::new(Rules::default(), 3, (3, 1));
    connect(&mut books, 0, ms(0), "rs1");
    connect(&mut books, 1, ms(900), "rs1");
    let before = books.mark(SECOND);
    assert_eq!((before.broken_in_all(), before.stood()), (0, 0));
    connect(&mut books, 2, ms(1001), "rs1");
    for index in 0..3 {
        books.over(index, ms(1100), Cause::Reset);
    }
    let window = books.mark(2 * SECOND);
    assert_eq!((window.broken_in_all(), window.grown), (3, 1));
    assert_eq!(window.stood(), 2);
    assert!((window.seconds - 1.0).abs() < 1e-9);
    assert_eq!(books.mark(3 * SECOND).broken_in_all(), 0);
}

#[test]
fn silences_are_of_each_connection_and_what_is_under_way_counts() {
    let mut books = Books::new(Rules::default(), 2, (2, 1));
    connect(&mut books, 0, ms(0), "rs1");
    connect(&mut books, 1, ms(1), "rs1");
    books.mark(ms(10));
    let Todo::Ask(number) = books.visit(0, ms(100)) else {
        panic!("it is not asked");
    };
    let name = name("rs1");
    assert!(books.answered(0, ms(140), &Answer { number, name }));
    assert!(matches!(books.visit(1, ms(200)), Todo::Ask(_)));
    let silence = books.mark(ms(500)).silence;
    assert!((silence.p50 - 0.04).abs() < 1e-9 && (silence.max - 0.3).abs() < 1e-9);
}

#[test]
fn connections_are_opened_at_the_pace_that_was_asked_for() {
    let rules = Rules {
        opens: 100,
        ..Rules::default()
    };
    let mut books = Books::new(rules, 1000, (1, 1));
    let mut opened = 0;
    // Every place has its turn each millisecond.
    for at in 0..1000 {
        for index in 0..1000 {
            opened += usize::from(books.visit(index, ms(at)) == Todo::Open);
        }
    }
    assert!((95..=115).contains(&opened), "{opened} in a second");
}

#[test]
fn renewals_go_round_and_break_nothing() {
    let mut books = Books::new(Rules::default(), 3, (3, 1));
    for (index, at) in [(0, 0), (1, 1), (2, 2)] {
        connect(&mut books, index, ms(at), "rs1");
    }
    assert_eq!(books.renewal(ms(50)), None, "nobody asked for it");
    books.renew(10, ms(100));
    assert_eq!(books.renewal(ms(100)), Some(0));
    assert_eq!(books.renewal(ms(150)), None);
    assert_eq!(books.renewal(ms(200)), Some(1));
    // One that waits for an answer is left alone.
    assert!(matches!(books.visit(2, ms(250)), Todo::Ask(_)));
    assert_eq!(books.renewal(ms(300)), None);
    let window = books.mark(ms(400));
    assert_eq!((window.renewed, window.broken_in_all()), (2, 0));
}

#[test]
fn a_client_that_comes_to_another_server_has_strayed_at_that_target() {
    // Two clients, two targets: 0 and 1 to the first target, 2 and 3 to the second.
    let mut books = Books::new(Rules::default(), 4, (2, 2));
    for (index, server) in [(0, "rs1"), (1, "rs2"), (2, "rs3"), (3, "rs4")] {
        connect(&mut books, index, ms(index as u64), server);
    }
    for (index, server) in [(0, "rs1"), (3, "rs1")] {
        books.over(index, ms(100), Cause::Ended);
        connect(&mut books, index, ms(200 + index as u64), server);
    }
    assert_eq!(books.mark(SECOND).strayed, [0, 1]);
}

#[test]
fn what_a_receiver_had_already_was_not_lost() {
    let mut books = open(ms(0));
    let resent = |all, needless| Resent { all, needless };
    books.resent(0, resent(3, 1));
    let window = books.mark(ms(10));
    assert_eq!((window.lost, window.needless), (2, 1));
    books.resent(0, resent(4, 2));
    let window = books.mark(ms(20));
    assert_eq!((window.lost, window.needless), (0, 1));
}

#[test]
fn sent_again_before_it_stood_is_no_loss_of_a_connection() {
    let mut books = Books::new(Rules::default(), 1, (1, 1));
    assert_eq!(books.visit(0, ms(0)), Todo::Open);
    let resent = Resent {
        all: 1,
        needless: 0,
    };
    books.connected(0, ms(1000), resent);
    books.resent(0, resent);
    assert_eq!(books.mark(ms(1100)).lost, 0);
}

/// Whatever happens in whatever order, every connection that was opened stands, broke or was renewed.
#[test]
fn the_books_balance() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut books = Books::new(Rules::default(), 8, (4, 2));
        let (mut opened, mut gone, mut now) = (0, 0, ms(0));
        books.renew(20, now);
        for _ in 0..2000 {
            now += ms(random.u64(0..40));
            let index = random.usize(0..8);
            match random.u32(0..8) {
                0 => books.connected(index, now, Resent::default()),
                1 => books.over(index, now, Cause::Reset),
                2 => drop(books.renewal(now)),
                3 => {
                    let number = random.u32(0..4);
                    let name = name(random.choice(["rs1", "rs2"]).unwrap());
                    books.answered(index, now, &Answer { number, name });
                }
                4 if random.u32(0..20) == 0 => {
                    let window = books.mark(now);
                    opened += window.opened;
                    gone += window.broken_in_all() + window.renewed;
                    assert!(window.grown <= window.broken_in_all());
                }
                _ => drop(books.visit(index, now)),
            }
        }
        let window = books.mark(now);
        opened += window.opened;
        gone += window.broken_in_all() + window.renewed;
        let standing = books.mark(now).stood();
        assert_eq!(opened, gone + standing, "seed {seed}");
    }
}
