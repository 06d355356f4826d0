//! Wrong input: one clear line each, exit 1, nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use xdp_lb_tests::director::{CONFIG, Cluster, occupy};

/// The lines of stderr that say what went wrong.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter(|line| line.starts_with("error"));
    lines.map(str::to_owned).collect()
}

/// Runs `up` in the director's namespace and checks that it fails in one line and leaves nothing.
fn refused(cluster: &Cluster, prepare: impl FnOnce(&mut Command), more: &[&str]) -> String {
    let before = cluster.traces().unwrap();
    let mut command = cluster.command(&["up"]);
    command.args(more);
    prepare(&mut command);
    let output = cluster
        .director
        .netns
        .run(|| command.output())
        .unwrap()
        .unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        errors.len(),
        1,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(cluster.traces().unwrap(), before, "{errors:?}");
    errors.into_iter().next().unwrap()
}

fn as_it_is(_: &mut Command) {}

#[test]
fn what_cannot_work_is_refused_in_one_line() {
    let cluster = Cluster::create("xr").unwrap();
    let good = cluster.write(CONFIG).unwrap();
    let good = good.to_str().unwrap();

    let says = |line: String, wanted: &[&str]| {
        for word in wanted {
            assert!(line.contains(word), "{line:?} does not say {word:?}");
        }
    };
    let missing = format!("{good}.nowhere");
    says(
        refused(&cluster, as_it_is, &["-f", &missing]),
        &[&missing, "no configuration file"],
    );
    says(
        refused(&cluster, as_it_is, &["-f", "/"]),
        &["/", "directory"],
    );
    says(
        refused(&cluster, as_it_is, &["-f", good, "--interface", "eth9"]),
        &["eth9", "this host has", "eth0"],
    );
    says(
        refused(
            &cluster,
            as_it_is,
            &["-f", good, "--interface", "lo", "--xdp-mode", "native"],
        ),
        &["lo", "native", "generic"],
    );
    let nobody = |command: &mut Command| {
        command.uid(65534).gid(65534);
    };
    // A file that everybody may read, in a folder that everybody may enter.
    let shared = tempfile::Builder::new()
        .prefix("xdp-lb-e2e")
        .suffix(".conf")
        .tempfile()
        .unwrap();
    std::fs::write(shared.path(), CONFIG).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(shared.path(), mode).unwrap();
    let path = shared.path().to_str().unwrap();
    says(refused(&cluster, nobody, &["-f", path]), &["root"]);

    let taken = occupy(&cluster.director.netns, "127.0.0.1:9165".parse().unwrap()).unwrap();
    says(
        refused(&cluster, as_it_is, &["-f", good]),
        &["127.0.0.1:9165", "in use"],
    );
    drop(taken);
}

/// A load that the kernel refuses, as a kernel without BPF would: no capability to load programs.
#[test]
fn a_program_that_the_kernel_refuses_leaves_nothing() {
    let cluster = Cluster::create("xk").unwrap();
    let good = cluster.write(CONFIG).unwrap();
    let before = cluster.traces().unwrap();
    let program = cluster.command(&["up", "-f", good.to_str().unwrap()]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-bpf,-sys_admin", "--"]);
    command.arg(program.get_program()).args(program.get_args());
    let output = cluster
        .director
        .netns
        .run(|| command.output())
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        errors(&output).len(),
        1,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(cluster.traces().unwrap(), before);
}

#[test]
fn a_second_agent_of_the_name_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::create("xs").unwrap();
    cluster.up(CONFIG).unwrap();
    let path = cluster.write(CONFIG).unwrap();
    let line = refused(&cluster, as_it_is, &["-f", path.to_str().unwrap()]);
    assert!(
        line.contains("already") || line.contains("another"),
        "{line}"
    );
    assert!(cluster.json("list").is_ok());
}

#[test]
fn services_that_are_not_direct_routing_are_refused_where_they_stand() {
    let cluster = Cluster::create("xn").unwrap();
    for (wrong, word) in [("    lb_kind NAT\n", "NAT"), ("", "lb_kind")] {
        let path = cluster
            .write(&CONFIG.replace("    lb_kind DR\n", wrong))
            .unwrap();
        let path = path.to_str().unwrap();
        let output = cluster.run(&["up", "-f", path]).unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(word) && text.contains(&format!("{path}:")),
            "{text}"
        );
    }
    let usage = cluster.run(&["up", "--no-such-option"]).unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
