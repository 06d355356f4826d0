//! The FIFOs that are told of VRRP and of pools, and what reads them.

use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::config::model::{self, Global};
use crate::sys::command::fifo::{Fifo, Reader};
use crate::sys::command::resolve::{Refused, Resolver, Runnable};

/// How long a reader has for what still stands in a FIFO that a reload takes from it.
const LAST_LINES: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Pipes(Vec<Pipe>);

/// What a line is about, and what a FIFO is for; `None`: for everything.
type Topic = Option<About>;

/// What a line in a FIFO is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Instances and sync groups.
    Vrrp,
    /// Services and real servers.
    Pools,
}

#[derive(Debug)]
struct Pipe {
    topic: Topic,
    wanted: model::Fifo,
    fifo: Fifo,
    reader: Option<Reader>,
}

impl Pipes {
    /// Opens what a configuration asks for, keeps what is the same, closes the rest.
    pub(super) fn configure(&mut self, global: &Global, resolver: &Resolver) {
        let wanted = [
            (None, &global.notify_fifo),
            (Some(About::Vrrp), &global.vrrp_notify_fifo),
            (Some(About::Pools), &global.lvs_notify_fifo),
        ];
        let wanted = wanted.into_iter();
        let wanted: Vec<_> = wanted
            .filter_map(|(topic, fifo)| Some((topic, fifo.as_ref()?)))
            .collect();
        let old = std::mem::take(&mut self.0);
        let (kept, gone): (Vec<_>, Vec<_>) = old
            .into_iter()
            .partition(|pipe| wanted.contains(&(pipe.topic, &pipe.wanted)));
        self.0 = kept;
        // Closed before others are opened: they may have the same path.
        let readers = gone.into_iter().filter_map(|pipe| pipe.close(LAST_LINES));
        tokio::spawn(join_all(readers.map(Reader::stop).collect::<Vec<_>>()));
        for (topic, wanted) in wanted {
            let is_it = |pipe: &Pipe| (pipe.topic, &pipe.wanted) == (topic, wanted);
            if !self.0.iter().any(is_it) {
                self.0.extend(Pipe::open(topic, wanted, resolver));
            }
        }
    }

    pub(super) fn write(&mut self, about: About, line: &str) {
        let for_it = |pipe: &&mut Pipe| pipe.topic.is_none_or(|topic| topic == about);
        for pipe in self.0.iter_mut().filter(for_it) {
            pipe.fifo.write(line);
        }
    }

    /// Removes the FIFOs and waits for those that read them, `limit` at most before they are ended.
    pub(super) async fn finish(self, limit: Duration) {
        let readers = self.0.into_iter().filter_map(|pipe| pipe.close(limit));
        join_all(readers.map(Reader::stop).collect::<Vec<_>>()).await;
    }
}

impl Pipe {
    fn open(topic: Topic, wanted: &model::Fifo, resolver: &Resolver) -> Option<Self> {
        let path = wanted.path.display();
        let script = wanted
            .script
            .as_ref()
            .map(|script| resolver.resolve(script));
        let script: Option<Runnable> = match script.transpose() {
            Ok(script) => script,
            Err(refused) => {
                warn!("nothing is started to read the FIFO {path}: {refused}");
                None
            }
        };
        // Whoever reads it must be able to open it.
        let owner: Result<_, Refused> = match &script {
            Some(script) => Ok(script.identity),
            None => resolver.default_identity(),
        };
        let opened = match owner {
            Ok(owner) => Fifo::open(&wanted.path, owner).map_err(|error| error.to_string()),
            Err(refused) => Err(format!("the FIFO {path} would be nobody's: {refused}")),
        };
        match opened {
            Ok(fifo) => Some(Self {
                topic,
                wanted: wanted.clone(),
                fifo,
                reader: script.map(|script| Reader::start(script, &wanted.path)),
            }),
            Err(error) => {
                warn!("{error}");
                None
            }
        }
    }

    /// The reader sees the end of the pipe behind its last line.
    fn close(self, grace: Duration) -> Option<Reader> {
        let mut reader = self.reader;
        if let Some(reader) = &mut reader {
            reader.release(grace);
        }
        drop(self.fifo);
        reader
    }
}
