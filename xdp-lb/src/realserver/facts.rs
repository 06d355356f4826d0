//! What stands on this host, as far as a real server is concerned.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::Error;

/// The loopback interface.
pub const LO: &str = "lo";
/// The pseudo-interface whose settings count for every interface.
pub const ALL: &str = "all";

/// A setting of an interface under `net.ipv4.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Which ARP queries are answered.
    ArpIgnore,
    /// Which source address ARP queries carry.
    ArpAnnounce,
    /// Whether packets must come in where the route to their source leads out.
    RpFilter,
}

impl Key {
    const fn name(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
        }
    }
}

/// A sysctl `net.ipv4.conf.INTERFACE.KEY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Interface, or [`ALL`].
    pub interface: String,
    /// Setting.
    pub key: Key,
}

impl Sysctl {
    /// The setting of an interface.
    pub fn new(interface: &str, key: Key) -> Self {
        Self {
            interface: interface.to_owned(),
            key,
        }
    }

    /// Its file. The kernel shows those of the network namespace of the thread that looks.
    fn path(&self) -> PathBuf {
        let conf = PathBuf::from("/proc/sys/net/ipv4/conf");
        conf.join(&self.interface).join(self.key.name())
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.ipv4.conf.{}.{}", self.interface, self.key.name())
    }
}

/// An interface of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Name.
    pub name: String,
    /// Up with carrier.
    pub up: bool,
    /// Addresses with prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// What stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// All interfaces.
    pub interfaces: Vec<Host>,
    /// [`Key::ArpIgnore`], [`Key::ArpAnnounce`] and [`Key::RpFilter`] of all interfaces and of
    /// [`ALL`].
    pub sysctls: BTreeMap<Sysctl, i64>,
}

impl Facts {
    /// The interface `lo`.
    pub fn lo(&self) -> Option<&Host> {
        self.interfaces.iter().find(|host| host.name == LO)
    }

    /// The interfaces that are not `lo`.
    pub fn others(&self) -> impl Iterator<Item = &Host> {
        self.interfaces.iter().filter(|host| host.name != LO)
    }

    /// Whether `lo` has the VIP as a host address.
    pub fn has_vip(&self, vip: IpAddr) -> bool {
        let wanted = crate::net::netlink::host_net(vip);
        self.lo().is_some_and(|lo| lo.addresses.contains(&wanted))
    }

    /// A setting that stands.
    pub fn value(&self, sysctl: &Sysctl) -> Option<i64> {
        self.sysctls.get(sysctl).copied()
    }

    /// What counts for an interface: the kernel takes the larger of its own value and that of
    /// [`ALL`] for each [`Key`] (Documentation/networking/ip-sysctl.rst).
    pub fn effective(&self, interface: &str, key: Key) -> i64 {
        let value = |interface| self.value(&Sysctl::new(interface, key)).unwrap_or(0);
        value(ALL).max(value(interface))
    }
}

/// Adds the sysctls to what is known of the interfaces.
pub(super) fn read(interfaces: Vec<Host>) -> Result<Facts, Error> {
    let mut sysctls = BTreeMap::new();
    let names = interfaces
        .iter()
        .map(|host| host.name.as_str())
        .chain([ALL]);
    for name in names {
        for key in [Key::ArpIgnore, Key::ArpAnnounce, Key::RpFilter] {
            let sysctl = Sysctl::new(name, key);
            match read_one(&sysctl) {
                Ok(value) => {
                    sysctls.insert(sysctl, value);
                }
                // The interface went since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && name != ALL => {}
                Err(source) => {
                    return Err(Error::Sysctl {
                        operation: "read",
                        sysctl,
                        source,
                    });
                }
            }
        }
    }
    Ok(Facts {
        interfaces,
        sysctls,
    })
}

fn read_one(sysctl: &Sysctl) -> io::Result<i64> {
    let text = fs::read_to_string(sysctl.path())?;
    text.trim()
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub(super) fn write(sysctl: &Sysctl, value: i64) -> Result<(), Error> {
    fs::write(sysctl.path(), value.to_string()).map_err(|source| Error::Sysctl {
        operation: "set",
        sysctl: sysctl.clone(),
        source,
    })
}
