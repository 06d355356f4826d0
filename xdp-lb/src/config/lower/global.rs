//! `global_defs`.

use super::context::Context;
use crate::config::ast::Statement;
use crate::config::keywords::Scope;
use crate::config::model::Config;

pub(super) fn lower(context: &mut Context<'_>, block: &Statement, config: &mut Config) {
    for (keyword, statement) in context.keywords(Scope::GlobalDefs, block.body()) {
        match keyword.name {
            "router_id" => {
                config.router_id = statement.values.first().map(|word| word.text.clone());
            }
            _ => context.without_effect(keyword, statement),
        }
    }
}
