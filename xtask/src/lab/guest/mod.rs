//! A whole other kernel: a Debian one with IPVS, in an emulator, that runs a task of ours and ends.
//!
//! [`debs`] fetches emulator, kernels and keepalived as Debian packages and unpacks them below the target
//! directory; [`modules`] finds what the kernel has to load; [`image`] packs all that the guest needs into
//! an initramfs, whose first process is the example `guest` of tests/; [`boot`] runs it and returns what
//! it wrote. Nothing is installed, and nothing outside of the target directory is touched.

mod boot;
mod debs;
mod image;
mod modules;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::tree;
use debs::{Debs, Suite};
use image::Image;

/// Kernels that can be had.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Ubuntu 22.04's, the oldest that must load the programs. (Debian has no 5.15 any more.)
    #[value(name = "5.15")]
    V5_15,
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, from Debian 12's backports.
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    /// All of them, the oldest first.
    pub(crate) const ALL: [Self; 3] = [Self::V5_15, Self::V6_1, Self::V6_12];
    /// Those whose packages have modules, IPVS among them.
    pub(crate) const WITH_MODULES: [Self; 2] = [Self::V6_1, Self::V6_12];

    /// The series.
    pub(crate) const fn series(self) -> &'static str {
        match self {
            Self::V5_15 => "5.15",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.series())
    }
}

/// What a guest does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task<'a> {
    /// IPVS, set up by keepalived, places the connections of these cases.
    Choose(&'a str),
    /// The verifier looks at each program.
    Verify,
    /// A program goes on interfaces of every kind.
    Interfaces,
}

/// Debian's packages with what runs inside.
const PROGRAMS: [&str; 3] = ["keepalived", "ipvsadm", "iproute2"];

/// Everything to run guests with.
pub(crate) struct Guest {
    debs: Debs,
    program: PathBuf,
    emulator: PathBuf,
}

impl Guest {
    /// Builds what runs inside, and fetches the emulator if this is the first time.
    pub(crate) fn prepare() -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the emulated guest is a PC, and so must this machine be"
        );
        tree::run_cargo(["build", "--package", "xdp-lb-tests", "--example", "guest"])?;
        let debs = Debs::at(tree::target()?.join("guest"));
        let emulator = debs.tree("qemu", Suite::Backports, &["qemu-system-x86"])?;
        Ok(Self {
            debs,
            program: tree::target()?.join("debug/examples/guest"),
            emulator,
        })
    }

    /// Boots a kernel, has it do a task, and returns what that wrote.
    ///
    /// # Errors
    /// When something cannot be had, the guest does not come to its end, or the task fails.
    pub(crate) fn run(&self, kernel: Kernel, task: Task<'_>) -> Result<String> {
        let kernel_tree = self.kernel(kernel)?;
        let mut image = Image::default();
        image.host_program("guest", &self.program)?;
        match task {
            Task::Choose(cases) => {
                let debian = self.debs.tree("programs", Suite::Stable, &PROGRAMS)?;
                for program in ["usr/sbin/keepalived", "sbin/ipvsadm", "bin/ip"] {
                    image.debian_program(&debian, program)?;
                }
                image.file("job/task", b"choose\n".to_vec());
                image.file("job/cases.txt", cases.as_bytes().to_vec());
                modules::add(&mut image, &kernel_tree, modules::IPVS)?;
            }
            Task::Verify => image.file("job/task", b"verify\n".to_vec()),
            Task::Interfaces => {
                let debian = self.debs.tree("programs", Suite::Stable, &PROGRAMS)?;
                image.debian_program(&debian, "bin/ip")?;
                image.file("job/task", b"interfaces\n".to_vec());
                modules::add(&mut image, &kernel_tree, modules::INTERFACES)?;
            }
        }
        let folder = tree::target()?.join("guest");
        boot::Boot {
            emulator: &self.emulator,
            kernel: &kernel_tree,
            folder: &folder.join(format!("run-{kernel}")),
        }
        .run(&image)
    }

    fn kernel(&self, kernel: Kernel) -> Result<PathBuf> {
        let cloud = "-cloud-amd64";
        match kernel {
            Kernel::V5_15 => {
                self.debs.know_ubuntu()?;
                let unsigned = "linux-image-unsigned-5.15.0-";
                self.debs.kernel(unsigned, "-generic")
            }
            Kernel::V6_1 => self.debs.kernel("linux-image-6.1.0-", cloud),
            Kernel::V6_12 => self.debs.kernel("linux-image-6.12.", cloud),
        }
    }
}
