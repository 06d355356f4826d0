//! Any IP packet is read as a VRRP advert, by a router as well; an advert that is good is said again.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use xdp_lb::machine::{Machine, Now};
use xdp_lb::vrrp::Wall;
use xdp_lb::vrrp::packet::message::{decode, encode};
use xdp_lb::vrrp::packet::{Datagram, ip};
use xdp_lb::vrrp::router::{Input, Router};
use xdp_lb::vrrp::settings::Settings;

fuzz_target!(|bytes: &[u8]| {
    let Ok(datagram) = ip::parse(bytes) else {
        return;
    };
    if let Ok(decoded) = decode(&datagram)
        // Of other kinds of authentication nothing is ever said.
        && decoded.auth_type == decoded.advert.auth.number()
    {
        let Datagram {
            source,
            destination,
            ..
        } = datagram;
        let message = encode(&decoded.advert, source, destination, false);
        let again = decode(&Datagram {
            message,
            ..datagram.clone()
        });
        assert_eq!(again.map(|again| again.advert), Ok(decoded.advert));
    }
    let Some(vrid) = datagram.vrid() else {
        return;
    };
    let own = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let settings = Settings::new("fuzz", vrid, own, vec![own]);
    let mut router = Router::new(Now::ZERO, settings);
    let mut actions = Vec::new();
    router.handle(Now::ZERO, Input::Start { predecessor: None }, &mut actions);
    let wall = Wall(Duration::from_secs(1));
    let now = Now(Duration::from_millis(10));
    router.handle(now, Input::Received { datagram, wall }, &mut actions);
    assert!(
        router
            .deadline()
            .is_none_or(|deadline| deadline > Now::ZERO)
    );
});
