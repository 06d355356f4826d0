//! What an unknown word may have meant.

use super::{Keyword, Scope};

/// Wrong names that no edit distance explains, seen in configurations in the field.
const WRONG_NAMES: &[(Scope, &str, &str)] = &[
    (Scope::VrrpInstance, "advert_interval", "advert_int"),
    (Scope::VrrpInstance, "vrid", "virtual_router_id"),
    (Scope::VrrpInstance, "vip", "virtual_ipaddress"),
    (Scope::VrrpInstance, "virtual_ip", "virtual_ipaddress"),
    (Scope::VrrpInstance, "dev", "interface"),
    (Scope::Authentication, "type", "auth_type"),
    (Scope::Authentication, "password", "auth_pass"),
    (Scope::Authentication, "pass", "auth_pass"),
    (Scope::VirtualServer, "scheduler", "lb_algo"),
    (Scope::VirtualServer, "method", "lb_kind"),
    (Scope::VirtualServer, "interval", "delay_loop"),
    (Scope::TcpCheck, "interval", "delay_loop"),
    (Scope::TcpCheck, "timeout", "connect_timeout"),
    (Scope::TcpCheck, "port", "connect_port"),
    (Scope::XdpLb, "interfaces", "interface"),
    (Scope::XdpLb, "mode", "xdp_mode"),
];

/// What holds in keepalived, and so here, where a well-known wrong name stood for the right one.
const EFFECTS: &[(Scope, &str, &str)] = &[
    (
        Scope::VrrpInstance,
        "advert_interval",
        "adverts go out every second, the default of 'advert_int'",
    ),
    (
        Scope::TcpCheck,
        "interval",
        "checks follow 'delay_loop' of the real server or the virtual server",
    ),
    (
        Scope::TcpCheck,
        "timeout",
        "'connect_timeout' of the real server or the virtual server holds",
    ),
];

/// What holds without the well-known wrong name `name`, where that is not plain.
pub fn effect_without(scope: Scope, name: &str) -> Option<&'static str> {
    let mut effects = EFFECTS.iter();
    let found = effects.find(|(where_, wrong, _)| *where_ == scope && *wrong == name);
    found.map(|(_, _, effect)| *effect)
}

/// The keyword of `scope` that `name` most likely stands for.
pub fn near(scope: Scope, name: &str) -> Option<&'static str> {
    right_name(scope, name).or_else(|| nearest(scope, name))
}

/// The right name for a well-known wrong one.
pub fn right_name(scope: Scope, name: &str) -> Option<&'static str> {
    WRONG_NAMES
        .iter()
        .find(|(where_, wrong, _)| *where_ == scope && *wrong == name)
        .map(|(_, _, right)| *right)
}

/// The scopes that hold a keyword called `name`, as messages name them. Nobody who looks for the place
/// of a keyword means that of state sync.
pub fn scopes_of(name: &str) -> Vec<&'static str> {
    super::everywhere(name)
        .iter()
        .filter(|(scope, _)| *scope != Scope::StateSync)
        .map(|(scope, _)| scope.name())
        .collect()
}

/// Longest word that is compared, bytes: twice the longest keyword.
const LONGEST: usize = 64;

/// By edit distance, at most a third of the word; case does not count.
fn nearest(scope: Scope, name: &str) -> Option<&'static str> {
    // No misspelling is that long, and the distance takes the time of both lengths multiplied.
    if name.len() > LONGEST {
        return None;
    }
    let wanted = name.to_lowercase();
    let limit = (wanted.chars().count() / 3).min(4);
    let distance = |keyword: &Keyword| edit_distance(&wanted, &keyword.name.to_lowercase());
    scope
        .keywords()
        .iter()
        .filter(|keyword| keyword.name.len().abs_diff(wanted.len()) <= limit)
        .map(|keyword| (distance(keyword), keyword.name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b`.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, from) in a.chars().enumerate() {
        let mut current = Vec::with_capacity(last.len());
        current.push(row + 1);
        for (column, to) in b.iter().enumerate() {
            let at =
                |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, column) + usize::from(from != *to))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let before = column.checked_sub(1).and_then(|index| b.get(index));
            if before == Some(&from) && previous == Some(*to) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(from);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases = [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("priority", "priority", 0),
            ("prioirty", "priority", 1),
            ("interfce", "interface", 1),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!(edit_distance(a, b), expected, "{a} {b}");
            assert_eq!(edit_distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn suggestions_stay_in_scope_and_near() {
        use Scope::{Authentication, RealServer, Root, TcpCheck, VirtualServer, VrrpInstance};
        let cases = [
            (VrrpInstance, "advert_interval", Some("advert_int")),
            (VrrpInstance, "prioirty", Some("priority")),
            (VrrpInstance, "virtual_ipadress", Some("virtual_ipaddress")),
            (Authentication, "password", Some("auth_pass")),
            (Authentication, "type", Some("auth_type")),
            (RealServer, "tcp_check", Some("TCP_CHECK")),
            (VirtualServer, "lb_alog", Some("lb_algo")),
            (VirtualServer, "real_serve", Some("real_server")),
            (TcpCheck, "conect_timeout", Some("connect_timeout")),
            (Root, "vrrp_instanc", Some("vrrp_instance")),
            (VrrpInstance, "bogus", None),
            (VrrpInstance, "lb_algo", None),
            (Root, "", None),
        ];
        for (scope, name, expected) in cases {
            assert_eq!(near(scope, name), expected, "{scope:?} {name}");
        }
    }

    #[test]
    fn right_names_exist_and_wrong_ones_do_not() {
        for (scope, wrong, right) in WRONG_NAMES {
            assert!(super::super::find(*scope, right).is_some(), "{right}");
            assert!(super::super::find(*scope, wrong).is_none(), "{wrong}");
        }
        for (scope, wrong, _) in EFFECTS {
            assert!(right_name(*scope, wrong).is_some(), "{wrong}");
        }
    }
}
