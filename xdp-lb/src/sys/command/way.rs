//! What one passes on the way to a file: the facts that [`safety`](super::safety) judges.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component as Step, Path, PathBuf};

use nix::errno::Errno;

use super::safety::Component;

/// Symbolic links on the way to a program before it counts as a loop, as in the kernel.
const MOST_LINKS: usize = 40;

/// All that is passed on the way to a file, the links that are followed included.
pub(super) fn way_to(path: &Path) -> io::Result<Vec<Component>> {
    let mut way = Vec::new();
    let mut links = 0;
    let mut here = PathBuf::from("/");
    way.push(component(&here)?);
    let mut ahead: VecDeque<OsString> = steps(path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let found = component(&next)?;
        let is_link = found.is_link;
        way.push(found);
        if !is_link {
            here = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for name in steps(&target).into_iter().rev() {
            ahead.push_front(name);
        }
    }
    Ok(way)
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let name = |step: Step<'_>| match step {
        Step::Normal(name) => Some(name.to_owned()),
        Step::ParentDir => Some("..".into()),
        Step::RootDir | Step::CurDir | Step::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn component(path: &Path) -> io::Result<Component> {
    let found = fs::symlink_metadata(path)?;
    Ok(Component {
        path: path.to_owned(),
        uid: found.uid(),
        gid: found.gid(),
        mode: found.mode(),
        is_link: found.is_symlink(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_way_to_a_program_leads_over_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir(base.join("real")).unwrap();
        fs::write(base.join("real/check"), "").unwrap();
        symlink("real", base.join("linked")).unwrap();
        symlink(base.join("linked/../linked/check"), base.join("link")).unwrap();
        let way = way_to(&base.join("link")).unwrap();
        let passed = |path: &str| {
            way.iter()
                .any(|component| component.path == base.join(path))
        };
        for path in ["link", "linked", "real", "real/check"] {
            assert!(passed(path), "{path}: {way:#?}");
        }
        assert_eq!(way[0].path, Path::new("/"));

        symlink("loop", base.join("loop")).unwrap();
        let looped = way_to(&base.join("loop")).unwrap_err();
        assert_eq!(looped.raw_os_error(), Some(nix::libc::ELOOP));
    }
}
