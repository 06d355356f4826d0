//! A command's end of the control socket. It blocks: a command has nothing else to do.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{self, AnswerError, MAX_ANSWER, Request, Verb};
use super::{Snapshot, socket_path};

/// Longest silence of the agent before a command gives up: more than the agent's own limits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "no agent named '{instance}' is running ({what} {path}); start one with `xdp-lb up{name}`"
    )]
    NotRunning {
        /// The instance asked for.
        instance: String,
        /// Its socket.
        path: PathBuf,
        /// What is wrong with the socket.
        what: &'static str,
        /// How to name the instance.
        name: String,
    },
    /// The socket is not for this user.
    #[error("may not ask the agent named '{instance}' ({path}: permission denied); run as root")]
    Forbidden {
        /// The instance asked for.
        instance: String,
        /// Its socket.
        path: PathBuf,
    },
    /// The agent takes too long.
    #[error("the agent named '{instance}' did not answer in time; see its log")]
    Silent {
        /// The instance asked for.
        instance: String,
    },
    /// The conversation broke off.
    #[error("cannot ask the agent named '{instance}' ({path}): {source}")]
    Io {
        /// The instance asked for.
        instance: String,
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer cannot be used.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Asks the agent of an instance.
pub fn ask(instance: &str, verb: Verb) -> Result<Snapshot, Error> {
    ask_at(&socket_path(instance), instance, verb)
}

/// Has the agent of an instance do something; what it did, line by line.
pub fn order(instance: &str, request: &Request) -> Result<Vec<String>, Error> {
    order_at(&socket_path(instance), instance, request)
}

pub(super) fn order_at(
    path: &Path,
    instance: &str,
    request: &Request,
) -> Result<Vec<String>, Error> {
    let line = converse(path, request).map_err(|error| classify(error, path, instance))?;
    Ok(protocol::decode_done(&line)?)
}

pub(super) fn ask_at(path: &Path, instance: &str, verb: Verb) -> Result<Snapshot, Error> {
    let request = Request::Show(verb);
    let line = converse(path, &request).map_err(|error| classify(error, path, instance))?;
    Ok(protocol::decode_answer(&line)?)
}

fn converse(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Also bounds connect(), which waits while the agent's backlog is full.
    socket.set_write_timeout(Some(PATIENCE))?;
    // A reload waits for scripts and probes of the configuration that goes.
    let patience = match request {
        Request::Show(_) | Request::Order(_) => PATIENCE,
        Request::Reload => 6 * PATIENCE,
    };
    socket.set_read_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.write_all(&protocol::encode_request(request))?;
    let mut line = Vec::new();
    socket.take(MAX_ANSWER).read_to_end(&mut line)?;
    Ok(line)
}

fn classify(source: io::Error, path: &Path, instance: &str) -> Error {
    let (instance, path) = (instance.to_owned(), path.to_owned());
    match source.kind() {
        kind @ (ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Error::NotRunning {
            what: match kind {
                ErrorKind::NotFound => "no",
                _ => "nobody listens on",
            },
            name: match instance.as_str() {
                "default" => String::new(),
                other => format!(" --instance {other}"),
            },
            instance,
            path,
        },
        ErrorKind::PermissionDenied => Error::Forbidden { instance, path },
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Silent { instance },
        _ => Error::Io {
            instance,
            path,
            source,
        },
    }
}
