//! Messages of the XDP program, for debugging: one per packet, so never in production.

use std::os::fd::AsFd;
use std::thread;

use aya::Ebpf as Object;
use aya_log::EbpfLogger;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dataplane::Error;

/// Hands the program's messages to the log for as long as the process lives.
pub(super) fn follow(object: &mut Object) -> Result<(), Error> {
    let failed = |error: &dyn std::error::Error| {
        Error::Load(format!("cannot read the XDP program's messages: {error}"))
    };
    let mut logger = EbpfLogger::init(object).map_err(|error| failed(&error))?;
    let follower = thread::Builder::new()
        .name("bpf-log".to_owned())
        .spawn(move || {
            loop {
                let ready = poll(
                    &mut [PollFd::new(logger.as_fd(), PollFlags::POLLIN)],
                    PollTimeout::NONE,
                );
                match ready {
                    Ok(_) => logger.flush(),
                    Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
        });
    follower.map(drop).map_err(|error| failed(&error))
}
