//! `vrrp_sync_group` and `track_group`: instances that belong together.

use std::collections::{BTreeMap, BTreeSet};

use super::notify::NotifyDraft;
use super::objects::Objects;
use super::trackers::{TrackersDraft, Unknown};
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Scope;
use crate::config::lower::context::Context;
use crate::config::model::{SyncGroup, TrackGroup, VrrpInstance};

/// An instance that can be a member.
#[derive(Debug)]
pub(super) struct Member {
    /// Its place among the instances.
    pub(super) index: usize,
    /// The `vrrp_sync_group` it is in.
    pub(super) group: Option<String>,
}

/// What was read of a `vrrp_sync_group`.
#[derive(Debug)]
pub(super) struct GroupDraft {
    name: Word,
    members: Vec<Word>,
    trackers: TrackersDraft,
    tracking_weight: bool,
    notify: NotifyDraft,
}

impl GroupDraft {
    pub(super) fn read(
        context: &mut Context<'_>,
        block: &Statement,
        name: &Word,
        objects: &Objects,
        unknown: &mut Vec<Unknown>,
    ) -> Self {
        let mut draft = Self {
            name: name.clone(),
            members: Vec::new(),
            trackers: TrackersDraft::default(),
            tracking_weight: false,
            notify: NotifyDraft::default(),
        };
        for (keyword, statement) in context.keywords(Scope::VrrpSyncGroup, block) {
            if draft.notify.take(context, keyword, statement)
                || draft
                    .trackers
                    .take(context, keyword, statement, objects, unknown)
            {
                continue;
            }
            match keyword.name {
                "group" => draft.members.extend(members(statement)),
                "sync_group_tracking_weight" | "global_tracking" => {
                    draft.tracking_weight = context.boolean(keyword, statement).unwrap_or(false);
                }
                _ => context.unread(keyword, statement),
            }
        }
        draft
    }

    /// The group, if it has members; takes from them what the group overrules.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        instances: &mut [VrrpInstance],
        roll: &mut BTreeMap<String, Member>,
        mail: bool,
        priority_changes: bool,
    ) -> Option<SyncGroup> {
        let mut members: Vec<String> = Vec::new();
        for word in &self.members {
            match roll.get_mut(&word.text) {
                None => no_instance(context, word, "vrrp_sync_group"),
                Some(Member {
                    group: Some(group), ..
                }) => twice(
                    context,
                    word,
                    &format!("is in the group {} already", quote(group)),
                ),
                Some(member) => {
                    member.group = Some(self.name.text.clone());
                    members.push(word.text.clone());
                }
            }
        }
        if members.is_empty() {
            empty(context, &self.name, "vrrp_sync_group");
            return None;
        }
        if let [only] = members.as_slice() {
            context.push(
                Diagnostic::warning(
                    Code::Doubtful,
                    format!(
                        "the group {} has a single member, {}",
                        quote(&self.name.text),
                        quote(only)
                    ),
                )
                .at(self.name.span, "there is nothing to keep in step with")
                .help("list the other instances of this director that must move with it"),
            );
        }
        if !self.tracking_weight {
            for member in members.iter().filter_map(|name| roll.get(name)) {
                if let Some(instance) = instances.get_mut(member.index) {
                    drop_weights(context, &self.name, instance);
                }
            }
        }
        Some(SyncGroup {
            name: self.name.text,
            members,
            trackers: self.trackers.finish(),
            tracking_weight: self.tracking_weight,
            notify: self.notify.finish(mail, priority_changes),
        })
    }
}

/// The names in a list, one or more per line.
fn members(list: &Statement) -> Vec<Word> {
    let lines = list.body().iter();
    lines
        .flat_map(|line| std::iter::once(&line.keyword).chain(&line.values))
        .cloned()
        .collect()
}

/// What keepalived makes of the weights of a member's trackers: an interface must be up, the others
/// are not tracked.
fn drop_weights(context: &mut Context<'_>, group: &Word, instance: &mut VrrpInstance) {
    let trackers = &mut instance.trackers;
    let mut dropped: Vec<String> = Vec::new();
    for interface in &mut trackers.interfaces {
        if interface.weight.value != 0 {
            dropped.push(interface.name.clone());
            interface.weight = crate::config::model::Weight::default();
        }
    }
    for list in [
        &mut trackers.scripts,
        &mut trackers.files,
        &mut trackers.processes,
    ] {
        list.retain(|tracked| {
            let keep = tracked.weight.value == 0;
            if !keep {
                dropped.push(tracked.name.clone());
            }
            keep
        });
    }
    if dropped.is_empty() {
        return;
    }
    let names: Vec<String> = dropped.iter().map(|name| quote(name)).collect();
    context.push(
        Diagnostic::warning(
            Code::Overruled,
            format!(
                "weights of what {} tracks do not count in the group {}: {}",
                quote(&instance.name),
                quote(&group.text),
                names.join(", ")
            ),
        )
        .at(
            group.span,
            "as with keepalived, an interface must be up instead, and the others are not tracked",
        )
        .help("track them in the group, or add 'sync_group_tracking_weight' to it"),
    );
}

/// A `track_group`, if it has members.
pub(super) fn track_group(
    context: &mut Context<'_>,
    block: &Statement,
    name: &Word,
    roll: &BTreeMap<String, Member>,
) -> Option<TrackGroup> {
    let mut names: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for (_, line) in context.keywords(Scope::TrackGroup, block) {
        for word in members(line) {
            if !roll.contains_key(&word.text) {
                no_instance(context, &word, "track_group");
            } else if seen.insert(word.text.clone()) {
                names.push(word.text.clone());
            }
        }
    }
    if names.is_empty() {
        empty(context, name, "track_group");
        return None;
    }
    Some(TrackGroup {
        name: name.text.clone(),
        members: names,
    })
}

fn no_instance(context: &mut Context<'_>, word: &Word, block: &str) {
    context.push(
        Diagnostic::warning(
            Code::UnknownName,
            format!("no vrrp_instance is called {}", quote(&word.text)),
        )
        .at(word.span, "ignored, as keepalived does")
        .help(format!(
            "a {block} lists the names of vrrp_instance blocks that can be used"
        )),
    );
}

fn twice(context: &mut Context<'_>, word: &Word, what: &str) {
    context.push(
        Diagnostic::warning(Code::Duplicate, format!("{} {what}", quote(&word.text)))
            .at(word.span, "ignored here, as keepalived does"),
    );
}

fn empty(context: &mut Context<'_>, name: &Word, block: &str) {
    context.push(
        Diagnostic::warning(
            Code::Empty,
            format!(
                "{block} {} has no member: it is ignored, as keepalived does",
                quote(&name.text)
            ),
        )
        .at(name.span, "lists no instance that can be used"),
    );
}
