//! `authentication` and `auth_hmac` of an instance.

use std::collections::BTreeMap;

use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Scope;
use crate::config::lower::context::Context;
use crate::config::model::{Authentication, HmacKeys, HmacMode, HmacSecret};
use crate::config::source::Span;

/// A block that asks for authentication, and has all it takes.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The keyword of the block.
    pub(super) place: Span,
    /// The value of `auth_type`.
    kind: Kind,
    password: Authentication,
}

/// `auth_type` and where it stands.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Pass,
    Header(Span),
}

impl Wanted {
    /// What goes on the wire. AH does not: that is an error, for a director that leaves it out is a
    /// second master.
    pub(super) fn usable(self, context: &mut Context<'_>) -> Option<Authentication> {
        match self.kind {
            Kind::Pass => Some(self.password),
            Kind::Header(place) => {
                context.push(
                    Diagnostic::error(Code::NotSupported, "'auth_type AH' is not supported")
                        .at(place, "adverts would go out without it, and every director would be master")
                        .help("use 'auth_type PASS' on every director of the group; adverts of the one kind do not count for the other"),
                );
                None
            }
        }
    }
}

/// What an `authentication` block asks for; looks for what leaves adverts without the password that
/// the file seems to want.
pub(super) fn read(context: &mut Context<'_>, block: &Statement) -> Option<Wanted> {
    let mut kind = None;
    let mut password = None;
    for (keyword, statement) in context.keywords(Scope::Authentication, block) {
        let Some(value) = statement.values.first() else {
            continue;
        };
        if keyword.name == "auth_type" {
            kind = match value.text.as_str() {
                "PASS" => Some(Kind::Pass),
                "AH" => Some(Kind::Header(statement.head())),
                _ => context.refuse(
                    statement,
                    value,
                    "PASS or AH",
                    "ignored, as keepalived does",
                ),
            };
        } else {
            password = Authentication::new(&value.text);
            let kept = password.as_ref().map_or(0, |kept| kept.text().len());
            if value.text.len() > kept {
                context.push(
                    Diagnostic::warning(
                        Code::BadValue,
                        format!(
                            "only the first {} characters of the password count",
                            Authentication::LENGTH
                        ),
                    )
                    .at(value.span, "the others are dropped, as keepalived does"),
                );
            }
        }
    }
    let lacking = match (kind, password) {
        (Some(kind), Some(password)) => {
            return Some(Wanted {
                place: block.keyword.span,
                kind,
                password,
            });
        }
        (Some(_), None) => "'auth_pass' is not set",
        (None, Some(_)) => "'auth_type' is not set",
        (None, None) => "neither 'auth_type' nor 'auth_pass' is set",
    };
    context.push(
        Diagnostic::warning(
            Code::NoAuthentication,
            format!("no authentication: {lacking}"),
        )
        .at(block.keyword.span, "adverts carry no password, as with keepalived")
        .help("set both, 'auth_type PASS' and 'auth_pass …', each on its own line, on every director of the group at once; or remove the block"),
    );
    None
}

/// `auth_hmac { mode …; send_key ID; key ID SECRET }`. A mistake in it is an error: without it adverts
/// of the others would be refused, or forged ones believed.
pub(super) fn hmac(context: &mut Context<'_>, block: &Statement) -> Option<HmacKeys> {
    let mut mode = HmacMode::Enforce;
    let mut send_key = None;
    let mut first = None;
    let mut keys = BTreeMap::new();
    let mut understood_all = true;
    for line in block.body() {
        let values: Vec<&str> = line.values.iter().map(|word| word.text.as_str()).collect();
        let id = |text: &str| text.parse::<u8>().ok();
        let understood = match (line.keyword.text.as_str(), values.as_slice()) {
            ("mode", [name]) => {
                let found = HmacMode::ALL.into_iter().find(|mode| mode.name() == *name);
                found.map(|found| mode = found)
            }
            ("send_key", [number]) => id(number).map(|number| send_key = Some(number)),
            ("key", [number, secret]) => {
                id(number)
                    .zip(HmacSecret::from_hex(secret))
                    .map(|(number, secret)| {
                        first.get_or_insert(number);
                        keys.insert(number, secret);
                    })
            }
            _ => None,
        };
        if understood.is_none() {
            understood_all = false;
            context.push(
                Diagnostic::error(Code::BadValue, "this line of 'auth_hmac' is not understood")
                    .at(line.head(), "expected 'mode receive-only|permissive|enforce', 'send_key 0-255' or 'key 0-255 SECRET'")
                    .help("a SECRET is 64 to 128 hexadecimal digits, as 'openssl rand -hex 32' makes them"),
            );
        }
    }
    if !understood_all {
        return None;
    }
    let send_key = send_key.or(first).filter(|id| keys.contains_key(id));
    let Some(send_key) = send_key else {
        context.push(
            Diagnostic::error(
                Code::MissingKeyword,
                format!(
                    "{} has no key to sign adverts with",
                    quote(&block.keyword.text)
                ),
            )
            .at(block.keyword.span, "it cannot work without")
            .help("add 'key 1 SECRET', the same on every director of the group"),
        );
        return None;
    };
    Some(HmacKeys {
        mode,
        send_key,
        keys,
    })
}
