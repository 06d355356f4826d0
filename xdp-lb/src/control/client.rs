//! A command's end of the control socket. It blocks: a command has nothing else to do.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::capture::{Line, Want};
use super::protocol::{self, AnswerError, MAX_ANSWER, Request, Verb};
use super::trace::{Query, Trace};
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

/// Asks the agent of an instance what would become of a packet.
pub fn trace(instance: &str, query: Query) -> Result<Trace, Error> {
    let path = socket_path(instance);
    let request = Request::Trace(query);
    let line = converse(&path, &request).map_err(|error| classify(error, &path, instance))?;
    Ok(protocol::decode_trace(&line)?)
}

/// What becomes of packets, for as long as it is read. Dropping it ends the capture.
#[derive(Debug)]
pub struct Capture {
    lines: BufReader<Socket>,
    instance: String,
}

/// Has the agent of an instance show what becomes of packets.
pub fn capture(instance: &str, want: Want) -> Result<Capture, Error> {
    capture_at(&socket_path(instance), instance, want)
}

pub(super) fn capture_at(path: &Path, instance: &str, want: Want) -> Result<Capture, Error> {
    let classified = |error| classify(error, path, instance);
    let begin = || -> io::Result<(BufReader<Socket>, Vec<u8>)> {
        // To begin, the agent brings another program into the kernel.
        let socket = connect(path, 6 * PATIENCE)?;
        (&socket).write_all(&protocol::encode_request(&Request::Capture(want)))?;
        let mut lines = BufReader::new(socket);
        let mut first = Vec::new();
        lines.read_until(b'\n', &mut first)?;
        // From here on it is silent for as long as nothing happens.
        lines.get_ref().set_read_timeout(None)?;
        Ok((lines, first))
    };
    let (lines, first) = begin().map_err(classified)?;
    protocol::decode_capture(&first)?;
    let instance = instance.to_owned();
    Ok(Capture { lines, instance })
}

impl Iterator for Capture {
    type Item = Result<Line, Error>;

    /// The next line, waited for; `None` when the agent ended it.
    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.lines.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(protocol::decode_shown(&line).map_err(Error::from)),
            Err(source) => {
                let path = socket_path(&self.instance);
                Some(Err(classify(source, &path, &self.instance)))
            }
        }
    }
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
    // A reload waits for scripts and probes of the configuration that goes; to be looked at, the program
    // is brought into the kernel once more.
    let patience = match request {
        Request::Show(_) | Request::Order(_) => PATIENCE,
        Request::Reload | Request::Trace(_) | Request::Capture(_) => 6 * PATIENCE,
    };
    let mut socket = connect(path, patience)?;
    socket.write_all(&protocol::encode_request(request))?;
    let mut line = Vec::new();
    socket.take(MAX_ANSWER).read_to_end(&mut line)?;
    Ok(line)
}

fn connect(path: &Path, patience: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Also bounds connect(), which waits while the agent's backlog is full.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
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
