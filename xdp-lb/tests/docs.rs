//! Documentation that repeats the code, compared with it. `XDP_LB_BLESS=1 cargo test -p xdp-lb --test
//! docs` writes it anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use std::fmt::Write as _;
use std::path::Path;

use xdp_lb_common::reason::{Reason, Verdict};

const START: &str = "<!-- reasons -->\n";
const END: &str = "<!-- /reasons -->";

fn table() -> String {
    let mut table = "| reason | the packet goes | because |\n|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let goes = match reason.verdict() {
            Verdict::Pass => "to the kernel",
            Verdict::Tx => "to a real server",
            Verdict::Redirect => "to a real server, by another port",
            Verdict::Drop => "nowhere",
        };
        let help = reason.help().trim();
        writeln!(table, "| `{}` | {goes} | {help} |", reason.name()).unwrap();
    }
    table
}

#[test]
fn the_table_of_reasons_is_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dataplane.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text
        .split_once(START)
        .expect("a mark where the table starts");
    let (shown, after) = rest.split_once(END).expect("a mark where it ends");
    if std::env::var_os("XDP_LB_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{START}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(
        shown,
        table(),
        "docs/dataplane.md is stale: see the head of this file"
    );
}
