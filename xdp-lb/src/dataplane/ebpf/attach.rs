//! The program onto interfaces.

use aya::Ebpf as Object;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as AyaMode};
use aya::programs::{ProgramError, Xdp};

use super::load::Loading;
use super::{Ebpf, Waiting};
use crate::dataplane::pins::LinkPin;
use crate::dataplane::{AttachedMode, Error, Wish};

/// Name of the program in the object.
pub(super) const PROGRAM: &str = "xdp_lb";

/// An XDP program of the object.
pub(super) fn program<'a>(object: &'a mut Object, name: &str) -> Result<&'a mut Xdp, Error> {
    let program = object
        .program_mut(name)
        .and_then(|p| <&mut Xdp>::try_from(p).ok());
    program.ok_or_else(|| Error::Load(format!("the object holds no XDP program '{name}'")))
}

impl Ebpf {
    /// Attaches the program to an interface. One that a predecessor attached there is replaced in
    /// place, without a packet between the two.
    pub fn attach(
        &mut self,
        interface: &str,
        ifindex: u32,
        wish: impl Into<Wish>,
    ) -> Result<AttachedMode, Error> {
        while self.prepare()? {}
        self.change_over()?;
        let attached = self.attach_anew(interface, ifindex, wish.into())?;
        self.moved_to(ifindex)?;
        Ok(attached)
    }

    fn attach_anew(
        &mut self,
        interface: &str,
        ifindex: u32,
        wish: Wish,
    ) -> Result<AttachedMode, Error> {
        let links = self.pins.links()?;
        if let Some(link) = links.iter().find(|link| link.ifindex == ifindex) {
            if fits(link.mode, wish) && self.replace(link).is_ok() {
                return Ok(link.mode);
            }
            self.unlink(ifindex)?;
        }
        match wish {
            Wish::Only(mode) => self.attach_as(interface, ifindex, mode),
            Wish::First(mode) => {
                let first = self.attach_as(interface, ifindex, mode);
                first.or_else(|refused| match refused {
                    Error::Busy(_) => Err(refused),
                    _ => self.attach_as(interface, ifindex, mode.other()),
                })
            }
        }
    }

    /// Loads the next of the programs that a start over a predecessor's put off, while those of the
    /// predecessor forward; whether more is to be done. The verifier takes tenths of a second for each,
    /// and on a busy machine seconds for all.
    pub fn prepare(&mut self) -> Result<bool, Error> {
        // Whatever fails is begun anew.
        match std::mem::replace(&mut self.waiting, Waiting::ForStart) {
            Waiting::No => {
                self.waiting = Waiting::No;
                Ok(false)
            }
            Waiting::ForStart => {
                // Another object: the programs of the first name maps by descriptors that are closed.
                let loading = Loading::begin(&self.options, self.key)?;
                self.waiting = Waiting::At(loading);
                Ok(true)
            }
            Waiting::At(mut loading) => {
                if loading.go_on()? {
                    self.waiting = Waiting::At(loading);
                    return Ok(true);
                }
                self.object = loading.finish()?;
                self.waiting = Waiting::No;
                self.hand_out();
                Ok(false)
            }
        }
    }

    /// Detaches the program from an interface; fine if it is not attached.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), Error> {
        self.unlink(ifindex)?;
        self.moved_to(ifindex)
    }

    fn unlink(&self, ifindex: u32) -> Result<(), Error> {
        for link in self
            .pins
            .links()?
            .into_iter()
            .filter(|link| link.ifindex == ifindex)
        {
            std::fs::remove_file(&link.path).map_err(|error| {
                Error::Attach(format!("cannot remove {}: {error}", link.path.display()))
            })?;
        }
        Ok(())
    }

    /// Interfaces that the program is attached to.
    pub fn attached(&self) -> Result<Vec<(u32, AttachedMode)>, Error> {
        Ok(self
            .pins
            .links()?
            .into_iter()
            .map(|link| (link.ifindex, link.mode))
            .collect())
    }

    fn replace(&mut self, link: &LinkPin) -> Result<(), Box<dyn std::error::Error>> {
        let pinned = PinnedLink::from_pin(&link.path)?;
        let xdp = XdpLink::try_from(FdLink::from(pinned))?;
        let program = program(&mut self.object, PROGRAM)?;
        let id = program.attach_to_link(xdp)?;
        // The pin keeps the link; only this process's handle is closed.
        drop(program.take_link(id)?);
        Ok(())
    }

    fn attach_as(
        &mut self,
        interface: &str,
        ifindex: u32,
        mode: AttachedMode,
    ) -> Result<AttachedMode, Error> {
        let path = self.pins.link(ifindex, mode);
        let program = program(&mut self.object, PROGRAM)?;
        let flags = match mode {
            AttachedMode::Native => AyaMode::Driver,
            AttachedMode::Generic => AyaMode::Skb,
        };
        let id = program
            .attach_to_if_index(ifindex, flags)
            .map_err(|error| explain(interface, mode, &error))?;
        let link = program
            .take_link(id)
            .map_err(|error| explain(interface, mode, &error))?;
        let link = FdLink::try_from(link).map_err(|_no_bpf_link| {
            Error::Attach(format!(
                "cannot attach to {interface}: this kernel has no BPF links for XDP (Linux 5.9)"
            ))
        })?;
        let pinned = link.pin(&path).map_err(|error| {
            Error::Attach(format!("cannot pin the link of {interface}: {error}"))
        })?;
        drop(pinned);
        Ok(mode)
    }
}

fn fits(found: AttachedMode, wish: Wish) -> bool {
    match wish {
        Wish::First(_) => true,
        Wish::Only(mode) => found == mode,
    }
}

fn explain(interface: &str, mode: AttachedMode, error: &ProgramError) -> Error {
    let code = match error {
        ProgramError::SyscallError(syscall) => syscall.io_error.raw_os_error(),
        _ => None,
    };
    let busy = [nix::Error::EBUSY as i32, nix::Error::EEXIST as i32];
    if code.is_some_and(|code| busy.contains(&code)) {
        return Error::Busy(format!(
            "cannot attach to {interface}: another XDP program is attached there; remove it with \
             'ip link set dev {interface} xdp off', or stop the program that attached it"
        ));
    }
    let hint = match mode {
        AttachedMode::Native => "its driver has no XDP support: try --xdp-mode generic",
        AttachedMode::Generic => "see 'ip link show' and the kernel log",
    };
    Error::Attach(format!(
        "cannot attach to {interface} in {} mode: {}; {hint}",
        mode.name(),
        cause(error)
    ))
}

/// The innermost cause of an error.
fn cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => cause(source),
        None => error.to_string(),
    }
}
