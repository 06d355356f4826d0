//! The tree to the model: what the file means.
//!
//! In: the statements of a file. Out: a [`Config`] and all there is to say. What keepalived knows has
//! keepalived's effect here, mistakes included; the message says what that effect is. What it does
//! not know is skipped, a block as a whole. An error stands only where keepalived exits as well or
//! where the meaning cannot be kept.

mod address;
mod checker;
mod context;
mod global;
mod ours;
mod real_server;
mod service;
mod settings;
mod value;
mod vrrp;

use super::ast::Statement;
use super::diagnostic::Collector;
use super::keywords::Scope;
use super::model::Config;
use super::source::Sources;
use context::Context;

/// Reads a whole tree.
pub fn lower(tree: &[Statement], sources: &Sources, diagnostics: &mut Collector) -> Config {
    let mut context = Context::new(sources, diagnostics);
    let mut config = Config::default();
    let mut instances = vrrp::Instances::default();
    let mut services = service::Services::default();
    for (keyword, statement) in context.keywords(Scope::Root, tree) {
        match keyword.name {
            "global_defs" => global::lower(&mut context, statement, &mut config),
            "vrrp_instance" => instances.add(&mut context, statement),
            "virtual_server" => services.add(&mut context, statement),
            "xdp_lb" => ours::lower(&mut context, statement, &mut config.xdp_lb),
            _ => context.without_effect(keyword, statement),
        }
    }
    config.vrrp_instances = instances.finish(&mut context);
    config.virtual_servers = services.finish();
    context.finish();
    config
}
