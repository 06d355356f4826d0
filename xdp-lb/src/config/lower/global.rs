//! `global_defs`.

use super::context::Context;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::keywords::Scope;
use crate::config::model::Config;

pub(super) fn lower(context: &mut Context<'_>, block: &Statement, config: &mut Config) {
    for (keyword, statement) in context.keywords(Scope::GlobalDefs, block.body()) {
        match keyword.name {
            "router_id" => match statement.values.first() {
                Some(name) => config.router_id = Some(name.text.clone()),
                None => context.push(
                    Diagnostic::warning(Code::MissingValue, "'router_id' has no value")
                        .at(statement.head(), "ignored, as keepalived does"),
                ),
            },
            _ => context.without_effect(keyword, statement),
        }
    }
}
