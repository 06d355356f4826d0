//! The servers: nginx with php-fpm, and MariaDB; real ones, each in its namespace.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use xdp_lb_tests::lan::Host;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{netns, wait};

use crate::lab::ledger::Ledger;
use crate::lab::needs::Built;
use crate::lab::server::{Setup, configure_nginx, start_nginx};

/// What a server may take to serve; MariaDB makes its tables first.
const START: Duration = Duration::from_secs(30);

/// nginx and php-fpm. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub(crate) struct Web {
    setup: Setup,
    nginx: Process,
    php: Process,
    /// Its namespace and link.
    pub(crate) host: Host,
    /// The address that the director knows it by.
    pub(crate) address: Ipv4Addr,
    folder: PathBuf,
}

impl Web {
    /// Sets the host up as a real server and starts both.
    pub(crate) fn start(
        (host, address): (Host, Ipv4Addr),
        (built, vip): (&Built, Ipv4Addr),
        scratch: &Path,
        ledger: &mut Ledger,
    ) -> Result<Self> {
        let folder = scratch.join(&host.name);
        fs::create_dir(&folder)?;
        let setup = Setup::up(&host, &built.xdp_lb, vip, ledger)?;
        configure_nginx(&built.scenario.join("nginx.conf"), &host.name, &folder)?;
        fs::copy(built.scenario.join("index.php"), folder.join("index.php"))?;
        let php = fs::read_to_string(built.scenario.join("php-fpm.conf"))?;
        let php = php.replace("@FOLDER@", &folder.display().to_string());
        fs::write(folder.join("php-fpm.conf"), php)?;
        let php = start_php(&host, &folder, ledger)?;
        let nginx = start_nginx(&host.netns, &folder)?;
        ledger.process(&nginx)?;
        Ok(Self {
            setup,
            nginx,
            php,
            host,
            address,
            folder,
        })
    }

    /// Kills nginx, its workers with it.
    pub(crate) fn kill_nginx(&mut self) -> Result<()> {
        self.nginx.kill().map(drop)
    }

    /// Kills php-fpm, its workers with it; nginx answers 502 from then on.
    pub(crate) fn kill_php(&mut self) -> Result<()> {
        self.php.kill_tree().map(drop)
    }

    /// Starts nginx again.
    pub(crate) fn restart_nginx(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.nginx = start_nginx(&self.host.netns, &self.folder)?;
        ledger.process(&self.nginx)
    }

    /// Starts php-fpm again.
    pub(crate) fn restart_php(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.php = start_php(&self.host, &self.folder, ledger)?;
        Ok(())
    }

    /// Makes it so that everything outlives this value.
    pub(crate) fn keep(&mut self) {
        self.nginx.keep();
        self.php.keep();
        self.setup.keep();
        self.host.netns.keep();
    }
}

fn start_php(host: &Host, folder: &Path, ledger: &mut Ledger) -> Result<Process> {
    let socket = folder.join("php.sock");
    // One that was killed leaves it.
    fs::remove_file(&socket).ok();
    let mut command = Command::new(php_fpm()?);
    command
        .args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"])
        .arg(folder.join("php-fpm.conf"));
    let mut php = Process::start("php-fpm", &host.netns, &mut command, folder)?;
    ledger.process(&php)?;
    wait::until("php-fpm listens", START, || {
        php.expect_running()?;
        Ok(socket.exists().then_some(()))
    })?;
    Ok(php)
}

/// Debian's program bears its version in its name.
fn php_fpm() -> Result<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/usr/sbin")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("php-fpm"))
        })
        .collect();
    found.sort();
    found.pop().context("no php-fpm in /usr/sbin")
}

/// MariaDB.
#[derive(Debug)]
pub(crate) struct Database {
    setup: Setup,
    server: Process,
    /// Its namespace and link.
    pub(crate) host: Host,
    /// The address that the director knows it by.
    pub(crate) address: Ipv4Addr,
    folder: PathBuf,
    id: u32,
}

/// What keeps a server small.
const SMALL: [&str; 3] = [
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--performance-schema=OFF",
];

impl Database {
    /// Sets the host up as a real server, makes an empty database and starts the server, whose
    /// `server_id` is `id`.
    pub(crate) fn start(
        (host, address, id): (Host, Ipv4Addr, u32),
        (built, vip): (&Built, Ipv4Addr),
        scratch: &Path,
        ledger: &mut Ledger,
    ) -> Result<Self> {
        let folder = scratch.join(&host.name);
        fs::create_dir(&folder)?;
        let setup = Setup::up(&host, &built.xdp_lb, vip, ledger)?;
        let mut install = Command::new("mariadb-install-db");
        install
            .args(["--no-defaults", "--user=root", "--skip-test-db"])
            .args(["--auth-root-authentication-method=normal"])
            .args(SMALL)
            .arg(format!("--datadir={}", folder.join("data").display()));
        netns::output(&mut install)?;
        fs::copy(built.scenario.join("init.sql"), folder.join("init.sql"))?;
        let server = launch(&host, &folder, id, ledger)?;
        Ok(Self {
            setup,
            server,
            host,
            address,
            folder,
            id,
        })
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.kill().map(drop)
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.server = launch(&self.host, &self.folder, self.id, ledger)?;
        Ok(())
    }

    /// Makes it so that everything outlives this value.
    pub(crate) fn keep(&mut self) {
        self.server.keep();
        self.setup.keep();
        self.host.netns.keep();
    }
}

fn launch(host: &Host, folder: &Path, id: u32, ledger: &mut Ledger) -> Result<Process> {
    let within = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
    let mut command = Command::new("mariadbd");
    command
        .args(["--no-defaults", "--user=root", "--bind-address=0.0.0.0"])
        .args(["--port=3306", "--skip-name-resolve"])
        .args(SMALL)
        .arg(format!("--server-id={id}"))
        .arg(within("datadir", "data"))
        .arg(within("socket", "db.sock"))
        .arg(within("pid-file", "db.pid"))
        .arg(within("init-file", "init.sql"));
    let mut server = Process::start("mariadbd", &host.netns, &mut command, folder)?;
    ledger.process(&server)?;
    wait::until("MariaDB answers", START, || {
        server.expect_running()?;
        // Refused until it listens and has read its init file.
        let answer = host.netns.output(&mut query(Ipv4Addr::LOCALHOST)).ok();
        Ok(answer.map(drop))
    })?;
    Ok(server)
}

/// Asks a server for its id.
pub(crate) fn query(address: Ipv4Addr) -> Command {
    let mut command = Command::new("mariadb");
    command
        .args([
            "--no-defaults",
            "--protocol=tcp",
            "--user=lab",
            "--password=lab",
        ])
        .args(["--connect-timeout=3", "--batch", "--skip-column-names"])
        .arg(format!("--host={address}"))
        .args(["--execute", "SELECT @@server_id"]);
    command
}
