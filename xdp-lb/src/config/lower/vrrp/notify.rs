//! Who is told about changes of an instance or a group.

use crate::config::ast::Statement;
use crate::config::keywords::Keyword;
use crate::config::lower::command;
use crate::config::lower::context::Context;
use crate::config::model::{Deleted, Notify};

/// What a file says about it.
#[derive(Debug, Default)]
pub(super) struct NotifyDraft {
    commands: Notify,
    mail: Option<bool>,
    priority_changes: Option<bool>,
}

impl NotifyDraft {
    /// Takes the statement if it is of this kind; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let commands = &mut self.commands;
        let place = match keyword.name {
            "notify_master" => &mut commands.master,
            "notify_backup" => &mut commands.backup,
            "notify_fault" => &mut commands.fault,
            "notify_stop" => &mut commands.stop,
            "notify" => &mut commands.any,
            "notify_master_rx_lower_pri" => &mut commands.lower_priority,
            "notify_deleted" => {
                let command = command::read(context, statement, keyword.name);
                commands.deleted = command.map_or(Deleted::Named, Deleted::Runs);
                return true;
            }
            "smtp_alert" => {
                self.mail = context.boolean(keyword, statement).or(self.mail);
                return true;
            }
            "notify_priority_changes" => {
                self.priority_changes = context
                    .boolean(keyword, statement)
                    .or(self.priority_changes);
                return true;
            }
            _ => return false,
        };
        *place = command::read(context, statement, keyword.name);
        true
    }

    /// With what is missing from the defaults of all.
    pub(super) fn finish(self, mail: bool, priority_changes: bool) -> Notify {
        Notify {
            mail: self.mail.unwrap_or(mail),
            priority_changes: self.priority_changes.unwrap_or(priority_changes),
            ..self.commands
        }
    }
}
