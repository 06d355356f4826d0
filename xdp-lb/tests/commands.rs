//! Commands as real processes. What changes the user needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xdp_lb::sys::command::fifo::{self, Fifo};
use xdp_lb::sys::command::notify::{Job, NotifyQueue};
use xdp_lb::sys::command::resolve::{Identity, Runnable};
use xdp_lb::sys::command::run::{Outcome, Output, run, run_until};

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
const SOON: Duration = Duration::from_secs(30);

/// A line for the shell, in a folder of its own that every user may write to.
struct Shell {
    folder: TempDir,
}

impl Shell {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `%` in the line is the folder.
    fn command(&self, line: &str) -> Runnable {
        let line = line.replace('%', self.folder.path().to_str().unwrap());
        Runnable {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), line.clone(), "sh".to_owned()],
            identity: None,
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("LANG".into(), "C".into()),
            ],
            line,
            by_shell: true,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether the process of this number runs, not counting zombies. No number, no process.
fn runs(pid: &str) -> bool {
    let Ok(pid) = pid.trim().parse::<u32>() else {
        return false;
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses.
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

#[tokio::test]
async fn the_exit_status_and_the_arguments_are_the_scripts_own() {
    let shell = Shell::new();
    let more = ["INSTANCE".to_owned(), "a b".to_owned()];
    let command = shell.command("for word; do echo \"$word\"; done > %/out; exit 3");
    let outcome = run(&command, &more, Some(SOON), Output::Log).await;
    assert_eq!(outcome, Outcome::Exited(3));
    assert_eq!(shell.read("out"), "INSTANCE\na b\n");
}

#[tokio::test]
async fn a_process_has_its_own_group_no_input_and_a_clean_environment() {
    let shell = Shell::new();
    let _open = fs::File::create(shell.path("open")).unwrap();
    let command = shell.command(
        "{ pwd; env | grep -v '^_=' | grep -v ^PWD | grep -v ^SHLVL | sort; cat; \
         echo $$; cut -d' ' -f5 /proc/self/stat; ls -l /proc/self/fd; } > %/out",
    );
    assert!(
        run(&command, &[], Some(SOON), Output::Discard)
            .await
            .succeeded()
    );
    let out = shell.read("out");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[..3], ["/", "LANG=C", "PATH=/usr/bin:/bin"], "{out}");
    // The leader's number is the group's.
    assert_eq!(lines[3], lines[4], "{out}");
    assert!(!out.contains("/open"), "a file of the agent is open: {out}");
}

#[tokio::test]
async fn another_user_has_one_group_and_no_capability() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test needs root");
        return;
    }
    let shell = Shell::new();
    let command = Runnable {
        identity: Some(Identity {
            uid: 65534,
            gid: 65534,
        }),
        ..shell.command("grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status > %/out")
    };
    assert!(
        run(&command, &[], Some(SOON), Output::Discard)
            .await
            .succeeded()
    );
    let out = shell.read("out");
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = out.lines().map(words).collect();
    assert_eq!(lines[0], ["Uid:", "65534", "65534", "65534", "65534"]);
    assert_eq!(lines[1], ["Gid:", "65534", "65534", "65534", "65534"]);
    assert_eq!(lines[2], ["Groups:"]);
    assert_eq!(lines[3], ["CapEff:", "0000000000000000"]);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let command = Runnable {
        program: "/no/such/program".into(),
        ..Shell::new().command("")
    };
    let outcome = run(&command, &[], None, Output::Log).await;
    assert_eq!(
        outcome,
        Outcome::NotStarted("No such file or directory (os error 2)".to_owned())
    );
}

#[tokio::test]
async fn what_takes_too_long_is_ended_with_all_it_started() {
    let shell = Shell::new();
    // It and its child ignore SIGTERM: only SIGKILL ends them.
    let command = shell.command(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > %/child; sleep 600' & echo $$ > %/leader; \
         while :; do sleep 1; done",
    );
    let start = Instant::now();
    let outcome = run(&command, &[], Some(Duration::from_millis(300)), Output::Log).await;
    assert_eq!(outcome, Outcome::TimedOut);
    assert!(
        start.elapsed() >= Duration::from_millis(2300),
        "SIGKILL came without the grace"
    );
    assert!(!runs(&shell.read("leader")));
    until("the child lives on", || !runs(&shell.read("child"))).await;
    let leader = shell.read("leader");
    let reaped = !Path::new("/proc").join(leader.trim()).exists();
    assert!(reaped, "a zombie stays");
}

