//! What the service manager is told, if there is one.
//!
//! Under anything but systemd (`NOTIFY_SOCKET` unset) every call does nothing. A socket that cannot
//! be written to is logged and otherwise ignored: the service manager's troubles must not stop
//! packets.

use sd_notify::NotifyState;

/// The agent serves: VIPs may be taken, the control socket answers. Also ends a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read anew; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot tell systemd of the reload: {error}"),
    }
}

/// The agent is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify systemd: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    /// Without a service manager this does nothing; [`systemd_hears_every_state_in_order`] runs it in
    /// a process that has one.
    #[test]
    fn every_call_goes_through() {
        ready();
        reloading();
        status("MASTER for VI_1");
        stopping();
    }

    #[test]
    fn systemd_hears_every_state_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sys::systemd::tests::every_call_goes_through"])
            .env("NOTIFY_SOCKET", &path)
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let mut heard = Vec::new();
        for _ in 0..4 {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(heard[0], "READY=1\n");
        assert!(
            heard[1].starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{heard:?}"
        );
        assert_eq!(heard[2..], ["STATUS=MASTER for VI_1\n", "STOPPING=1\n"]);
    }
}
