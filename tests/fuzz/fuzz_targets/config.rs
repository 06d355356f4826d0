//! Any bytes are read as a configuration, and the outcome is shown in every form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xdp_lb::config::parse;

fuzz_target!(|bytes: &[u8]| {
    let (diagnostics, usable) = match parse("fuzz.conf", bytes) {
        Ok(loaded) => (loaded.diagnostics, true),
        Err(diagnostics) => (diagnostics, false),
    };
    assert_eq!(usable, !diagnostics.has_errors());
    assert_eq!(diagnostics.render(false).is_empty(), diagnostics.is_empty());
    diagnostics.render(true);
    let json = diagnostics.to_json();
    let items = json.as_array().map_or(0, Vec::len);
    assert_eq!(items, diagnostics.iter().count());
    for item in &diagnostics {
        let line = diagnostics.one_line(item);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
});
