//! Watches the files of `track_file`: inotify on the folder of each tells of changes at once, and
//! every now and then all are looked at, which also finds what inotify cannot see: files on a network,
//! behind a symbolic link, or in folders that were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::Report;
use super::file::{Files, News};
use crate::config::model::TrackFile;
use crate::sys::number::{self, Content};
use crate::vrrp::group::Input;
use crate::vrrp::priority::{Condition, Kind};

/// From one look at all files to the next, with inotify and without.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_WITHOUT: Duration = Duration::from_secs(1);

/// The running watcher. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct FileWatcher {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// All files there are, and whom to tell that they have been read.
type Order = (Vec<TrackFile>, oneshot::Sender<()>);

impl FileWatcher {
    pub(super) fn start(report: Report) -> Self {
        let (orders, receiver) = mpsc::channel(1);
        let task = tokio::spawn(Watch::new(report).run(receiver));
        Self { orders, task }
    }

    /// Returns when all have been read once.
    pub(super) async fn configure(&self, files: Vec<TrackFile>) {
        let (done, is_done) = oneshot::channel();
        // The task is gone only by a defect, which its own panic tells of.
        if self.orders.send((files, done)).await.is_ok() {
            is_done.await.ok();
        }
    }
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An inotify instance, and a second descriptor of it by which tokio knows when to read it: one that
/// is read like a pipe is enough of one.
struct Notices {
    inotify: Inotify,
    ready: pipe::Receiver,
}

impl Notices {
    fn open() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let second = inotify.as_fd().try_clone_to_owned()?;
        let ready = pipe::Receiver::from_owned_fd_unchecked(second)?;
        Ok(Self { inotify, ready })
    }

    async fn next(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            self.ready.readable().await?;
            let read = || self.inotify.read_events().map_err(io::Error::from);
            match self.ready.try_io(read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

struct Watch {
    report: Report,
    inotify: Option<Notices>,
    folders: BTreeMap<PathBuf, WatchDescriptor>,
    files: Vec<TrackFile>,
    known: Files,
    /// Files that could not be read, which has been said.
    unreadable: BTreeSet<String>,
}

/// Why files are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// They are new, or changed.
    Change,
    /// It is time for a look.
    Look,
}

impl Watch {
    fn new(report: Report) -> Self {
        let mut watch = Self {
            report,
            inotify: None,
            folders: BTreeMap::new(),
            files: Vec::new(),
            known: Files::default(),
            unreadable: BTreeSet::new(),
        };
        match Notices::open() {
            Ok(inotify) => watch.inotify = Some(inotify),
            Err(error) => watch.without_inotify(&error),
        }
        watch
    }

    fn without_inotify(&mut self, error: &io::Error) {
        warn!("no inotify, tracked files are looked at every second instead: {error}");
        self.inotify = None;
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut look_at = Instant::now();
        loop {
            let order = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return,
                },
                events = events(self.inotify.as_ref()) => {
                    match events {
                        Ok(events) => self.changed(events).await,
                        Err(error) => self.without_inotify(&error),
                    }
                    continue;
                }
                () = sleep_until(look_at), if !self.files.is_empty() => None,
            };
            if let Some((files, done)) = order {
                self.configure(files).await;
                done.send(()).ok();
            } else {
                self.watch();
                self.read(self.files.clone(), Occasion::Look).await;
            }
            let pause = self.inotify.as_ref().map_or(LOOK_WITHOUT, |_| LOOK);
            look_at = Instant::now() + pause;
        }
    }

    async fn configure(&mut self, files: Vec<TrackFile>) {
        let old = std::mem::replace(&mut self.files, files.clone());
        let is_kept = |file: &TrackFile| {
            let mut old = old.iter();
            old.any(|old| old.name == file.name && old.path == file.path)
        };
        let new: Vec<_> = files.into_iter().filter(|file| !is_kept(file)).collect();
        let stays = |name: &str| {
            let is_there = self.files.iter().any(|file| file.name == name);
            is_there && !new.iter().any(|file| file.name == name)
        };
        self.known.retain(stays);
        self.unreadable.retain(|name| stays(name));
        // Watched before they are read: what changes in between is read again.
        self.watch();
        self.read(new, Occasion::Change).await;
    }

