//! `MISC_CHECK` with real scripts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xdp_lb::health::{Outcome, Weighing};

use super::{SOON, passes, run, why};

struct Script {
    _folder: TempDir,
    path: PathBuf,
}

impl Script {
    /// One that nobody but its owner can change, and everybody run.
    fn new(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let everybody = Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), everybody).unwrap();
        let path = folder.path().join("check");
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    async fn check(&self, arguments: &str, lines: &str) -> Outcome {
        check(&self.path, arguments, lines).await
    }
}

async fn check(path: &Path, arguments: &str, lines: &str) -> Outcome {
    // As root nothing is run that lies where everybody can write.
    let user = if nix::unistd::geteuid().is_root() {
        "user nobody"
    } else {
        ""
    };
    let path = path.display();
    let lines = format!("misc_path \"{path} {arguments}\"\n{user}\n{lines}");
    run("MISC_CHECK", "10.0.0.2:80".parse().unwrap(), &lines).await
}

#[tokio::test]
async fn the_exit_status_says_how_the_server_is() {
    let script = Script::new("[ $# = 1 ] && exit $1; kill -KILL $$");
    let said = |what: &str| format!("script '{} {what}", script.path.display());
    passes(&script.check("0", "").await);
    passes(&script.check("0", "misc_dynamic").await);
    let failed = why(script.check("1", "misc_dynamic").await);
    assert_eq!(failed, said("1' exited with 1"));
    let failed = why(script.check("7", "").await);
    assert_eq!(failed, said("7' exited with 7"));
    for (status, weight) in [("2", 0), ("12", 10), ("255", 253)] {
        let weighed = script.check(status, "misc_dynamic").await;
        assert_eq!(weighed, Outcome::Weighed(Weighing::Set(weight)));
    }
    let killed = why(script.check("1 2", "misc_dynamic").await);
    assert_eq!(killed, said("1 2' was killed by SIGKILL"));
}

/// Also what the script started, and although it does not want to.
#[tokio::test]
async fn a_script_that_hangs_fails_and_is_ended_with_all_it_started() {
    let script = Script::new("trap '' TERM\nsleep 1000 &\necho $! >$1\nwait\nsleep 1000");
    let child = script.beside("child");
    let start = Instant::now();
    let argument = child.display().to_string();
    let why = why(script.check(&argument, "misc_timeout 1").await);
    assert!(why.ends_with("did not end within 1 s"), "{why}");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let child = fs::read_to_string(child).unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.trim()));
    // It may wait to be reaped by whoever its parent is now.
    let is_gone = || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        status.is_empty() || status.contains("\nState:\tZ")
    };
    while !is_gone() {
        assert!(start.elapsed() < SOON, "{} lives", child.trim());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_script_whose_check_is_given_up_is_ended_at_once() {
    let script = Script::new("echo $$ >$1\nexec sleep 1000");
    let id = script.beside("id");
    let argument = id.display().to_string();
    let start = Instant::now();
    let written = async {
        while !fs::read_to_string(&id).is_ok_and(|id| id.ends_with('\n')) {
            assert!(start.elapsed() < SOON);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        outcome = script.check(&argument, "misc_timeout 600") => panic!("{outcome:?}"),
        () = written => {}
    }
    let id = fs::read_to_string(&id).unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", id.trim()));
    while fs::read_to_string(&status).is_ok_and(|status| !status.contains("\nState:\tZ")) {
        assert!(start.elapsed() < SOON, "{} lives", id.trim());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_run_fails_and_what_may_not_says_nothing() {
    let script = Script::new("exit 0");
    let absent = why(check(&script.beside("absent"), "", "").await);
    assert!(absent.contains("No such file or directory"), "{absent}");
    fs::set_permissions(&script.path, Permissions::from_mode(0o644)).unwrap();
    let plain = why(script.check("", "").await);
    assert!(plain.contains("it is no executable file"), "{plain}");
    let script = Script::new("exit 1");
    let stranger = script.check("", "user nobody-of-that-name").await;
    assert!(matches!(stranger, Outcome::Inconclusive(_)), "{stranger:?}");
}
