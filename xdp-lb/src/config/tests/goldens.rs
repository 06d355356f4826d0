//! One golden per kind of diagnostic: what users read.

use super::expansion_goldens::EXPANSION;
use super::found;
use super::vrrp::goldens::VRRP_GOLDENS;
use crate::config::diagnostic::Code;

#[test]
fn messages_read_as_they_should() {
    for (code, text, expected) in GOLDENS.iter().chain(EXPANSION).chain(VRRP_GOLDENS) {
        let found = found(text);
        assert_eq!(found.render(false), *expected, "\n{text}");
        assert!(found.iter().any(|item| item.code() == *code), "{code}");
    }
}

/// What is found by looking at a host or at another director's file. Their tests are in `host`, `marks`,
/// `pair`.
const NOT_OF_A_FILE: [Code; 15] = [
    Code::CommandMissing,
    Code::CommandNotRunnable,
    Code::CommandLookup,
    Code::CommandUnsafe,
    Code::ShellSyntax,
    Code::NoSuchUser,
    Code::NoSuchInterface,
    Code::UselessInterface,
    Code::OnlyGeneric,
    Code::UnknownMark,
    Code::RuleNotUsed,
    Code::BadCertificate,
    Code::ScriptSecurity,
    Code::PriorityTie,
    Code::PeersDiffer,
];

#[test]
fn every_kind_has_a_golden() {
    for code in Code::ALL
        .iter()
        .filter(|code| !NOT_OF_A_FILE.contains(code))
    {
        let mut all = GOLDENS.iter().chain(EXPANSION).chain(VRRP_GOLDENS);
        assert!(all.any(|(golden, ..)| golden == code), "{code}");
    }
}

/// The kind, the file, and what is said about it.
const GOLDENS: &[(Code, &str, &str)] = &[
    (
        Code::ByteOrderMark,
        "\u{feff}global_defs {\n}\n",
        "warning[byte-order-mark]: the file starts with a byte order mark
 --> test.conf:1:1
  |
1 | \u{feff}global_defs {
  | ^ skipped; keepalived takes it as part of the first word
  |
  = help: save the file as UTF-8 without a byte order mark

",
    ),
    (
        Code::NotUtf8,
        "global_defs {\n    router_id caf\u{fffd}\n}\n",
        "warning[not-utf-8]: this word is not valid UTF-8
 --> test.conf:2:15
  |
2 |     router_id caf\u{fffd}
  |               ^^^^ its other bytes are lost
  |
  = help: save the file as UTF-8

",
    ),
    (
        Code::SingleQuote,
        "global_defs {
    router_id 'web'
}
",
        "warning[single-quote]: single quotes quote nothing here
 --> test.conf:2:15
  |
2 |     router_id 'web'
  |               ^^^^^ taken as a part of the word, as keepalived does
  |
  = help: write double quotes, or none

",
    ),
    (
        Code::UnterminatedQuote,
        r#"global_defs {
    router_id "web front # end
}
"#,
        r#"warning[missing-value]: 'router_id' has no value
 --> test.conf:2:5
  |
2 |     router_id "web front # end
  |     ^^^^^^^^^ ignored, as keepalived does

warning[unterminated-quote]: this quote is not closed on its line
 --> test.conf:2:15
  |
2 |     router_id "web front # end
  |               ^^^^^^^^^^^^^^^^ dropped, as keepalived does
  |
  = help: close it with a `"` at the end of the value

"#,
    ),
    (
        Code::UnclosedBlock,
        "global_defs {
    router_id web

vrrp_script check {
    script \"/bin/true\"
}
",
        "warning[unclosed-block]: 'global_defs' (line 1) is not closed before 'vrrp_script', which cannot stand in it
 --> test.conf:1:1
  |
1 | global_defs {
  | ^^^^^^^^^^^ opened here; a '}' is missing
...
4 | vrrp_script check {
  | ----------- taken to be closed before this
  |
  = note: keepalived takes what follows for a part of it
help: add the missing '}'
  |
4 + }
  |

",
    ),
    (
        Code::UnclosedBlock,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
",
        "warning[unclosed-block]: 'vrrp_instance VI_1' (line 1) is never closed
 --> test.conf:1:1
  |
1 | vrrp_instance VI_1 {
  | ^^^^^^^^^^^^^^^^^^ opened here; taken to reach to the end of the file
  |
help: add the missing '}' where the block ends
  |
4 + }
  |

",
    ),
    (
        Code::ExtraBrace,
        "global_defs {
}
}
",
        "warning[extra-brace]: this '}' closes nothing
 --> test.conf:3:1
  |
