//! The tree to the model: what the file means.
//!
//! In: the statements of a file. Out: a [`Config`], where its parts stand, and all there is to say.
//! What keepalived knows has keepalived's effect here, mistakes included; the message says what that
//! effect is. What it does not know is skipped, a block as a whole. An error stands only where
//! keepalived exits as well or where the meaning cannot be kept.

mod checker;
mod command;
mod context;
mod cross;
mod global;
mod marks;
mod ours;
mod service;
mod value;
mod vrrp;

use super::ast::Statement;
use super::diagnostic::Collector;
use super::model::Config;
use super::places::Places;
use super::source::Sources;
use context::Context;
use global::Globals;

/// Reads a whole tree.
pub fn lower(
    tree: &[Statement],
    sources: &Sources,
    diagnostics: &mut Collector,
) -> (Config, Places) {
    let mut context = Context::new(sources, diagnostics);
    let mut config = Config::default();
    let mut places = Places::default();
    let statements = context.root_keywords(tree);
    // First: what stands in `global_defs` holds for blocks before it as well.
    let mut globals = Globals::default();
    for (keyword, statement) in &statements {
        if keyword.name == "global_defs" {
            globals.read(&mut context, statement);
        }
    }
    globals.finish(&mut context);
    let mut vrrp = vrrp::Vrrp::default();
    let mut services = service::Services::default();
    let mut sync = None;
    for (keyword, statement) in statements {
        match keyword.name {
            "global_defs" => {}
            "xdp_lb" => {
                let settings = &mut config.xdp_lb;
                ours::lower(&mut context, statement, settings, &mut places.marks);
                let mut body = statement.body().iter();
                let block = body.find(|line| line.keyword.text == "sync");
                sync = block.map(|block| block.keyword.span).or(sync);
            }
            _ => {
                let taken = vrrp.take(&mut context, keyword, statement)
                    || services.take(&mut context, &globals, keyword, statement);
                if !taken {
                    context.unread(keyword, statement);
                }
            }
        }
    }
    vrrp.finish(&mut context, &globals, &mut config, &mut places);
    services.finish(&mut context, &globals, &mut config, &mut places);
    cross::check(&mut context, &config, &places);
    let daemon = globals.sync;
    config.global = globals.model;
    ours::check_sync(&mut context, &config, daemon, sync);
    places.commands = context.finish();
    (config, places)
}
