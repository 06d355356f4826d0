//! Whether a program may be run as root: only if nobody else could have put it there.

use std::path::PathBuf;

/// Write permission of the group.
const GROUP_WRITES: u32 = 0o020;
/// Write permission of everybody.
const OTHERS_WRITE: u32 = 0o002;

/// A folder, a link or the file itself on the way to a program, as `lstat` knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its path.
    pub path: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
    /// A symbolic link: its permissions mean nothing, but its owner can point it elsewhere.
    pub is_link: bool,
}

/// Why a program may not be run as root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {reason}", path.display())]
pub struct Unsafe {
    /// The component that is at fault.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Its owner is not root.
    #[error("belongs to user {0}, not to root")]
    Owner(u32),
    /// Its group, which is not root's, may write to it.
    #[error("can be written to by group {0}")]
    Group(u32),
    /// Everybody may write to it.
    #[error("can be written to by everybody")]
    Others,
}

/// Judges the way to a program, from the root folder to the file. A sticky folder such as `/tmp` is
/// one that everybody may write to: somebody else's file may stand there first.
pub fn judge(way: &[Component]) -> Result<(), Unsafe> {
    way.iter().try_for_each(|component| match fault(component) {
        None => Ok(()),
        Some(reason) => Err(Unsafe {
            path: component.path.clone(),
            reason,
        }),
    })
}

const fn fault(component: &Component) -> Option<Reason> {
    if component.uid != 0 {
        Some(Reason::Owner(component.uid))
    } else if component.is_link {
        None
    } else if component.mode & OTHERS_WRITE != 0 {
        Some(Reason::Others)
    } else if component.mode & GROUP_WRITES != 0 && component.gid != 0 {
        Some(Reason::Group(component.gid))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(path: &str, uid: u32, gid: u32, mode: u32) -> Component {
        Component {
            path: path.into(),
            uid,
            gid,
            mode,
            is_link: false,
        }
    }

    #[test]
    fn only_what_root_alone_can_change_is_safe() {
        let root = || component("/", 0, 0, 0o40755);
        let link = |uid| Component {
            is_link: true,
            ..component("/etc/a", uid, 0, 0o120_777)
        };
        let cases = [
            (vec![], None),
            (vec![root(), component("/a", 0, 0, 0o100_700)], None),
            (vec![root(), component("/a", 0, 5, 0o100_755)], None),
            (vec![root(), component("/a", 0, 0, 0o100_775)], None),
            (vec![root(), link(0)], None),
            (
                vec![root(), link(7)],
                Some("/etc/a belongs to user 7, not to root"),
            ),
            (
                vec![root(), component("/a", 0, 5, 0o100_775)],
                Some("/a can be written to by group 5"),
            ),
            (
                vec![
                    root(),
                    component("/tmp", 0, 0, 0o41777),
                    component("/tmp/a", 0, 0, 0o755),
                ],
                Some("/tmp can be written to by everybody"),
            ),
            (
                vec![
                    root(),
                    component("/home/u", 1000, 1000, 0o40755),
                    component("/a", 1, 1, 0),
                ],
                Some("/home/u belongs to user 1000, not to root"),
            ),
        ];
        for (way, expected) in cases {
            let said = judge(&way).err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), expected, "{way:?}");
        }
    }
}
