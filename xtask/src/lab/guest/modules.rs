//! Which modules a kernel loads, and in which order: each names those it needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::image::Image;

/// IPVS with its schedulers, and a cable.
pub(super) const IPVS: &[&str] = &[
    "af_packet",
    "veth",
    "ipv6",
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_dh",
    "ip_vs_sh",
    "ip_vs_mh",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_fo",
    "ip_vs_ovf",
];

/// Interfaces of every kind.
pub(super) const INTERFACES: &[&str] = &[
    "bonding",
    "bridge",
    "dummy",
    "geneve",
    "ip_gre",
    "ifb",
    "ipip",
    "ipvlan",
    "ipvtap",
    "macvlan",
    "macvtap",
    "tun",
    "team",
    "veth",
    "8021q",
    "vrf",
    "vxlan",
    "wireguard",
];

/// Adds modules with those they need, and a list of them in an order in which they load. One that is no
/// module of this kernel is taken to be built into it.
pub(super) fn add(image: &mut Image, kernel: &Path, wanted: &[&str]) -> Result<()> {
    let mut known = BTreeMap::new();
    let folder = kernel.join("lib/modules");
    find(&folder, &mut known).with_context(|| folder.display().to_string())?;
    let mut order = Vec::new();
    for name in wanted {
        visit(name, &known, &mut order, 0)?;
    }
    ensure!(!order.is_empty(), "no modules in {}", folder.display());
    let mut list = String::new();
    for (name, contents) in order {
        let path = format!("modules/{name}.ko");
        list.extend(["/", &path, "\n"]);
        image.file(&path, contents);
    }
    image.file("job/modules", list.into_bytes());
    Ok(())
}

/// All modules below a folder, by name.
fn find(folder: &Path, known: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            find(&path, known)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, _)) = name.split_once(".ko")
        {
            known.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// What is needed first, then the module itself.
fn visit(
    name: &str,
    known: &BTreeMap<String, PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
    depth: u32,
) -> Result<()> {
    ensure!(depth < 32, "the modules that {name} needs need each other");
    let done = order.iter().any(|(other, _)| other == name);
    let Some(path) = known.get(name).filter(|_| !done) else {
        return Ok(());
    };
    let contents = read(path)?;
    for needed in needs(&contents) {
        visit(&needed, known, order, depth + 1)?;
    }
    order.push((name.to_owned(), contents));
    Ok(())
}

/// A module as the kernel takes it.
fn read(path: &Path) -> Result<Vec<u8>> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let program = match extension {
        Some("ko") => return Ok(fs::read(path)?),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!(
            "{} is compressed in a way that is not known here",
            path.display()
        ),
    };
    let output = Command::new(program).args(["-d", "-c"]).arg(path).output();
    let output = output.with_context(|| format!("{program} does not run"))?;
    ensure!(
        output.status.success(),
        "{program} cannot read {}",
        path.display()
    );
    Ok(output.stdout)
}

/// The modules that one needs, by its own word.
fn needs(module: &[u8]) -> Vec<String> {
    const WORD: &[u8] = b"\0depends=";
    let at = module.windows(WORD.len()).position(|window| window == WORD);
    let rest = at
        .and_then(|at| module.get(at + WORD.len()..))
        .unwrap_or_default();
    let end = rest.iter().position(|octet| *octet == 0).unwrap_or(0);
    let names = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_those_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let module = |name: &str, needs: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("x\0depends={needs}\0y")).unwrap();
        };
        module("ip_vs.ko", "nf-conntrack,libcrc32c");
        module("nf_conntrack.ko", "libcrc32c");
        module("libcrc32c.ko", "");
        let mut known = BTreeMap::new();
        find(folder.path(), &mut known).unwrap();
        let mut order = Vec::new();
        visit("ip_vs", &known, &mut order, 0).unwrap();
        visit("built_in", &known, &mut order, 0).unwrap();
        let names: Vec<_> = order.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["libcrc32c", "nf_conntrack", "ip_vs"]);
    }
}
