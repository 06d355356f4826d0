//! One command on a host.

use std::path::Path;

use super::path::{find, is_program, writable_part};
use super::{Finding, Host};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::model::{Command, Config, ScriptUser};
use crate::config::places::PlacedCommand;

/// The shell that runs what only a shell understands.
const SHELL: &str = "/bin/bash";
/// Who runs commands when the file names nobody, if there is such a user.
const DEFAULT_USER: &str = "keepalived_script";

/// Words that begin a line of a shell and are no programs.
const SHELL_WORDS: [&str; 24] = [
    "!", "(", "((", ".", ":", "[", "[[", "case", "cd", "command", "eval", "exec", "exit", "export",
    "for", "if", "return", "set", "source", "test", "type", "until", "while", "{",
];
/// What connects commands for a shell, and is a mere argument without one.
const SHELL_OPERATORS: [&str; 11] = [
    "||",
    "&&",
    "|",
    "&",
    ";",
    ">",
    ">>",
    "<",
    "2>&1",
    "2>/dev/null",
    ">/dev/null",
];

/// What was found about a command.
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// Whether keepalived would run it.
    pub(super) is_runnable: bool,
}

/// Whether only VRRP instances run commands of this purpose.
pub(super) fn is_of_vrrp(purpose: &str) -> bool {
    let of_services = [
        "misc_path",
        "notify_up",
        "notify_down",
        "quorum_up",
        "quorum_down",
    ];
    let of_all = purpose.starts_with("startup") || purpose.starts_with("shutdown");
    !of_all && !purpose.contains("fifo") && !of_services.contains(&purpose)
}

/// Looks at all sides of a command.
pub(super) fn check(config: &Config, placed: &PlacedCommand, host: &dyn Host) -> Judged {
    let command = &placed.command;
    let user = command.user.as_ref().or(config.global.script_user.as_ref());
    let lacking = match user {
        Some(user) => unknown_user(user, placed, host),
        None => nobody_named(config, placed, host),
    };
    if let Some(finding) = lacking {
        return refused(finding);
    }
    let Some(path) = find(&command.program, host) else {
        return if is_shell(&command.program) {
            for_shell(placed, host)
        } else {
            refused(missing(placed))
        };
    };
    let mut findings = Vec::new();
    findings.extend(looked_up(placed, &path));
    findings.extend(not_runnable(placed, &path, host));
    findings.extend(operator(placed));
    let insecure = unsafe_path(config, placed, user, &path, host);
    let is_refused = insecure.is_some() && config.global.script_security;
    findings.extend(insecure);
    Judged {
        findings,
        is_runnable: !is_refused,
    }
}

fn refused(finding: Finding) -> Judged {
    Judged {
        findings: vec![finding],
        is_runnable: false,
    }
}

/// Whether keepalived looks at commands of this purpose when it checks a file.
fn is_tracked(placed: &PlacedCommand) -> bool {
    placed.purpose == "script"
}

/// What keepalived makes of a command that it cannot run.
fn consequence(placed: &PlacedCommand) -> &'static str {
    match placed.purpose.as_str() {
        "script" => "keepalived disables this script and runs the instance as if untracked",
        "misc_path" => "keepalived says nothing about it, and the check can never pass",
        _ => "keepalived says nothing about it, and nothing is run",
    }
}

fn unknown_user(user: &ScriptUser, placed: &PlacedCommand, host: &dyn Host) -> Option<Finding> {
    let group = user.group.as_ref().filter(|name| !host.has_group(name));
    let what = if host.has_user(&user.name) {
        format!("group {}", quote(group?))
    } else {
        format!("user {}", quote(&user.name))
    };
    let message = format!("this host has no {what}, who is to run this command");
    Some(Finding {
        diagnostic: Diagnostic::warning(Code::NoSuchUser, message)
            .at(placed.span, removed(placed))
            .help(
                "create it, or name another one: USER [GROUP] behind the command, or 'script_user'",
            ),
        keepalived_complains: true,
    })
}

/// With `enable_script_security` somebody must be named, or there be keepalived's own user.
fn nobody_named(config: &Config, placed: &PlacedCommand, host: &dyn Host) -> Option<Finding> {
    let is_lacking = config.global.script_security && !host.has_user(DEFAULT_USER);
    let message = format!(
        "nobody is named to run this command: with 'enable_script_security' that is user \
         '{DEFAULT_USER}', whom this host does not have"
    );
    is_lacking.then(|| Finding {
        diagnostic: Diagnostic::warning(Code::NoSuchUser, message)
            .at(placed.span, removed(placed))
            .help("create that user, or name another one by 'script_user USER' in global_defs"),
        keepalived_complains: true,
    })
}

/// What keepalived makes of a command that nobody can run.
fn removed(placed: &PlacedCommand) -> &'static str {
    match placed.purpose.as_str() {
        "script" => "keepalived removes this script and runs the instance as if untracked",
        "misc_path" => "keepalived removes this check",
        _ => "keepalived does not run this",
    }
}

fn missing(placed: &PlacedCommand) -> Finding {
    let program = &placed.command.program;
    let shown = quote(program);
    let message = if program.contains('/') {
        format!("there is no file {shown} on this host")
    } else {
        format!("there is no program {shown} in the directories of PATH")
    };
    Finding {
        diagnostic: Diagnostic::warning(Code::CommandMissing, message)
            .at(placed.span, consequence(placed)),
        keepalived_complains: is_tracked(placed),
    }
}

fn is_shell(program: &str) -> bool {
    let is_assignment = program.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    is_assignment || program.starts_with(['(', '$', '`']) || SHELL_WORDS.contains(&program)
}

