//! Where the set of keywords that are called unknown differs from keepalived's on purpose.
//!
//! Keywords that only one of the two knows have it in their rows ([`super::Keyword::only`]); this
//! table has the rest. A test runs both programs on the samples.

/// A file of which the two say different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// What is in the file.
    pub what: &'static str,
    /// Such a file.
    pub sample: &'static str,
    /// Words that only keepalived calls unknown.
    pub keepalived: &'static [&'static str],
    /// Words that only this program calls unknown, or out of place.
    pub here: &'static [&'static str],
    /// Why it is not done as keepalived does it.
    pub why: &'static str,
}

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation {
        what: "an unknown keyword with a block, inside another block",
        sample: "vrrp_instance A {\n    bogus {\n        inner 1\n    }\n    priority 50\n}\n",
        keepalived: &["inner", "priority", "}"],
        here: &[],
        why: "keepalived reads the inner lines as the outer block's and takes the inner '}' for its end, so it loses the rest; here the unknown block is skipped as a whole and the rest counts",
    },
    Deviation {
        what: "an unknown block at the top level",
        sample: "bogus {\n    inner 1\n}\nglobal_defs {\n    router_id a\n}\n",
        keepalived: &["inner", "}"],
        here: &[],
        why: "one warning for the block says all there is to say",
    },
    Deviation {
        what: "the block xdp_lb",
        sample: "xdp_lb {\n    xdp_mode auto\n}\n",
        keepalived: &["xdp_lb", "xdp_mode", "}"],
        here: &[],
        why: "it holds our own settings; keepalived complains and goes on, so one file serves both",
    },
    Deviation {
        what: "a root keyword inside a block that was never closed",
        sample: "global_defs {\n    router_id a\n\nvrrp_script check {\n    script /bin/true\n}\n",
        keepalived: &["vrrp_script", "script"],
        here: &[],
        why: "keepalived runs nothing of what follows and hardly says so; here the block is closed before the keyword, with a warning that names the line where it opened",
    },
    Deviation {
        what: "a misspelt keyword in a block whose head keepalived refuses",
        sample: "vrrp_instance A B {\n    bogus 1\n}\n",
        keepalived: &[],
        here: &["bogus"],
        why: "keepalived passes over the block; here the second name is passed over and the block is read",
    },
];
