//! The names that this host has for routing tables and the like, as `ip` reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::config::model::Config;

/// Where the files of names are; what comes later counts.
const FOLDERS: [&str; 2] = ["/usr/share/iproute2", "/etc/iproute2"];

/// Options of routes and rules that take such names, and their files.
const OPTIONS: [(&str, &str); 6] = [
    ("table", "rt_tables"),
    ("lookup", "rt_tables"),
    ("scope", "rt_scopes"),
    ("protocol", "rt_protos"),
    ("tos", "rt_dsfield"),
    ("dsfield", "rt_dsfield"),
];

/// Puts numbers for names in the routes and rules of a configuration; names that this host does not
/// have stay.
pub fn resolve(config: &mut Config) {
    let mut files = BTreeMap::new();
    let instances = config.vrrp_instances.iter_mut();
    let owned = instances.flat_map(|instance| {
        let routes = instance.routes.iter_mut().map(|route| &mut route.words);
        routes.chain(instance.rules.iter_mut().map(|rule| &mut rule.words))
    });
    let routes = config.static_routes.iter_mut();
    let rules = config.static_rules.iter_mut().map(|rule| &mut rule.words);
    let all = owned
        .chain(routes.map(|route| &mut route.words))
        .chain(rules);
    for words in all {
        replace(words, |file, name| {
            let names = files.entry(file).or_insert_with(|| names_of(file));
            names.get(name).copied()
        });
    }
}

fn replace(words: &mut [String], mut find: impl FnMut(&'static str, &str) -> Option<u32>) {
    let mut option = None;
    for word in words {
        if let Some(file) = option.take() {
            if let Some(number) = find(file, word) {
                *word = number.to_string();
            }
        } else {
            let known = OPTIONS.iter().find(|(option, _)| option == word);
            option = known.map(|(_, file)| *file);
        }
    }
}

fn names_of(file: &str) -> BTreeMap<String, u32> {
    let mut names = BTreeMap::new();
    for folder in FOLDERS {
        let Ok(text) = fs::read_to_string(Path::new(folder).join(file)) else {
            continue;
        };
        names.extend(text.lines().filter_map(parse));
    }
    names
}

/// `NUMBER NAME`, `0xNUMBER NAME`; `#` begins a comment.
fn parse(line: &str) -> Option<(String, u32)> {
    let mut words = line.split('#').next()?.split_whitespace();
    let (number, name) = (words.next()?, words.next()?);
    let number = match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => number.parse().ok()?,
    };
    Some((name.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_iproute2() {
        assert_eq!(parse("254\tmain"), Some(("main".to_owned(), 254)));
        assert_eq!(
            parse("0x10 lowdelay # old"),
            Some(("lowdelay".to_owned(), 16))
        );
        for line in ["", "# 1 inr.ruhep", "main 254", "7"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn names_become_numbers_where_an_option_takes_them() {
        let text = "10.0.0.0/8 dev table table uplink protocol none";
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        replace(&mut words[3..], |file, name| {
            (file == "rt_tables" && name == "uplink").then_some(200)
        });
        assert_eq!(
            words.join(" "),
            "10.0.0.0/8 dev table table 200 protocol none"
        );
    }
}
