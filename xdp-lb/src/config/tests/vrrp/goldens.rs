//! One golden per kind of diagnostic about VRRP: what users read.

use crate::config::diagnostic::Code;

/// The kind, the file, and what is said about it.
pub(in crate::config::tests) const VRRP_GOLDENS: &[(Code, &str, &str)] = &[
    (
        Code::UnknownName,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    track_script {
        check
        chk_nginx
    }
}
vrrp_script check {
    script \"/bin/true\"
}
",
        "warning[unknown-name]: 'check' is defined further down: it is not tracked here, as with keepalived
 --> test.conf:5:9
  |
5 |         check
  |         ^^^^^ runs as if untracked
  |
  = help: move vrrp_script 'check' above this block

warning[unknown-name]: no vrrp_script is called 'chk_nginx': it is not tracked, as with keepalived
 --> test.conf:6:9
  |
6 |         chk_nginx
  |         ^^^^^^^^^ runs as if untracked
  |
  = help: define vrrp_script 'chk_nginx' above, or correct the name

",
    ),
    (
        Code::Rounded,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    advert_int 0.5
}
",
        "warning[rounded-value]: adverts are sent every 1 s and not every 0.5 s, as with keepalived
 --> test.conf:4:16
  |
4 |     advert_int 0.5
  |                ^^^ version 2 carries whole seconds
  |
  = help: write whole seconds, or 'version 3' on every director of the group

",
    ),
    (
        Code::Overruled,
        "vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 150
    nopreempt
    unicast_src_ip 10.0.0.2
}
",
        "warning[overruled-setting]: 'nopreempt' has no effect: with 'state MASTER' it takes over at the start
 --> test.conf:6:5
  |
2 |     state MASTER
  |           ------ because of this
...
6 |     nopreempt
  |     ^^^^^^^^^ ignored, as keepalived does

warning[overruled-setting]: unicast without a peer: adverts go out by multicast, as with keepalived
 --> test.conf:7:5
  |
7 |     unicast_src_ip 10.0.0.2
  |     ^^^^^^^^^^^^^^ asks for unicast
  |
  = help: list the other directors in 'unicast_peer { … }', or use 'mcast_src_ip'

",
    ),
    (
        Code::Overruled,
        "vrrp_script check {
    script \"/bin/true\"
    weight -20
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    track_script {
        check
    }
}
vrrp_sync_group G {
    group {
        VI_1
    }
}
",
        "warning[doubtful-setting]: the group 'G' has a single member, 'VI_1'
  --> test.conf:12:17
   |
12 | vrrp_sync_group G {
   |                 ^ there is nothing to keep in step with
   |
   = help: list the other instances of this director that must move with it

warning[overruled-setting]: weights of what 'VI_1' tracks do not count in the group 'G': 'check'
  --> test.conf:12:17
   |
12 | vrrp_sync_group G {
   |                 ^ as with keepalived, an interface must be up instead, and the others are not tracked
   |
   = help: track them in the group, or add 'sync_group_tracking_weight' to it

",
    ),
    (
        Code::Strict,
        "global_defs {
    vrrp_strict
}
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 150
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        10.0.0.1/24
    }
}
",
        "warning[strict-mode]: strict mode changes 'VI_1': adverts carry no password; the director drops packets to the addresses, pings among them; it starts as BACKUP, for its priority is not 255
 --> test.conf:4:15
  |
4 | vrrp_instance VI_1 {
  |               ^^^^ as with keepalived
  |
  = help: remove 'vrrp_strict' from global_defs, or write 'strict_mode off' here

note[no-effect-yet]: understood, but without effect in this version: vrrp_strict (line 2)

",
    ),
    (
        Code::Doubtful,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.1/24 label VIP
    }
}
vrrp_instance VI_2 {
    interface eth0
    virtual_router_id 52
    virtual_ipaddress {
        10.0.0.1/24
        10.0.0.2
    }
}
",
        "warning[doubtful-setting]: label 'VIP' does not begin with its interface, eth0
 --> test.conf:5:9
  |
5 |         10.0.0.1/24 label VIP
  |         ^^^^^^^^^^^ old tools do not show such an address
  |
  = help: write 'label eth0:0'

warning[doubtful-setting]: 10.0.0.1 belongs to 'VI_1' and to 'VI_2'
  --> test.conf:12:9
   |
 5 |         10.0.0.1/24 label VIP
   |         ----------- stands here as well
...
12 |         10.0.0.1/24
   |         ^^^^^^^^^^^ gone as soon as one of the two is not master
   |
   = help: give each address to one instance

note[default-used]: 10.0.0.2 has no prefix length: /32 is used, as keepalived does
  --> test.conf:13:9
   |
13 |         10.0.0.2
   |         ^^^^^^^^ 10.0.0.0/24 is on the same interface
   |
   = help: write 10.0.0.2/24 if it lives in that network

",
    ),
    (
        Code::NotSupported,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    authentication {
        auth_type AH
        auth_pass 1111
    }
}
",
        "error[not-supported]: 'auth_type AH' is not supported
 --> test.conf:5:9
  |
5 |         auth_type AH
  |         ^^^^^^^^^^^^ adverts would go out without it, and every director would be master
  |
  = help: use 'auth_type PASS' on every director of the group; adverts of the one kind do not count for the other

",
    ),
    (
        Code::NoAuthentication,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    version 3
    no_virtual_ipaddress
    authentication {
        auth_type PASS
        auth_pass 1111
    }
}
",
        "warning[no-authentication]: no authentication: version 3 of VRRP has none
 --> test.conf:6:5
  |
6 |     authentication {
  |     ^^^^^^^^^^^^^^ adverts carry no password, as with keepalived
  |
  = help: remove the block; 'auth_hmac' signs adverts where every director knows it

",
    ),
    (
        Code::BadValue,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    auth_hmac {
        key 1 secret
    }
}
",
        "error[bad-value]: this line of 'auth_hmac' is not understood
 --> test.conf:5:9
  |
5 |         key 1 secret
  |         ^^^^^^^^^^^^ expected 'mode receive-only|permissive|enforce', 'send_key 0-255' or 'key 0-255 SECRET'
  |
  = help: a SECRET is 64 to 128 hexadecimal digits, as 'openssl rand -hex 32' makes them

",
    ),
];