2 | }
  | - the block of line 1 ends here
3 | }
  | ^ ignored
  |
  = help: remove it, or look above for a '}' too many

",
    ),
    (
        Code::StrayBlock,
        "{
    router_id web
}
",
        "warning[stray-block]: this '{' follows no keyword
 --> test.conf:1:1
  |
1 | {
  | ^ the block is skipped
  |
  = help: put the keyword before it, or remove it and its '}'

",
    ),
    (
        Code::TooDeep,
        "foo {{{{{{{{{{{{{{{{{
}}}}}}}}}}}}}}}}}
",
        "warning[unknown-keyword]: unknown keyword 'foo' at the top level
 --> test.conf:1:1
  |
1 | foo {{{{{{{{{{{{{{{{{
  | ^^^ skipped with its block

warning[stray-block]: this '{' follows no keyword
 --> test.conf:1:6
  |
1 | foo {{{{{{{{{{{{{{{{{
  |      ^ the block is skipped
  |
  = help: put the keyword before it, or remove it and its '}'

warning[too-deep]: blocks are nested deeper than 16 levels
 --> test.conf:1:21
  |
1 | foo {{{{{{{{{{{{{{{{{
  |                     ^ skipped from here to its '}'
  |
  = help: look above for braces that are not closed

",
    ),
    (
        Code::UnknownKeyword,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    advert_interval 1
}
",
        "warning[unknown-keyword]: unknown keyword 'advert_interval'; did you mean 'advert_int'?
 --> test.conf:4:5
  |
4 |     advert_interval 1
  |     ^^^^^^^^^^^^^^^ ignored, as keepalived does
  |
  = note: adverts go out every second, the default of 'advert_int'

",
    ),
    (
        Code::UnknownKeyword,
        "virtual_servers {
    bogus
}
bogus {
}
",
        "warning[unknown-keyword]: unknown keyword 'virtual_servers'; did you mean 'virtual_server'?
 --> test.conf:1:1
  |
1 | virtual_servers {
  | ^^^^^^^^^^^^^^^ skipped with its block

warning[unknown-keyword]: unknown keyword 'bogus' at the top level
 --> test.conf:4:1
  |
4 | bogus {
  | ^^^^^ skipped with its block

",
    ),
    (
        Code::Misplaced,
        "interface eth0
global_defs {
    virtual_ipaddress {
        10.0.0.1
    }
}
",
        "warning[misplaced-keyword]: 'interface' cannot stand at the top level
 --> test.conf:1:1
  |
1 | interface eth0
  | ^^^^^^^^^ ignored, as keepalived does
  |
  = help: it belongs in 'vrrp_instance' or 'garp_group' or 'xdp_lb'; look for a brace too many or too few above

warning[misplaced-keyword]: 'virtual_ipaddress' cannot stand in 'global_defs'
 --> test.conf:3:5
  |
3 |     virtual_ipaddress {
  |     ^^^^^^^^^^^^^^^^^ skipped with its block
  |
  = help: it belongs in 'vrrp_instance'; look for a brace too many or too few above

",
    ),
    (
        Code::NotSupported,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol SCTP
    real_server 10.0.0.2 80 {
    }
}
",
        "error[not-supported]: SCTP is not balanced yet
 --> test.conf:4:14
  |
4 |     protocol SCTP
  |              ^^^^ TCP and UDP are
  |
  = help: remove this virtual server, or leave it to keepalived

",
    ),
    (
        Code::NoEffectYet,
        "net_namespace_ipvs blue
virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol UDP
    snmp_name web
    real_server 10.0.0.2 80 {
    }
}
",
        "warning[no-effect-yet]: 'net_namespace_ipvs' has no effect in this version
 --> test.conf:1:1
  |
1 | net_namespace_ipvs blue
  | ^^^^^^^^^^^^^^^^^^^^^^^ services live in the namespace the director is started in

note[no-effect-yet]: understood, but without effect in this version: snmp_name (line 6)

",
    ),
    (
        Code::MissingValue,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority
}
",
        "error[missing-value]: 'priority' has no value
 --> test.conf:4:5
  |
4 |     priority
  |     ^^^^^^^^ expected 1-255 here
  |
  = note: keepalived exits when it reads this

",
    ),
    (
        Code::MissingBlock,
        "virtual_server 10.0.0.1 80
",
        "error[missing-block]: 'virtual_server' needs a block
 --> test.conf:1:1
  |
1 | virtual_server 10.0.0.1 80
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ no '{' follows
  |
  = help: write 'virtual_server ADDRESS [PORT] { … }'

",
    ),
    (
        Code::UnexpectedBlock,
        "global_defs {
    router_id web {
    }
}
",
        "warning[unexpected-block]: 'router_id' has no block
 --> test.conf:2:19
  |
2 |     router_id web {
  |                   ^ this block is skipped

",
    ),
    (
        Code::ExtraValue,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    interface eth0 eth1
}
",
        "warning[repeated-keyword]: 'interface' is set twice
 --> test.conf:4:5
  |
2 |     interface eth0
  |     --------- set here first
3 |     virtual_router_id 51
4 |     interface eth0 eth1
  |     ^^^^^^^^^^^^^^^^^^^ the last one counts

warning[extra-value]: 'interface' is followed by more than it takes
 --> test.conf:4:20
  |
4 |     interface eth0 eth1
  |                    ^^^^ ignored, as keepalived does
  |
  = note: its form is 'interface DEVICE'

",
    ),
    (
        Code::ExtraValue,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.2 80 {
        TCP_CHECK { connect_port 81 connect_timeout 3 }
    }
}
",
        "warning[extra-value]: 'connect_timeout' is ignored: it stands on the line of 'connect_port'
 --> test.conf:6:37
  |
6 |         TCP_CHECK { connect_port 81 connect_timeout 3 }
  |                                     ^^^^^^^^^^^^^^^^^ keepalived reads one keyword per line, and so does xdp-lb
  |
  = help: put it on a line of its own

",
    ),
    (
        Code::Repeated,
        "global_defs {
    router_id web
    router_id front
}
",
        "warning[repeated-keyword]: 'router_id' is set twice
 --> test.conf:3:5
  |
2 |     router_id web
  |     --------- set here first
3 |     router_id front
  |     ^^^^^^^^^^^^^^^ the last one counts

",
    ),
    (
        Code::BadValue,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 300
    virtual_ipaddress { 10.0.0.1/32 10.0.0.2 }
}
",
        "warning[bad-value]: '300' is not a value of 'priority': 100 is used, as keepalived does
 --> test.conf:4:14
  |
4 |     priority 300
  |              ^^^ expected a whole number from 1 to 255

warning[bad-value]: '10.0.0.2' is not an option of an address
 --> test.conf:5:37
  |
5 |     virtual_ipaddress { 10.0.0.1/32 10.0.0.2 }
  |                                     ^^^^^^^^ ignored, as keepalived does
  |
  = help: put each address on a line of its own

",
    ),
    (
        Code::BadValue,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    delay_loop 6s
    real_server 10.0.0.2:80 {
    }
}
",
        "warning[empty-block]: this virtual server has no real server: it is ignored, as keepalived does
 --> test.conf:1:1
  |
1 | virtual_server 10.0.0.1 80 {
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ packets to it are not balanced

warning[bad-value]: '6s' is not a value of 'delay_loop': taken as 6, as keepalived does
 --> test.conf:5:16
  |
5 |     delay_loop 6s
  |                ^^ expected seconds above 0, up to 31536000

warning[bad-value]: '10.0.0.2:80' is not an address and a port: this real_server is skipped, as keepalived does
 --> test.conf:6:17
  |
6 |     real_server 10.0.0.2:80 {
  |                 ^^^^^^^^^^^ expected ADDRESS PORT
  |
help: write a space before the port
  |
6 -     real_server 10.0.0.2:80 {
6 +     real_server 10.0.0.2 80 {
  |

",
    ),
    (
        Code::BadValue,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    persistence_granularity 24
    real_server 10.0.0.2 80 {
    }
}
",
        "error[bad-value]: '24' is not a netmask
 --> test.conf:5:29
  |
5 |     persistence_granularity 24
  |                             ^^ keepalived reads it as the netmask 0.0.0.24
  |
help: write the netmask
  |
5 -     persistence_granularity 24
5 +     persistence_granularity 255.255.255.0
  |

",
    ),
    (
        Code::BadValue,
        "xdp_lb {
    connections 10
}
",
        "error[bad-value]: '10' is not a value of 'connections'
 --> test.conf:2:17
  |
2 |     connections 10
  |                 ^^ expected 1024-16777216

",
    ),
    (
        Code::Lenient,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind dr
    protocol TCP
    persistence_timeout 0
    real_server 10.0.0.2 80 {
    }
}
",
        "note[lenient-spelling]: 'dr' is read as 'DR'; keepalived would use NAT
 --> test.conf:3:13
  |
3 |     lb_kind dr
  |             ^^ write DR

note[lenient-spelling]: 'persistence_timeout 0' means no persistence; keepalived complains and does the same
 --> test.conf:5:5
  |
5 |     persistence_timeout 0
  |     ^^^^^^^^^^^^^^^^^^^^^ can be removed

",
    ),
    (
        Code::Renamed,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.2 80 {
        TCP_CHECK {
            nb_get_retry 3
        }
    }
}
",
        "warning[renamed-keyword]: 'nb_get_retry' is taken as 'retry'
 --> test.conf:7:13
  |
7 |             nb_get_retry 3
  |             ^^^^^^^^^^^^ keepalived ignores it and retries once
  |
help: write 'retry'
  |
7 -             nb_get_retry 3
7 +             retry 3
  |

",
    ),
    (
        Code::MissingKeyword,
        "vrrp_instance VI_1 {
    interface eth0
}
",
        "error[missing-keyword]: vrrp_instance 'VI_1' has no 'virtual_router_id'
 --> test.conf:1:15
  |
1 | vrrp_instance VI_1 {
  |               ^^^^ it cannot run without
  |
  = help: add 'virtual_router_id 51', the same on every director of the group

",
    ),
    (
        Code::DefaultUsed,
        "virtual_server 10.0.0.1 80 {
    protocol TCP
    real_server 10.0.0.2 80 {
    }
}
",
        "warning[default-used]: this virtual server has no 'lb_algo': wlc is used, as keepalived does
 --> test.conf:1:1
  |
1 | virtual_server 10.0.0.1 80 {
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ new connections go to the least loaded server
  |
  = help: add 'lb_algo wlc', or the scheduler that you want

warning[default-used]: this virtual server has no 'lb_kind': NAT is used, as keepalived does; NAT is not DR
 --> test.conf:1:1
  |
1 | virtual_server 10.0.0.1 80 {
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ real servers must answer through this director
  |
  = help: add 'lb_kind NAT' if that is meant, else 'lb_kind DR'

",
    ),
    (
        Code::DefaultUsed,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    persistence_granularity 255.255.255.0
    real_server 10.0.0.2 80 {
    }
}
",
        "warning[default-used]: this virtual server has no 'protocol': UDP is used, as keepalived does
 --> test.conf:1:1
  |
1 | virtual_server 10.0.0.1 80 {
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ balances UDP
  |
  = help: add 'protocol TCP' or 'protocol UDP'

warning[default-used]: 'persistence_granularity' alone turns persistence on, for 360 s, as with keepalived
 --> test.conf:4:5
  |
4 |     persistence_granularity 255.255.255.0
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ no valid 'persistence_timeout' stands beside it
  |
  = help: add 'persistence_timeout SECONDS', or remove the line

",
    ),
    (
        Code::Duplicate,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.2 80 {
    }
}
virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.2 80 {
    }
}
",
        "error[duplicate]: the virtual server tcp/10.0.0.1:80 is defined twice
 --> test.conf:8:1
  |
1 | virtual_server 10.0.0.1 80 {
  | -------------------------- defined here first
...
8 | virtual_server 10.0.0.1 80 {
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ already defined on line 1
  |
  = help: put all its real servers into one block, or give this one its own port or protocol

",
    ),
    (
        Code::Duplicate,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.2 80 {
    }
    real_server 10.0.0.2 80 {
    }
}
",
        "warning[duplicate]: the real server 10.0.0.2:80 stands twice in this service
 --> test.conf:7:5
  |
5 |     real_server 10.0.0.2 80 {
  |     ----------------------- defined here first
6 |     }
7 |     real_server 10.0.0.2 80 {
  |     ^^^^^^^^^^^^^^^^^^^^^^^ the second is removed, as keepalived does

",
    ),
    (
        Code::Conflict,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
}
vrrp_instance VI_2 {
    interface eth0
    virtual_router_id 51
}
",
        "error[conflict]: 'VI_1' and 'VI_2' both use virtual_router_id 51 on eth0
 --> test.conf:5:15
  |
1 | vrrp_instance VI_1 {
  |               ---- in use here
...
5 | vrrp_instance VI_2 {
  |               ^^^^ they would take each other's adverts for their own
  |
  = note: keepalived exits when it reads this
  = help: give one of them another virtual_router_id

",
    ),
    (
        Code::Conflict,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.2 8080 {
    }
}
",
        "warning[conflict]: direct routing cannot change the port to 8080: port 80 is used, as keepalived does
 --> test.conf:5:5
  |
5 |     real_server 10.0.0.2 8080 {
  |     ^^^^^^^^^^^^^^^^^^^^^^^^^ not the port of the virtual server; the checks use that one too

",
    ),
    (
        Code::Empty,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
}
",
        "warning[empty-block]: this virtual server has no real server: it is ignored, as keepalived does
 --> test.conf:1:1
  |
1 | virtual_server 10.0.0.1 80 {
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ packets to it are not balanced

",
    ),
    (
        Code::Doubtful,
        "virtual_server 10.0.0.1 80 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.0.0.1 80 {
    }
}
",
        "warning[doubtful-setting]: 10.0.0.1 is the address of a real server and of a virtual one
 --> test.conf:5:5
  |
1 | virtual_server 10.0.0.1 80 {
  | -------------------------- balanced here
...
5 |     real_server 10.0.0.1 80 {
  |     ^^^^^^^^^^^^^^^^^^^^^^^ packets to it are those of line 1
  |
  = help: give the real server its own address; the virtual one belongs to the director

",
    ),
    (
        Code::NoAuthentication,
        "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    authentication { auth_type PASS auth_pass 1111 }
}
",
        "warning[no-authentication]: no authentication: 'auth_pass' is not set
 --> test.conf:4:5
  |
4 |     authentication { auth_type PASS auth_pass 1111 }
  |     ^^^^^^^^^^^^^^ adverts carry no password, as with keepalived
  |
  = help: set both, 'auth_type PASS' and 'auth_pass …', each on its own line, on every director of the group at once; or remove the block

warning[extra-value]: 'auth_pass' is ignored: it stands on the line of 'auth_type'
 --> test.conf:4:37
  |
4 |     authentication { auth_type PASS auth_pass 1111 }
  |                                     ^^^^^^^^^^^^^^ keepalived reads one keyword per line, and so does xdp-lb
  |
  = help: put it on a line of its own

",
    ),
];
