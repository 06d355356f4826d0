//! What a configuration may want to know of this host.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use crate::config::host::{File, Ground, Host};
use crate::config::model::Ssl;
use crate::net;
use crate::plan::interfaces::{Sort, is_only_generic, only_generic, refusal};
use crate::probe::tls;

/// Where programs are looked up when the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest first line that the kernel reads of a script, and more.
const FIRST_LINE: u64 = 512;

/// The host that this process runs on, in its network namespace.
#[derive(Clone, Copy, Debug)]
pub struct ThisHost;

impl Host for ThisHost {
    fn file(&self, path: &Path) -> Option<File> {
        let data = fs::metadata(path).ok()?;
        Some(File {
            is_directory: data.is_dir(),
            mode: data.mode() & 0o7777,
            uid: data.uid(),
            gid: data.gid(),
        })
    }

    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        fs::canonicalize(path).ok()
    }

    fn search_path(&self) -> Vec<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        std::env::split_paths(&path).collect()
    }

    fn interpreter(&self, path: &Path) -> Option<String> {
        // A pipe or a device would be waited for.
        let is_plain = fs::metadata(path).is_ok_and(|data| data.is_file());
        let file = is_plain.then(|| fs::File::open(path).ok())??;
        let mut line = Vec::new();
        let mut reader = BufReader::new(file.take(FIRST_LINE));
        reader.read_until(b'\n', &mut line).ok()?;
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_prefix(b"#!")?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    fn refuses_certificates(&self, ssl: &Ssl) -> Option<String> {
        tls::client(ssl).err().map(|error| error.to_string())
    }

    fn has_user(&self, name: &str) -> bool {
        matches!(User::from_name(name), Ok(Some(_)))
    }

    fn has_group(&self, name: &str) -> bool {
        matches!(Group::from_name(name), Ok(Some(_)))
    }

    fn has_interface(&self, name: &str) -> bool {
        nix::net::if_::if_nametoindex(name).is_ok()
    }

    fn ground(&self, name: &str) -> Ground {
        // What is not there, or cannot be asked for, is no news here.
        let Ok(Some(link)) = net::link::named(name) else {
            return Ground::Good;
        };
        if let Some(why) = refusal(name, link.sort) {
            Ground::Useless(why)
        } else if is_only_generic(link.sort) {
            let parent = match link.sort {
                Sort::Vlan(below) => nix::net::if_::if_indextoname(below.parent).ok(),
                _ => None,
            };
            let parent = parent.as_ref().and_then(|name| name.to_str().ok());
            Ground::OnlyGeneric(only_generic(name, link.sort, parent))
        } else {
            Ground::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_for_the_machine_of_the_test() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#! /bin/sh -e\necho\n").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&script, &link).unwrap();
        assert_eq!(ThisHost.interpreter(&link).as_deref(), Some(" /bin/sh -e"));
        assert_eq!(ThisHost.interpreter(folder.path()), None);
        assert_eq!(ThisHost.resolve(&link), fs::canonicalize(&script).ok());
        let file = ThisHost.file(&link).unwrap();
        assert!(!file.is_directory);
        assert!(ThisHost.file(folder.path()).unwrap().is_directory);
        assert!(ThisHost.has_user("root") && ThisHost.has_group("root"));
        assert!(!ThisHost.has_user("no-such-user") && !ThisHost.has_group("no-such-group"));
        assert!(ThisHost.has_interface("lo") && !ThisHost.has_interface("no-such-if"));
        assert!(matches!(ThisHost.ground("lo"), Ground::Useless(_)));
        assert_eq!(ThisHost.ground("no-such-if"), Ground::Good);
        assert!(!ThisHost.search_path().is_empty());
    }
}
