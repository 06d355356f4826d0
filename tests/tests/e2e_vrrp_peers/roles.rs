//! What keepalived does by its own settings while xdp-lb is the other director.

use std::fs;
use std::net::Ipv4Addr;

use crate::site::{Kind, Site, VIP, instance};

/// Version 2 with a password, an advert a second.
const PASS: &str = "advert_int 1\nauthentication {\nauth_type PASS\nauth_pass 1111\n}";

/// The VIP of a second instance.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 82, 0, 201);

const XDP_LB: usize = 0;
const KEEPALIVED: usize = 1;

fn pair(tag: &str) -> Option<Site> {
    Site::create(tag, &[Kind::XdpLb, Kind::Keepalived])
}

fn one(priority: u8, lines: &str) -> String {
    instance("VI_1", 51, priority, VIP, &format!("{PASS}\n{lines}"))
}

#[test]
fn a_keepalived_with_nopreempt_leaves_a_worse_xdp_lb_alone() {
    let Some(mut site) = pair("rn") else { return };
    site.start_with(XDP_LB, &one(100, ""));
    site.is_master(XDP_LB, VIP);
    site.start_with(KEEPALIVED, &one(150, "nopreempt"));
    site.is_master(XDP_LB, VIP);
    site.stop(XDP_LB);
    site.is_master(KEEPALIVED, VIP);
    site.start(XDP_LB);
    site.is_master(KEEPALIVED, VIP);
}

#[test]
fn xdp_lb_takes_over_from_a_keepalived_whose_script_fails_until_it_is_well_again() {
    let Some(mut site) = pair("rs") else { return };
    let broken = site.folder.path().join("broken");
    let script = format!(
        "global_defs {{\nenable_script_security\nscript_user root\n}}
        vrrp_script chk {{
            script \"/usr/bin/test ! -e {}\"
            interval 1
            fall 1
            rise 1
            weight -60
        }}\n",
        broken.display()
    );
    let tracked = one(150, "track_script {\nchk\n}");
    site.start_with(KEEPALIVED, &format!("{script}{tracked}"));
    site.start_with(XDP_LB, &one(100, ""));
    site.is_master(KEEPALIVED, VIP);
    fs::write(&broken, "").unwrap();
    site.is_master(XDP_LB, VIP);
    fs::remove_file(&broken).unwrap();
    site.is_master(KEEPALIVED, VIP);
}

#[test]
fn xdp_lb_takes_both_vips_of_a_keepalived_sync_group_when_one_member_has_a_fault() {
    let Some(mut site) = pair("rg") else { return };
    let text = |priority: u8, track: &str| {
        let first = one(priority, "");
        let second = format!("{PASS}\n{track}");
        let second = instance("VI_2", 52, priority, SECOND, &second);
        format!("{first}{second}vrrp_sync_group G {{\ngroup {{\nVI_1\nVI_2\n}}\n}}\n")
    };
    let netns = site.hosts[KEEPALIVED].netns.handle();
    netns
        .ip("link add name tracked type veth peer name peer0\nlink set dev peer0 up\nlink set dev tracked up")
        .unwrap();
    site.start_with(XDP_LB, &text(100, ""));
    site.start_with(KEEPALIVED, &text(150, "track_interface {\ntracked\n}"));
    let both = |site: &Site, owner: usize| {
        site.is_master(owner, VIP);
        site.is_master(owner, SECOND);
    };
    both(&site, KEEPALIVED);
    netns.ip("link set dev tracked down").unwrap();
    both(&site, XDP_LB);
    netns.ip("link set dev tracked up").unwrap();
    both(&site, KEEPALIVED);
}
