//! What `global_defs` says for every instance that says nothing else.

use crate::config::ast::Statement;
use crate::config::keywords::Keyword;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;

/// The defaults of a file.
#[derive(Debug, Default)]
pub(in crate::config::lower) struct Defaults {
    /// `vrrp_version`.
    version: Option<u32>,
}

impl Defaults {
    /// Takes the statement of `global_defs` if it is such a default; whether it was.
    pub(in crate::config::lower) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "vrrp_version" => {
                let instead = "ignored, as keepalived does";
                let version = context.number(statement, 2..=3, Tail::Dropped, instead);
                self.version = version.or(self.version);
            }
            _ => return false,
        }
        true
    }
}
