//! What users read about files, names and repetitions.

use crate::config::diagnostic::Code;

/// The kind, the file, and what is said about it.
pub(super) const EXPANSION: &[(Code, &str, &str)] = &[
    (
        Code::IncludeMissing,
        "include web.conf
includea conf.d/*.cfg
",
        "warning[include-missing]: there is no file 'web.conf' to include
 --> test.conf:1:9
  |
1 | include web.conf
  |         ^^^^^^^^ skipped, as keepalived does
  |
  = help: create it, or remove this line

error[include-missing]: there is no file 'conf.d/*.cfg' to include
 --> test.conf:2:10
  |
2 | includea conf.d/*.cfg
  |          ^^^^^^^^^^^^ keepalived does not start without it
  |
  = help: create it, or remove this line

",
    ),
    (
        Code::IncludeMissing,
        "include shared.conf
",
        "warning[include-missing]: there is no file 'secrets.conf' to include
 --> shared.conf:3:9
  |
3 | include secrets.conf
  |         ^^^^^^^^^^^^ skipped, as keepalived does
  |
  = note: included by way of test.conf:1 → shared.conf:3 → secrets.conf
  = help: create it, or remove this line

",
    ),
    (
        Code::IncludeUnreadable,
        "include conf.d
",
        "warning[include-unreadable]: 'conf.d' cannot be included: it is a directory
 --> test.conf:1:9
  |
1 | include conf.d
  |         ^^^^^^ skipped, as keepalived does
  |
  = help: add '/*' to include the files in it

",
    ),
    (
        Code::IncludeCycle,
        "include loop.conf
",
        "error[include-cycle]: 'loop.conf' includes itself
 --> also.conf:2:9
  |
2 | include loop.conf
  |         ^^^^^^^^^ included again here
  |
  = note: included by way of test.conf:1 → loop.conf:1 → also.conf:2 → loop.conf
  = help: remove this line

",
    ),
    (
        Code::UndefinedName,
        "$ROUTER=web
global_defs {
    router_id $ROUTR
}
",
        "warning[undefined-name]: '$ROUTR' is not defined
 --> test.conf:3:15
  |
3 |     router_id $ROUTR
  |               ^^^^^^ taken as it stands
  |
  = help: did you mean '$ROUTER'?

",
    ),
    (
        Code::NotReplaced,
        "$NET=10.0.0
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    state MASTER
    virtual_ipaddress {
        $NET.1/24
    }
}
",
        "note[default-used]: 'VI_1' has no 'priority': 255 is used, as keepalived does for 'state MASTER'
 --> test.conf:2:15
  |
2 | vrrp_instance VI_1 {
  |               ^^^^ it takes the addresses from every other director

warning[not-replaced]: '$NET' is not replaced
 --> test.conf:7:9
  |
1 | $NET=10.0.0
  | ---- defined here
...
7 |         $NET.1/24
  |         ^^^^ taken as it stands, as keepalived does
  |
  = note: keepalived replaces '$NAME' only before a blank, ',' or ')'
  = help: write '${NET}'

warning[bad-value]: '$NET.1/24' is not an IP address
 --> test.conf:7:9
  |
7 |         $NET.1/24
  |         ^^^^^^^^^ ignored, as keepalived does
  |
  = help: write ADDRESS or ADDRESS/LENGTH, one per line

",
    ),
    (
        Code::BadRepetition,
        "~SEQ(N, 1, -1, 3) include $N.conf
",
        "warning[bad-repetition]: this line cannot be repeated
 --> test.conf:1:1
  |
1 | ~SEQ(N, 1, -1, 3) include $N.conf
  | ^^^^^^^^^^^^^^^^^ skipped with its line, as keepalived does
  |
  = help: its steps do not lead from the start to the end

",
    ),
    (
        Code::ExpansionTooLarge,
        "$NAME=lb ${NAME}
global_defs {
    router_id $NAME
}
",
        "error[expansion-too-large]: '$NAME' has no end: its value leads back to itself
 --> test.conf:3:15
  |
3 |     router_id $NAME
  |               ^^^^^ the rest of the configuration is not read
  |
  = help: correct the definition

",
    ),
    (
        Code::ExpansionTooLarge,
        "include conf.d/{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}
",
        "error[expansion-too-large]: 'conf.d/{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,…' stands for too many files
 --> test.conf:1:9
  |
1 | include conf.d/{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}{0,1}
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ the rest of the configuration is not read
  |
  = help: name the files that are needed

",
    ),
    (
        Code::BadValue,
        "include conf.d/*.conf
vrrp_instance VI_1 {
    interface eth0
    state MASTER
    virtual_router_id $VRID
}
",
        "note[default-used]: 'VI_1' has no 'priority': 255 is used, as keepalived does for 'state MASTER'
 --> test.conf:2:15
  |
2 | vrrp_instance VI_1 {
  |               ^^^^ it takes the addresses from every other director

error[bad-value]: '300' is not a value of 'virtual_router_id'
 --> test.conf:5:23
  |
5 |     virtual_router_id $VRID
  |                       ^^^^^ expected a whole number from 1 to 255
  |
 ::: conf.d/vrid.conf:1:1
  |
1 | $VRID=300
  | ----- defined here
  |
  = note: keepalived exits when an instance has no valid one

",
    ),
    (
        Code::UnknownKeyword,
        r"$EXTRA= \
    advert_interval 1 \
    priorty 100
vrrp_instance VI_1 {
    interface eth0
    state MASTER
    virtual_router_id 7
    $EXTRA
}
",
        r"note[default-used]: 'VI_1' has no 'priority': 255 is used, as keepalived does for 'state MASTER'
 --> test.conf:4:15
  |
4 | vrrp_instance VI_1 {
  |               ^^^^ it takes the addresses from every other director

warning[unknown-keyword]: unknown keyword 'advert_interval'; did you mean 'advert_int'?
 --> test.conf:8:5
  |
1 | $EXTRA= \
  | ------ defined here
...
8 |     $EXTRA
  |     ^^^^^^ ignored, as keepalived does
  |
  = note: adverts go out every second, the default of 'advert_int'

warning[unknown-keyword]: unknown keyword 'priorty'; did you mean 'priority'?
 --> test.conf:8:5
  |
1 | $EXTRA= \
  | ------ defined here
...
8 |     $EXTRA
  |     ^^^^^^ ignored, as keepalived does

",
    ),
];
