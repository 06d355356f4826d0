//! docs/diagnostics.md, written from the explanations in the program.

use std::fmt::Write as _;

use xdp_lb::config::diagnostic::Code;

const INTRODUCTION: &str = "\
<!-- Generated from xdp-lb/src/config/diagnostic/. To write it anew:
     XDP_LB_BLESS=1 cargo test -p xdp-lb --test docs -->

# Diagnostics

What `xdp-lb check`, `up` and `reload` say about a configuration has a severity and a code:
`warning[unknown-keyword]: …`. Codes are stable; `--format json` has them too. On the command line
`xdp-lb check --explain CODE` shows what stands here.

- An **error** means that the configuration cannot be used. `up` does not start with it, a reload keeps
  what was running.
- A **warning** means that it can be used, though probably not as its author thinks.
- A **note** is worth knowing.

Most codes have one severity; some have several, as the effect of the mistake goes. The lines of
configuration below bring about the diagnostic that they stand with. What each keyword takes is in
[config.md](config.md).

| code | meaning |
|---|---|
";

/// What docs/diagnostics.md must hold.
pub(crate) fn markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    for code in Code::ALL {
        let summary = code.summary().trim();
        writeln!(out, "| [`{code}`](#{code}) | {summary} |").unwrap();
    }
    for code in Code::ALL {
        let explanation = code.explanation().trim_matches('\n');
        writeln!(out, "\n## {code}\n\n{explanation}").unwrap();
    }
    out
}