#[tokio::test]
async fn what_ends_on_sigterm_is_not_waited_for() {
    let shell = Shell::new();
    let command = shell.command("trap 'echo bye > %/out; exit 0' TERM; sleep 600 & wait");
    let start = Instant::now();
    let outcome = run(&command, &[], Some(Duration::from_millis(300)), Output::Log).await;
    assert_eq!(outcome, Outcome::TimedOut);
    assert_eq!(shell.read("out"), "bye\n");
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_nothing_behind() {
    let shell = Shell::new();
    let command = shell.command("sleep 600 & echo $! > %/child; echo $$ > %/leader; wait");
    {
        let running = run(&command, &[], None, Output::Log);
        tokio::pin!(running);
        until_or(&mut running, || shell.path("leader").exists()).await;
    }
    until("the leader lives on", || !runs(&shell.read("leader"))).await;
    until("the child lives on", || !runs(&shell.read("child"))).await;
}

/// Drives a run until something holds.
async fn until_or(running: &mut (impl Future<Output = Outcome> + Unpin), is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < SOON);
        let step = tokio::time::timeout(Duration::from_millis(5), &mut *running).await;
        assert!(step.is_err(), "it ended: {step:?}");
    }
}

#[tokio::test]
async fn what_is_left_in_the_background_is_let_be_and_not_waited_for() {
    let shell = Shell::new();
    let command = shell.command("sleep 600 & echo $! > %/child");
    let start = Instant::now();
    for output in [Output::Log, Output::Discard] {
        assert!(run(&command, &[], Some(SOON), output).await.succeeded());
        let child = shell.read("child");
        assert!(runs(&child));
        let pid = nix::unistd::Pid::from_raw(child.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn an_output_of_any_length_does_not_stop_a_command() {
    let shell = Shell::new();
    let command = shell.command("yes | head -c 3000000; yes no | head -c 3000000 >&2; exit 7");
    let outcome = run(&command, &[], Some(SOON), Output::Log).await;
    assert_eq!(outcome, Outcome::Exited(7));
}

fn job(command: Runnable, argument: &str) -> Job {
    Job {
        command,
        arguments: vec![argument.to_owned()],
        limit: Some(SOON),
    }
}

#[tokio::test]
async fn notify_scripts_run_in_order_one_at_a_time() {
    let shell = Shell::new();
    let queue = NotifyQueue::start("VI".to_owned(), 16);
    // The first takes longest: at once they would end the other way round.
    for (name, delay) in [("MASTER", "0.3"), ("BACKUP", "0.1"), ("FAULT", "0")] {
        let line = format!("echo begin $1 >> %/out; sleep {delay}; echo end $1 >> %/out; exit 1");
        queue.push(job(shell.command(&line), name));
    }
    queue.finish(SOON).await;
    let expected = "begin MASTER\nend MASTER\nbegin BACKUP\nend BACKUP\nbegin FAULT\nend FAULT\n";
    assert_eq!(shell.read("out"), expected);
}

#[tokio::test]
async fn scripts_that_come_faster_than_they_end_are_given_up_the_oldest_first() {
    let shell = Shell::new();
    let queue = NotifyQueue::start("VI".to_owned(), 2);
    let line = "echo $1 >> %/out; while [ ! -e %/go ]; do sleep 0.01; done";
    queue.push(job(shell.command(line), "1"));
    until("the first did not start", || shell.read("out") == "1\n").await;
    for name in ["2", "3", "4", "5"] {
        queue.push(job(shell.command(line), name));
    }
    assert_eq!(queue.given_up(), 2);
    fs::write(shell.path("go"), "").unwrap();
    queue.finish(SOON).await;
    assert_eq!(shell.read("out"), "1\n4\n5\n");
}

#[tokio::test]
async fn a_queue_that_ends_kills_what_does_not() {
    let shell = Shell::new();
    let queue = NotifyQueue::start("VI".to_owned(), 2);
    queue.push(job(shell.command("echo $$ > %/pid; sleep 600"), "1"));
    until("it did not start", || !shell.read("pid").is_empty()).await;
    queue.finish(Duration::from_millis(50)).await;
    until("it lives on", || !runs(&shell.read("pid"))).await;
}

fn pipe_facts(path: &Path) -> (bool, u32, u32) {
    let facts = fs::symlink_metadata(path).unwrap();
    (
        facts.file_type().is_fifo(),
        facts.mode() & 0o7777,
        facts.uid(),
    )
}

#[test]
fn a_pipe_is_made_as_keepalived_makes_it_and_goes_again() {
    let shell = Shell::new();
    let path = shell.path("fifo");
    let own = nix::unistd::geteuid();
    let nobody = own.is_root().then_some(Identity {
        uid: 65534,
        gid: 65534,
    });
    let mut fifo = Fifo::open(&path, nobody).unwrap();
    let owner = nobody.map_or(own.as_raw(), |nobody| nobody.uid);
    assert_eq!(pipe_facts(&path), (true, 0o600, owner));
    fifo.write("INSTANCE \"VI\" MASTER 100");
    fifo.write("GROUP \"G\" MASTER 0");
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    let mut buffer = [0; 100];
    let length = reader.read(&mut buffer).unwrap();
    let expected = b"INSTANCE \"VI\" MASTER 100\nGROUP \"G\" MASTER 0\n";
    assert_eq!(&buffer[..length], expected);
    drop(fifo);
    assert!(!path.exists());
}

#[test]
fn a_pipe_that_was_there_stays_and_nothing_else_is_taken_for_one() {
    let shell = Shell::new();
    let path = shell.path("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    drop(Fifo::open(&path, None).unwrap());
    assert_eq!(pipe_facts(&path).1, 0o700);
    std::os::unix::fs::symlink(&path, shell.path("link")).unwrap();
    fs::write(shell.path("file"), "").unwrap();
    for name in ["link", "file"] {
        let other = shell.path(name);
        let refused = Fifo::open(&other, None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "{} is no FIFO: remove it, or name another path",
                other.display()
            )
        );
        assert!(other.exists());
    }
}

#[test]
fn a_pipe_that_nobody_reads_loses_whole_lines_and_counts_them() {
    let shell = Shell::new();
    let path = shell.path("fifo");
    let mut fifo = Fifo::open(&path, None).unwrap();
    let line = "x".repeat(999);
    for _ in 0..100 {
        fifo.write(&line);
    }
    let kept = 100 - fifo.dropped();
    assert!((1..100).contains(&kept), "{kept}");
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    let mut all = Vec::new();
    // The writing end is open: it ends with "would block".
    reader.read_to_end(&mut all).unwrap_err();
    assert_eq!(all.len() as u64, kept * 1000);
    let dropped = fifo.dropped();
    fifo.write("room again");
    assert_eq!(fifo.dropped(), dropped);
}

#[tokio::test]
async fn what_reads_a_pipe_gets_its_path_last_and_is_started_again() {
    let shell = Shell::new();
    let path = shell.path("fifo");
    let mut fifo = Fifo::open(&path, None).unwrap();
    // It reads one line and ends.
    let command = shell.command("echo $$ > %/pid; read -r line < $1; echo \"$line\" >> %/out");
    let reader = fifo::Reader::start(command, &path);
    for line in ["one", "two"] {
        fifo.write(line);
        until(line, || shell.read("out").ends_with(&format!("{line}\n"))).await;
    }
    until("not started again", || runs(&shell.read("pid"))).await;
    reader.stop().await;
    assert!(!runs(&shell.read("pid")));
    assert_eq!(shell.read("out"), "one\ntwo\n");
}

#[tokio::test]
async fn a_command_runs_until_it_is_told_to_end() {
    let shell = Shell::new();
    let command = shell.command("sleep 600");
    let end = tokio::time::sleep(Duration::from_millis(20));
    assert_eq!(
        run_until(&command, &[], end, Output::Log).await,
        Outcome::TimedOut
    );
}
