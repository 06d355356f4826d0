//! Runs the emulator and reads what the guest wrote.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xdp_lb_tests::interrupt;

use super::image::{HOST, Image, library_path, linker};

/// How long a guest may take. All of it is emulated, some tens of times slower than this machine.
const PATIENCE: Duration = Duration::from_mins(15);
/// Lines of the guest's console that explain why it did not come to its end.
const TAIL: usize = 25;

/// What is needed.
pub(super) struct Boot<'a> {
    /// The unpacked emulator.
    pub(super) emulator: &'a Path,
    /// The unpacked kernel.
    pub(super) kernel: &'a Path,
    /// Where console, output and initramfs lie.
    pub(super) folder: &'a Path,
}

impl Boot<'_> {
    /// Runs a guest to its end. What its task wrote, if that did not fail.
    pub(super) fn run(&self, image: &Image) -> Result<String> {
        fs::create_dir_all(self.folder)?;
        let file = |name: &str| self.folder.join(name);
        let (initrd, console, output) = (file("initrd"), file("console"), file("output"));
        fs::write(&initrd, image.archive())?;
        let said = File::create(file("qemu"))?;
        let mut command = self.command(&initrd, &console, &output)?;
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let child = command.spawn().context("the emulator does not start")?;
        let ended = Running(child).wait();
        fs::remove_file(&initrd)?;
        let text = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\r', "")
        };
        ended?;
        let output = text(&output);
        if let Some(written) = output.strip_suffix("@@done\n") {
            return Ok(written.to_owned());
        }
        if let Some((_, why)) = output.split_once("@@failed ") {
            bail!("the guest failed: {}", why.trim());
        }
        let console = text(&console) + &text(&file("qemu"));
        let lines: Vec<_> = console.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(TAIL)..)
            .unwrap_or_default();
        bail!(
            "the guest did not come to its end:\n{output}{}",
            tail.join("\n")
        );
    }

    fn command(&self, initrd: &Path, console: &Path, output: &Path) -> Result<Command> {
        let mut command = Command::new(linker(self.emulator));
        let share = |name: &str| self.emulator.join("usr/share").join(name);
        let modules = "usr/lib/x86_64-linux-gnu/qemu";
        command.env("QEMU_MODULE_DIR", self.emulator.join(modules));
        command.args(["--library-path", &library_path(self.emulator)]);
        command.arg(self.emulator.join("usr/bin/qemu-system-x86_64"));
        command
            .arg("-L")
            .arg(share("qemu"))
            .arg("-L")
            .arg(share("seabios"));
        command.args(["-accel", "tcg", "-machine", "q35,hpet=off", "-cpu", "max"]);
        command.args(["-smp", "1", "-m", "1024", "-nodefaults", "-no-user-config"]);
        command.args(["-display", "none", "-no-reboot", "-monitor", "none"]);
        for (name, path) in [("console", console), ("output", output)] {
            command.args([
                "-chardev",
                &format!("file,id={name},path={}", path.display()),
            ]);
            command.args(["-serial", &format!("chardev:{name}")]);
        }
        command.arg("-kernel").arg(kernel(self.kernel)?);
        command.arg("-initrd").arg(initrd);
        // What follows the two dashes are the arguments of the first process, and what the kernel does
        // not know its environment.
        let line = format!(
            "console=ttyS0 loglevel=4 panic=-1 tsc=reliable clocksource=tsc no_timer_check \
             mitigations=off audit=0 rdinit=/{HOST}/ld-linux-x86-64.so.2 \
             PATH=/usr/bin -- --library-path /{HOST} /{HOST}/guest"
        );
        command.args(["-append", &line]);
        Ok(command)
    }
}

fn kernel(tree: &Path) -> Result<std::path::PathBuf> {
    let folder = tree.join("boot");
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut kernels = files.flatten().map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("vmlinuz-")
    });
    kernels
        .next()
        .with_context(|| format!("no kernel in {}", folder.display()))
}

/// An emulator that ends with this value.
struct Running(Child);

impl Running {
    fn wait(mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!(
                    "the emulator ended ({status}); what it said lies beside the console in target/guest"
                );
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "the guest takes longer than {} minutes",
                    PATIENCE.as_secs() / 60
                );
            }
            interrupt::check()?;
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
