//! Commands that the director runs.

/// A command with its arguments, as keepalived splits it: by white space, with quotes; no shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command {
    /// The line as it stands in the file, without the quotes around it: what a shell would get.
    pub line: String,
    /// The program, a path or a name to be looked up in `PATH`. Never empty.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Who runs it; by default whoever `script_user` names.
    pub user: Option<ScriptUser>,
}

/// `script_user`, `user`: who runs a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScriptUser {
    /// Name of the user.
    pub name: String,
    /// Name of the group; the user's own by default.
    pub group: Option<String>,
}
