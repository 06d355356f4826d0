//! A stream that keeps what was read, ends when that is too much, and forgives a missing goodbye.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest answer, head and all, bytes.
pub(super) const LONGEST: usize = 4 << 20;

/// A stream and what came from it.
#[derive(Debug)]
pub(super) struct Recorder<S> {
    stream: S,
    keep: bool,
    kept: Vec<u8>,
    length: usize,
    cut_off: bool,
}

impl<S> Recorder<S> {
    /// `keep`: the bytes are wanted, not only their number.
    pub(super) const fn new(stream: S, keep: bool) -> Self {
        Self {
            stream,
            keep,
            kept: Vec::new(),
            length: 0,
            cut_off: false,
        }
    }

    /// Whether TLS ended without a `close_notify`, which reads like any other end.
    pub(super) const fn was_cut_off(&self) -> bool {
        self.cut_off
    }

    /// What was read.
    pub(super) fn into_kept(self) -> Vec<u8> {
        self.kept
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorder<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        match read {
            // What rustls says to an end without a close_notify. Many servers end so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                this.cut_off = true;
                return Poll::Ready(Ok(()));
            }
            other => other?,
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        this.length = this.length.saturating_add(new.len());
        if this.length > LONGEST {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        if this.keep {
            this.kept.extend_from_slice(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorder<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
