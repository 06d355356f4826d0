//! A new configuration: what is checked as before goes on where it is.

use super::super::check::Prior;
use super::super::report::{News, Report};
use super::super::target::Target;
use super::{Action, CheckId, Monitor, Server, spread};
use crate::config::model;
use crate::machine::Now;

impl Monitor {
    pub(super) fn reconfigure(
        &mut self,
        now: Now,
        targets: Vec<Target>,
        actions: &mut Vec<Action>,
    ) {
        let mut gone = std::mem::take(&mut self.servers);
        let mut reports = Vec::new();
        for target in targets {
            match gone.remove(&target.server) {
                None => self.join(now, target),
                Some(had) => self.retarget(now, target, had, &mut reports),
            }
        }
        for (server, had) in gone {
            self.health.remove(&server);
            self.drop_checks(had.checks);
        }
        actions.push(Action::Verdicts);
        actions.extend(reports);
    }

    /// A server that comes while others stand joins them last.
    fn join(&mut self, now: Now, target: Target) {
        self.joins += 1;
        self.admit(now, target, Prior::Unknown, self.joins);
    }

    /// Checks of the same probe go on where they are, whatever their rules are now; others start
    /// from the server's verdict.
    fn retarget(&mut self, now: Now, target: Target, had: Server, reports: &mut Vec<Action>) {
        let Target {
            server,
            weight,
            checks,
        } = target;
        let Server {
            checks: mut had,
            is_awaited,
            ..
        } = had;
        let is_down = self.health.get(&server).is_some_and(|health| !health.up);
        let prior = if is_down { Prior::Down } else { Prior::Serving };
        let checks = checks.into_iter().map(|config| {
            let kept = self.keep(now, &mut had, &config);
            kept.unwrap_or_else(|| self.add(now, server, config, prior))
        });
        let checks = checks.collect();
        let entry = Server {
            weight,
            checks,
            is_awaited,
        };
        self.servers.insert(server, entry);
        self.drop_checks(had);
        // Its failing check may be gone; none that is new can fail yet.
        let mut actions = Vec::new();
        if self.judge(now, server, &mut actions) {
            let news = News::Up;
            actions.push(Action::Report(Report { server, news }));
        }
        // All verdicts are published together.
        reports.extend(
            actions
                .into_iter()
                .filter(|a| matches!(a, Action::Report(_))),
        );
    }

    fn keep(
        &mut self,
        now: Now,
        candidates: &mut Vec<CheckId>,
        config: &model::Check,
    ) -> Option<CheckId> {
        let same = |id: &CheckId| {
            let check = self.checks.get(id);
            check.is_some_and(|(_, check)| *check.probe() == config.probe)
        };
        let position = candidates.iter().position(same)?;
        let id = candidates.remove(position);
        let (_, check) = self.checks.get_mut(&id)?;
        let before = check.due();
        let sooner = now.after(spread(self.seed, id, config.delay_loop));
        check.retime(now, config, sooner);
        if let (Some(before), Some(after)) = (before, check.due()) {
            self.agenda.remove(&(before, id));
            self.agenda.insert((after, id));
        }
        Some(id)
    }

    fn drop_checks(&mut self, ids: Vec<CheckId>) {
        for id in ids {
            if let Some(due) = self.checks.remove(&id).and_then(|(_, check)| check.due()) {
                self.agenda.remove(&(due, id));
            }
        }
    }
}
