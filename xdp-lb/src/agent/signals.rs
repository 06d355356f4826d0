//! The signals that an agent acts on.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: stop and leave nothing behind.
    Stop,
    /// SIGQUIT: end, and leave everything to a successor.
    Leave,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Signals that wait to be acted on.
const WAITING: usize = 4;

/// Catches the signals from now on. Must be called inside a tokio runtime.
pub fn listen() -> io::Result<mpsc::Receiver<Signal>> {
    let streams = [
        (signal(SignalKind::terminate())?, Signal::Stop),
        (signal(SignalKind::interrupt())?, Signal::Stop),
        (signal(SignalKind::quit())?, Signal::Leave),
        (signal(SignalKind::hangup())?, Signal::Reload),
    ];
    let (sender, receiver) = mpsc::channel(WAITING);
    for (stream, meaning) in streams {
        tokio::spawn(pass_on(stream, meaning, sender.clone()));
    }
    Ok(receiver)
}

async fn pass_on(mut stream: Stream, meaning: Signal, signals: mpsc::Sender<Signal>) {
    while stream.recv().await.is_some() {
        if signals.send(meaning).await.is_err() {
            return;
        }
    }
}