    /// Watches the folders of all files, as far as they are there.
    fn watch(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ONLYDIR;
        let wanted: BTreeSet<_> = self.files.iter().map(|file| folder(&file.path)).collect();
        let is_wanted = |path: &Path| wanted.contains(path);
        let gone = self.folders.extract_if(.., |path, _| !is_wanted(path));
        for (_, watched) in gone {
            // It may have gone with its folder.
            inotify.inotify.rm_watch(watched).ok();
        }
        for path in wanted {
            // Asked for again each time: the folder may be another one of that name.
            let watched = inotify.inotify.add_watch(&path, flags);
            match watched {
                Ok(watched) => self.folders.insert(path, watched),
                // Until it is there, the looks have to do.
                Err(_) => self.folders.remove(&path),
            };
        }
    }

    async fn changed(&mut self, events: Vec<InotifyEvent>) {
        let is_lost = |event: &InotifyEvent| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
        let all = events.iter().any(is_lost);
        let is_meant = |file: &&TrackFile| {
            let watched = self.folders.get(&folder(&file.path));
            let name = file.path.file_name().map(OsString::from);
            events.iter().any(|event| {
                Some(&event.wd) == watched && event.name == name && is_complete(event, &file.path)
            })
        };
        let files = self.files.iter();
        let files: Vec<_> = files
            .filter(|file| all || is_meant(file))
            .cloned()
            .collect();
        self.read(files, Occasion::Change).await;
    }

    async fn read(&mut self, files: Vec<TrackFile>, occasion: Occasion) {
        if files.is_empty() {
            return;
        }
        let read = spawn_blocking(|| {
            let read = files.into_iter().map(|file| {
                let content = number::read(&file.path);
                (file, content)
            });
            read.collect::<Vec<_>>()
        });
        for (file, content) in read.await.unwrap_or_default() {
            match content {
                // Whoever writes a file empties it first: inotify tells when it is done.
                Ok(Some(Content::Nothing)) if occasion == Occasion::Look => {}
                Ok(content) => {
                    self.unreadable.remove(&file.name);
                    let news = self.known.read(&file.name, content);
                    self.tell(&file, news);
                }
                Err(error) => {
                    if self.unreadable.insert(file.name) {
                        let path = file.path.display();
                        warn!("cannot read {path}, the last number stands: {error}");
                    }
                }
            }
        }
    }

    fn tell(&self, file: &TrackFile, news: News) {
        let path = file.path.display();
        match news.complaint {
            Some(Content::OutOfRange) => {
                warn!("the number in {path} is out of range, the last one stands");
            }
            Some(Content::NoNumber) => {
                warn!("{path} does not begin with a number: it counts as 0");
            }
            Some(Content::Number(_) | Content::Nothing) | None => {}
        }
        if let Some(value) = news.value {
            (self.report)(Input::Tracked {
                kind: Kind::File,
                name: file.name.clone(),
                condition: Condition::Value(value),
            });
        }
    }
}

/// The folder that a file is in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A file that was just made is empty until whoever made it has closed it; a link is not.
fn is_complete(event: &InotifyEvent, path: &Path) -> bool {
    !event.mask.contains(AddWatchFlags::IN_CREATE)
        || std::fs::symlink_metadata(path).is_ok_and(|data| {
            use std::os::unix::fs::MetadataExt as _;
            data.is_symlink() || data.nlink() > 1
        })
}

/// Waits for events; none come without inotify.
async fn events(inotify: Option<&Notices>) -> io::Result<Vec<InotifyEvent>> {
    match inotify {
        Some(inotify) => inotify.next().await,
        None => std::future::pending().await,
    }
}
