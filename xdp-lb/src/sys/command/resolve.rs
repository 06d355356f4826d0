//! From a command of the configuration to a process that can be started.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Group, Uid, User, getegid, geteuid};

use super::safety::{self, Unsafe};
use super::way::way_to;
use crate::config::model::{Command, ScriptUser};

/// Who runs commands if the configuration names nobody and there is such a user.
pub const DEFAULT_USER: &str = "keepalived_script";
/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runs lines that only a shell understands; the first that is there.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// Words that begin a line for a shell and are, unless `PATH` says otherwise, no programs.
const SHELL_WORDS: [&str; 33] = [
    "[[", "((", "(", "{", "!", ":", ".", "if", "while", "until", "for", "case", "select",
    "function", "time", "test", "[", "cd", "command", "declare", "eval", "exec", "exit", "export",
    "let", "local", "read", "set", "source", "trap", "type", "ulimit", "wait",
];

/// Variables of the agent's own environment that a command gets; others may hold secrets, or speak
/// to systemd in the agent's name.
fn is_passed_on(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        matches!(name, "PATH" | "LANG" | "LANGUAGE" | "TZ") || name.starts_with("LC_")
    })
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such program.
    #[error("there is no program '{0}' in PATH")]
    NotFound(String),
    /// A path that depends on the folder one is in.
    #[error("'{0}' is no absolute path: write it from the root folder on")]
    Relative(String),
    /// It cannot be looked at.
    #[error("cannot run {}: {source}", path.display())]
    Unreadable {
        /// The program.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// No file, or one that nobody may execute.
    #[error("cannot run {}: it is no executable file (chmod +x makes it one)", .0.display())]
    NotExecutable(PathBuf),
    /// A user that does not exist.
    #[error("there is no user '{0}' to run the command as")]
    NoUser(String),
    /// A group that does not exist.
    #[error("there is no group '{0}' to run the command as")]
    NoGroup(String),
    /// The system could not say who a user is.
    #[error("cannot look up '{name}': {source}")]
    LookUp {
        /// The user or group.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// Only root can become somebody else.
    #[error("cannot run a command as user {0}: the agent does not run as root")]
    NotRoot(u32),
    /// Somebody else could make it do what root may do.
    #[error(
        "refused to run {} as root: {fault}. Take that right away, or name another user by \
         'script_user'",
        program.display()
    )]
    Unsafe {
        /// The program.
        program: PathBuf,
        /// What is wrong.
        fault: Unsafe,
    },
}

/// User and group of a process; the agent's own when absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A command that was found and may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Who runs it, unless it is the agent's user.
    pub identity: Option<Identity>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The line as it stands in the configuration, for messages.
    pub line: String,
    /// It is no program, but a line for the shell: worth a message, once.
    pub by_shell: bool,
}

/// Resolves commands.
#[derive(Clone, Debug)]
pub struct Resolver {
    default_user: Option<ScriptUser>,
    environment: Vec<(OsString, OsString)>,
}

impl Resolver {
    /// With the agent's environment. `default_user` is what `script_user` says.
    pub fn new(default_user: Option<ScriptUser>) -> Self {
        Self::with_environment(default_user, std::env::vars_os())
    }

    /// With another environment.
    pub fn with_environment(
        default_user: Option<ScriptUser>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut environment: Vec<_> = variables
            .into_iter()
            .filter(|(name, _)| is_passed_on(name))
            .collect();
        if !environment.iter().any(|(name, _)| name == "PATH") {
            environment.push(("PATH".into(), DEFAULT_PATH.into()));
        }
        Self {
            default_user,
            environment,
        }
    }

    /// Finds the program, who runs it, and whether that is safe.
    pub fn resolve(&self, command: &Command) -> Result<Runnable, Refused> {
        let user = command.user.as_ref().or(self.default_user.as_ref());
        let identity = identity(user)?;
        let (program, by_shell) = self.program(&command.program)?;
        let way = way_to(&program).map_err(|source| Refused::Unreadable {
            path: program.clone(),
            source,
        })?;
        if !is_executable(&program) {
            return Err(Refused::NotExecutable(program));
        }
        if identity.uid == 0 || identity.gid == 0 {
            safety::judge(&way).map_err(|fault| Refused::Unsafe {
                program: program.clone(),
                fault,
            })?;
        }
        Ok(Runnable {
            program,
            arguments: if by_shell {
                vec!["-c".to_owned(), command.line.clone()]
            } else {
                command.arguments.clone()
            },
            identity: other_than_own(identity)?,
            environment: self.environment.clone(),
            line: command.line.clone(),
            by_shell,
        })
    }

    /// Who runs commands that name nobody, unless it is the agent's user.
    pub fn default_identity(&self) -> Result<Option<Identity>, Refused> {
        other_than_own(identity(self.default_user.as_ref())?)
    }

    /// The path of a program, and whether it is a shell that takes the whole line.
    fn program(&self, name: &str) -> Result<(PathBuf, bool), Refused> {
        if name.contains('/') {
            let path = PathBuf::from(name);
            return if path.is_absolute() {
                Ok((path, false))
            } else {
                Err(Refused::Relative(name.to_owned()))
            };
        }
        if let Some(path) = self.in_path(name) {
            return Ok((path, false));
        }
        let shell = SHELLS
            .iter()
            .map(Path::new)
            .find(|shell| is_executable(shell));
        match shell {
            Some(shell) if SHELL_WORDS.contains(&name) => Ok((shell.to_owned(), true)),
            _ => Err(Refused::NotFound(name.to_owned())),
        }
    }