fn for_shell(placed: &PlacedCommand, host: &dyn Host) -> Judged {
    let program = quote(&placed.command.program);
    let has_shell = host.file(Path::new(SHELL)).is_some_and(is_program);
    let diagnostic = if has_shell {
        let message =
            format!("{program} is a word of the shell, not a program: {SHELL} -c runs it");
        Diagnostic::note(Code::ShellSyntax, message)
    } else {
        let message = format!(
            "{program} is a word of the shell, not a program, and this host has no {SHELL} to run it"
        );
        Diagnostic::warning(Code::ShellSyntax, message)
    };
    Judged {
        findings: vec![Finding {
            diagnostic: diagnostic.at(placed.span, consequence(placed)).help(
                "put the line into a script file that begins with #!/bin/bash, and name that",
            ),
            keepalived_complains: is_tracked(placed),
        }],
        is_runnable: false,
    }
}

/// Which program a name stands for.
fn looked_up(placed: &PlacedCommand, path: &Path) -> Option<Finding> {
    let program = &placed.command.program;
    if program.starts_with('/') {
        return None;
    }
    let shown = quote(program);
    Some(Finding::ours(if program.contains('/') {
        let message = format!(
            "{shown} is not a whole path: what it names depends on where the director is started"
        );
        Diagnostic::warning(Code::CommandLookup, message)
            .at(placed.span, "write the path from / on")
    } else {
        let path = path.display();
        let message = format!("{shown} is {path} here: a name without '/' is looked up in PATH");
        Diagnostic::note(Code::CommandLookup, message)
            .at(placed.span, format!("'{path}' leaves no doubt"))
    }))
}

fn not_runnable(placed: &PlacedCommand, path: &Path, host: &dyn Host) -> Option<Finding> {
    let file = host.file(path)?;
    let shown = quote(&path.to_string_lossy());
    let why = if file.is_directory {
        format!("{shown} is a directory, not a program")
    } else if !is_program(file) {
        format!("{shown} is not executable: make it so by 'chmod +x'")
    } else {
        missing_interpreter(path, host)?
    };
    let comes_of_it = match placed.purpose.as_str() {
        "script" | "misc_path" => "keepalived says nothing about it, and every run of it fails",
        _ => "keepalived says nothing about it, and nothing is run",
    };
    Some(Finding::ours(
        Diagnostic::warning(Code::CommandNotRunnable, why).at(placed.span, comes_of_it),
    ))
}

/// What is wrong with the first line of a script.
fn missing_interpreter(path: &Path, host: &dyn Host) -> Option<String> {
    let line = host.interpreter(path)?;
    let shown = quote(&path.to_string_lossy());
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let interpreter = words.next().unwrap_or_default();
    if line.ends_with('\r') {
        return Some(format!(
            "{shown} cannot be run: its lines end with a carriage return, which becomes part of its \
             interpreter's name; remove them"
        ));
    }
    if !host.file(Path::new(interpreter)).is_some_and(is_program) {
        let interpreter = quote(interpreter);
        return Some(format!(
            "{shown} cannot be run: its interpreter {interpreter} is not there"
        ));
    }
    let wanted = words.next().filter(|word| !word.starts_with('-'));
    let wanted = wanted.filter(|_| interpreter.ends_with("/env"))?;
    let is_missing = !wanted.contains('=') && find(wanted, host).is_none();
    is_missing.then(|| {
        format!(
            "{shown} cannot be run: there is no {} in PATH",
            quote(wanted)
        )
    })
}

/// Words that are meant for a shell, of which there is none.
fn operator(placed: &PlacedCommand) -> Option<Finding> {
    let Command {
        program, arguments, ..
    } = &placed.command;
    let is_shell = ["sh", "bash", "dash", "ash", "zsh", "ksh"];
    let name = program.rsplit('/').next().unwrap_or(program);
    let word = arguments
        .iter()
        .find(|word| SHELL_OPERATORS.contains(&word.as_str()))
        .filter(|_| !is_shell.contains(&name))?;
    let message = format!(
        "{} is handed to {} as an argument: commands are run without a shell",
        quote(word),
        quote(program)
    );
    Some(Finding::ours(
        Diagnostic::warning(Code::ShellSyntax, message)
            .at(placed.span, "as keepalived does")
            .help("name a shell: /bin/sh -c '…', or put the line into a script file"),
    ))
}

/// What could be changed by others and runs as root.
fn unsafe_path(
    config: &Config,
    placed: &PlacedCommand,
    user: Option<&ScriptUser>,
    path: &Path,
    host: &dyn Host,
) -> Option<Finding> {
    let is_root = user.map_or_else(|| !host.has_user(DEFAULT_USER), |user| user.name == "root");
    let (part, why) = writable_part(path, host).filter(|_| is_root)?;
    let part = quote(&part.to_string_lossy());
    let refuses = config.global.script_security;
    let label = if refuses {
        consequence_of_refusal(placed)
    } else {
        "with 'enable_script_security' keepalived would refuse it"
    };
    let message = format!(
        "{} runs as root and others can change it: {part} {why}",
        quote(&placed.command.program)
    );
    Some(Finding {
        diagnostic: Diagnostic::warning(Code::CommandUnsafe, message)
            .at(placed.span, label)
            .help("let root alone write the script and every directory above it, or have another user run it"),
        keepalived_complains: refuses && is_tracked(placed),
    })
}

fn consequence_of_refusal(placed: &PlacedCommand) -> &'static str {
    if is_tracked(placed) {
        consequence(placed)
    } else {
        "keepalived does not run this"
    }
}
