//! What is tracked, as real processes and files.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use xdp_lb::agent::track::{Report, Trackers};
use xdp_lb::config::model::{
    Command, Config, InitFile, MatchArguments, Script, ScriptUser, TrackFile, TrackProcess,
    Tracked, VrrpInstance, Weight,
};
use xdp_lb::sys::command::resolve::Resolver;
use xdp_lb::vrrp::group::Input;
use xdp_lb::vrrp::priority::{Condition, Kind};

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
const SOON: Duration = Duration::from_secs(30);

const UP: Condition = Condition::Up;
const DOWN: Condition = Condition::Down { failures: 1 };

/// A folder, a configuration of one instance, and what was found out about what that tracks.
struct Bench {
    folder: TempDir,
    config: Config,
    sender: mpsc::UnboundedSender<Input>,
    found: mpsc::UnboundedReceiver<Input>,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::default();
        let instance = VrrpInstance::new("VI", "eth0", NonZeroU8::MIN);
        config.vrrp_instances.push(instance);
        let (sender, found) = mpsc::unbounded_channel();
        Self {
            folder: tempfile::tempdir().unwrap(),
            config,
            sender,
            found,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A script that is configured and not tracked; `%` in the line is the folder.
    fn script(&mut self, name: &str, line: &str) -> &mut Script {
        let line = line.replace('%', self.folder.path().to_str().unwrap());
        let mut words = line.split_whitespace().map(str::to_owned);
        let command = Command {
            program: words.next().unwrap(),
            arguments: words.collect(),
            line,
            user: None,
        };
        self.config.scripts.push(Script {
            name: name.to_owned(),
            command,
            interval: Duration::from_millis(50),
            timeout: SOON,
            weight: Weight::default(),
            fall: 1,
            rise: 1,
            starts_failed: false,
        });
        self.config.scripts.last_mut().unwrap()
    }

    /// One that is, for the shell.
    fn tracked_script(&mut self, name: &str, line: &str) -> &mut Script {
        let tracked = tracked(name);
        self.config.vrrp_instances[0].trackers.scripts.push(tracked);
        self.script(name, line)
    }

    fn shell(&mut self, name: &str, line: &str) -> &mut Script {
        let folder = self.folder.path().to_str().unwrap().to_owned();
        let script = self.tracked_script(name, "/bin/sh");
        script.command.arguments = vec!["-c".to_owned(), line.replace('%', &folder)];
        script
    }

    fn file(&mut self, name: &str, initial: Option<InitFile>) {
        let files = &mut self.config.vrrp_instances[0].trackers.files;
        files.push(tracked(name));
        self.config.track_files.push(TrackFile {
            name: name.to_owned(),
            path: self.path(name),
            weight: Weight::default(),
            initial,
        });
    }

    async fn start(&self) -> Trackers {
        let sender = self.sender.clone();
        let report: Report = Arc::new(move |input| sender.send(input).unwrap());
        Trackers::start(&self.config, &resolver(), report).await
    }

    /// The next that is found out.
    async fn next(&mut self) -> (Kind, String, Condition) {
        let next = timeout(SOON, self.found.recv()).await;
        match next.unwrap().unwrap() {
            Input::Tracked {
                kind,
                name,
                condition,
            } => (kind, name, condition),
            other => panic!("{other:?}"),
        }
    }

    async fn condition(&mut self) -> Condition {
        self.next().await.2
    }

    async fn number(&mut self) -> i32 {
        match self.condition().await {
            Condition::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    fn silent(&mut self) -> bool {
        self.found.try_recv().is_err()
    }
}

/// Commands run as whoever runs the tests, also where keepalived's own user exists.
fn resolver() -> Resolver {
    let own = User::from_uid(geteuid()).unwrap().unwrap();
    Resolver::new(Some(ScriptUser {
        name: own.name,
        group: None,
    }))
}

fn tracked(name: &str) -> Tracked {
    Tracked {
        name: name.to_owned(),
        weight: Weight::default(),
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < SOON, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the process whose number a file holds runs.
fn runs(number: &str) -> bool {
    let number = number.trim();
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    !number.is_empty() && !stat.is_empty() && !stat.contains(") Z ")
}

/// A program of that name that does nothing for long.
struct Sleeper(Child);

impl Sleeper {
    fn start(path: &Path) -> Self {
        fs::copy("/bin/sleep", path).unwrap();
        Self(Process::new(path).arg("600").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_test_of_the_shell_looks_for_moves_the_director() {
    let mut bench = Bench::new();
    bench.tracked_script("chk_schedown", "[[ -f %/down ]] && exit 1 || exit 0");
    let trackers = bench.start().await;
    let found = bench.next().await;
    assert_eq!(found, (Kind::Script, "chk_schedown".to_owned(), UP));
    fs::write(bench.path("down"), "").unwrap();
    assert_eq!(bench.condition().await, DOWN);
    fs::remove_file(bench.path("down")).unwrap();
    assert_eq!(bench.condition().await, UP);
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killall_0_finds_whether_a_program_runs() {
    if !Path::new("/usr/bin/killall").exists() {
        assert!(std::env::var_os("CI").is_none(), "psmisc is missing");
        eprintln!("SKIPPED: this test needs killall");
        return;
    }
    let mut bench = Bench::new();
    let name = format!("xlb{}", std::process::id());
    let sleeper = Sleeper::start(&bench.path(&name));
    bench.tracked_script("chk_nginx", &format!("killall -0 {name}"));
    let trackers = bench.start().await;
    assert_eq!(bench.condition().await, UP);
    drop(sleeper);
    assert_eq!(bench.condition().await, DOWN);
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_tracked_runs_and_what_cannot_run_is_named() {
    let mut bench = Bench::new();
    bench.script("untracked", "/bin/touch %/untracked");
    bench.tracked_script("missing", "/no/such/program");
    bench.tracked_script("fine", "/bin/true");
    // What others may write to is not run as root.
    fs::copy("/bin/true", bench.path("open")).unwrap();
    bench.tracked_script("open", "%/open");
    let trackers = bench.start().await;
    trackers.settled(SOON).await;
    let mut refused = vec!["missing"];
    if geteuid().is_root() {
        refused.push("open");
    } else {
        bench.condition().await;
    }
    assert_eq!(trackers.unusable().collect::<Vec<_>>(), refused);
    assert_eq!(bench.condition().await, UP);
    assert!(!bench.path("untracked").exists());
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_too_long_has_failed_and_dies_with_its_children() {
    let mut bench = Bench::new();
    let line = "sleep 600 & echo $! > %/child; wait";
    let script = bench.shell("slow", line);
    script.timeout = Duration::from_millis(500);
    script.interval = SOON;
    let trackers = bench.start().await;
    trackers.settled(SOON).await;
    assert_eq!(bench.condition().await, DOWN);
    let child = bench.read("child");
    until("the child is dead", || !runs(&child)).await;
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_leaves_no_script_behind() {
    for is_asked in [true, false] {
        let mut bench = Bench::new();
        bench.shell("slow", "sleep 600 & echo $! > %/child; wait");
        let trackers = bench.start().await;
        until("it runs", || runs(&bench.read("child"))).await;
        let child = bench.read("child");
        if is_asked {
            trackers.stop().await;
        } else {
            drop(trackers);
        }
        until("it is dead", || !runs(&child)).await;
        assert!(bench.silent());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_ends_what_goes_and_leaves_alone_what_stays() {
    let mut bench = Bench::new();
    bench.shell("stays", "echo $$ >> %/stays; sleep 600");
    bench.shell("goes", "echo $$ > %/goes; sleep 600");
    let mut trackers = bench.start().await;
    until("both run", || {
        runs(&bench.read("stays")) && runs(&bench.read("goes"))
    })
    .await;
    let (stays, goes) = (bench.read("stays"), bench.read("goes"));
    bench.config.vrrp_instances[0].trackers.scripts.pop();
    trackers.reload(&bench.config, &resolver()).await;
    until("it is dead", || !runs(&goes)).await;
    assert!(runs(&stays));
    assert_eq!(bench.read("stays"), stays, "it was not started again");
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_followed_however_it_is_written() {
    let mut bench = Bench::new();
    bench.file("n", None);
    let trackers = bench.start().await;
    assert_eq!(bench.number().await, 0, "told before the start is over");
    fs::write(bench.path("n"), "5\n").unwrap();
    assert_eq!(bench.number().await, 5);
    fs::write(bench.path("new"), "-7\n").unwrap();
    fs::rename(bench.path("new"), bench.path("n")).unwrap();
    assert_eq!(bench.number().await, -7);
    fs::remove_file(bench.path("n")).unwrap();
    assert_eq!(bench.number().await, 0);
    fs::write(bench.path("elsewhere"), "3").unwrap();
    std::os::unix::fs::symlink(bench.path("elsewhere"), bench.path("n")).unwrap();
    assert_eq!(bench.number().await, 3);
    fs::write(bench.path("n"), "99999999999").unwrap();
    fs::write(bench.path("elsewhere"), "4").unwrap();
    assert_eq!(
        bench.number().await,
        4,
        "what is no number that counts does not count"
    );
    assert!(bench.silent());
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_may_come_with_its_folder() {
    let mut bench = Bench::new();
    bench.file("sub/n", None);
    let trackers = bench.start().await;
    assert_eq!(bench.number().await, 0);
    fs::create_dir(bench.path("sub")).unwrap();
    fs::write(bench.path("sub/n"), "8").unwrap();
    assert_eq!(bench.number().await, 8);
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_written_at_the_start_if_asked_for() {
    let mut bench = Bench::new();
    fs::write(bench.path("kept"), "1\n").unwrap();
    fs::write(bench.path("over"), "100\n").unwrap();
    fs::write(bench.path("target"), "2\n").unwrap();
    std::os::unix::fs::symlink(bench.path("target"), bench.path("link")).unwrap();
    for (name, overwrite) in [
        ("kept", false),
        ("over", true),
        ("made", false),
        ("link", true),
    ] {
        let value = 30;
        bench.file(name, Some(InitFile { value, overwrite }));
    }
    let trackers = bench.start().await;
    let mut found = Vec::new();
    for _ in 0..4 {
        let (_, name, condition) = bench.next().await;
        found.push((name, condition));
    }
    let value = |name: &str, value| (name.to_owned(), Condition::Value(value));
    assert_eq!(
        found,
        [
            value("kept", 1),
            value("over", 30),
            value("made", 30),
            value("link", 2)
        ]
    );
    assert_eq!(bench.read("over"), "30\n");
    trackers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_found_missed_and_found_again() {
    let mut bench = Bench::new();
    let name = format!("xlbp{}", std::process::id());
    let processes = &mut bench.config.vrrp_instances[0].trackers.processes;
    processes.push(tracked("p"));
    bench.config.track_processes.push(TrackProcess {
        name: "p".to_owned(),
        process: vec![
            bench.path(&name).to_str().unwrap().to_owned(),
            "6".to_owned(),
        ],
        arguments: MatchArguments::Initial,
        full_command: false,
        weight: Weight::default(),
        quorum: 1,
        quorum_max: None,
        fork_delay: Duration::ZERO,
        terminate_delay: Duration::ZERO,
    });
    let trackers = bench.start().await;
    let found = bench.next().await;
    assert_eq!(found, (Kind::Process, "p".to_owned(), DOWN));
    let mut sleeper = Sleeper::start(&bench.path(&name));
    assert_eq!(bench.condition().await, UP);
    // It is not reaped yet, and does not count any more.
    sleeper.0.kill().unwrap();
    assert_eq!(bench.condition().await, DOWN);
    drop(sleeper);
    assert!(bench.silent());
    trackers.stop().await;
}