    fn in_path(&self, name: &str) -> Option<PathBuf> {
        let (_, path) = self.environment.iter().find(|(name, _)| name == "PATH")?;
        std::env::split_paths(path)
            // An empty part would be the folder one happens to be in.
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path))
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// User and group of that name; by default those of [`DEFAULT_USER`], else the agent's own.
fn identity(user: Option<&ScriptUser>) -> Result<Identity, Refused> {
    let own = Identity {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
    };
    let Some(user) = user else {
        // Without root nobody can become that user, and the agent's own is as harmless.
        let found = if own.uid == 0 {
            look_up(DEFAULT_USER)?
        } else {
            None
        };
        return Ok(found.as_ref().map_or(own, of_user));
    };
    let found = look_up(&user.name)?.ok_or_else(|| Refused::NoUser(user.name.clone()))?;
    let mut identity = of_user(&found);
    if let Some(name) = &user.group {
        let group = Group::from_name(name).map_err(|errno| failed(name, errno))?;
        let group = group.ok_or_else(|| Refused::NoGroup(name.clone()))?;
        identity.gid = group.gid.as_raw();
    }
    Ok(identity)
}

fn look_up(name: &str) -> Result<Option<User>, Refused> {
    User::from_name(name).map_err(|errno| failed(name, errno))
}

fn failed(name: &str, errno: Errno) -> Refused {
    Refused::LookUp {
        name: name.to_owned(),
        source: errno.into(),
    }
}

const fn of_user(user: &User) -> Identity {
    Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }
}

/// `None` if the agent is that user and group already.
fn other_than_own(identity: Identity) -> Result<Option<Identity>, Refused> {
    let own = (geteuid(), getegid());
    if own.0.as_raw() == identity.uid && own.1.as_raw() == identity.gid {
        Ok(None)
    } else if own.0 == Uid::from_raw(0) {
        Ok(Some(identity))
    } else {
        Err(Refused::NotRoot(identity.uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        let mut words = line.split_whitespace().map(str::to_owned);
        Command {
            line: line.to_owned(),
            program: words.next().unwrap(),
            arguments: words.collect(),
            user: None,
        }
    }

    fn resolver(variables: &[(&str, &str)]) -> Resolver {
        let own = User::from_uid(geteuid()).unwrap().unwrap();
        let user = ScriptUser {
            name: own.name,
            group: None,
        };
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        Resolver::with_environment(Some(user), variables)
    }

    #[test]
    fn a_name_is_looked_up_in_path_and_a_path_taken_as_it_is() {
        let resolver = resolver(&[("PATH", "relative::/nowhere:/usr/bin:/bin")]);
        let found = resolver.resolve(&command("env -i a")).unwrap();
        assert_eq!(found.program, Path::new("/usr/bin/env"));
        assert_eq!((found.arguments.len(), found.by_shell), (2, false));
        let given = resolver.resolve(&command("/bin/sh x")).unwrap();
        assert_eq!(given.program, Path::new("/bin/sh"));
        assert_eq!(given.identity, None);
    }

    #[test]
    fn a_line_that_only_a_shell_understands_goes_to_one_whole() {
        let line = "[[ -f /etc/down ]] && exit 1 || exit 0";
        let found = resolver(&[("PATH", "/usr/bin")])
            .resolve(&command(line))
            .unwrap();
        assert!(found.by_shell);
        assert_eq!(found.arguments, ["-c", line]);
        assert!(SHELLS.contains(&found.program.to_str().unwrap()));
        // "[" is a program on most hosts, and a builtin where it is not.
        let known = resolver(&[("PATH", "/nowhere")]).resolve(&command("[ -f /etc/down ]"));
        assert!(known.unwrap().by_shell);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_reason() {
        let cases = [
            (
                "no-such-program a",
                "there is no program 'no-such-program' in PATH",
            ),
            (
                "bin/check a",
                "'bin/check' is no absolute path: write it from the root folder on",
            ),
            (
                "/etc/passwd",
                "cannot run /etc/passwd: it is no executable file (chmod +x makes it one)",
            ),
            (
                "/etc",
                "cannot run /etc: it is no executable file (chmod +x makes it one)",
            ),
            (
                "/no/where",
                "cannot run /no/where: No such file or directory (os error 2)",
            ),
        ];
        for (line, expected) in cases {
            let refused = resolver(&[]).resolve(&command(line)).unwrap_err();
            assert_eq!(refused.to_string(), expected);
        }
        let mut somebody = command("/bin/true");
        somebody.user = Some(ScriptUser {
            name: "nobody-of-that-name".to_owned(),
            group: None,
        });
        let refused = resolver(&[]).resolve(&somebody).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "there is no user 'nobody-of-that-name' to run the command as"
        );
    }

    #[test]
    fn a_command_gets_paths_language_and_time_zone_and_nothing_else() {
        let resolver = resolver(&[
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("LD_PRELOAD", "/tmp/a.so"),
            ("BASH_ENV", "/tmp/a"),
            ("TOKEN", "secret"),
        ]);
        let names: Vec<_> = resolver.environment.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["LANG", "LC_ALL", "TZ", "PATH"]);
    }

    #[test]
    fn what_others_could_change_is_not_run_as_root() {
        if !geteuid().is_root() {
            return;
        }
        // The folder for temporary files is everybody's.
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let script = folder.path().join("check");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let line = script.to_str().unwrap();
        let refused = resolver(&[]).resolve(&command(line)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "refused to run {line} as root: /tmp can be written to by everybody. Take that \
                 right away, or name another user by 'script_user'"
            )
        );
        let mut harmless = command(line);
        harmless.user = Some(ScriptUser {
            name: "nobody".to_owned(),
            group: None,
        });
        let found = resolver(&[]).resolve(&harmless).unwrap();
        assert_eq!(found.identity.unwrap().uid, 65534);
    }
}
