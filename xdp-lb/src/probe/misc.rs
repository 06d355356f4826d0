//! `MISC_CHECK`: a command succeeds.
//!
//! It runs as every command of the configuration does; when `misc_timeout` is over, its process group
//! is ended. A program that is not there fails, as under keepalived; one that may not be run for the
//! sake of security, or as nobody whom this host knows, says nothing about the server.

use tokio::task::spawn_blocking;

use super::{Context, failed, seconds};
use crate::config::model::MiscProbe;
use crate::health::{Outcome, Weighing};
use crate::sys::command::resolve::{Refused, Runnable};
use crate::sys::command::run::{self, Output};

/// Runs the command once.
pub async fn run(probe: &MiscProbe, context: &Context) -> Outcome {
    match find(probe, context).await {
        Ok(command) => {
            // A check may start the service that it finds dead: see `Output::Discard`.
            let limit = Some(probe.timeout);
            let ended = run::run(&command, &[], limit, Output::Discard).await;
            judge(probe, &command.line, &ended)
        }
        Err(outcome) => outcome,
    }
}

/// Each time anew: the program, its rights and the user may change. That asks the disk, and perhaps
/// a directory of users in the network.
async fn find(probe: &MiscProbe, context: &Context) -> Result<Runnable, Outcome> {
    let (resolver, command) = (context.commands.clone(), probe.command.clone());
    let found = spawn_blocking(move || resolver.resolve(&command)).await;
    match found {
        Ok(found) => found.map_err(|refused| refusal(&refused)),
        Err(error) => Err(Outcome::Inconclusive(error.to_string())),
    }
}

fn refusal(refused: &Refused) -> Outcome {
    match refused {
        Refused::NotFound(_)
        | Refused::Relative(_)
        | Refused::Unreadable { .. }
        | Refused::NotExecutable(_) => failed(refused.to_string()),
        Refused::NoUser(_)
        | Refused::NoGroup(_)
        | Refused::LookUp { .. }
        | Refused::NotRoot(_)
        | Refused::Unsafe { .. } => Outcome::Inconclusive(refused.to_string()),
    }
}

fn judge(probe: &MiscProbe, line: &str, ended: &run::Outcome) -> Outcome {
    match ended {
        run::Outcome::Exited(0) => Outcome::Passed,
        run::Outcome::Exited(status) => match weight(*status).filter(|_| probe.dynamic) {
            Some(weight) => Outcome::Weighed(Weighing::Set(weight)),
            None => failed(format!("script '{line}' exited with {status}")),
        },
        run::Outcome::Killed(_) => failed(format!("script '{line}' was {ended}")),
        run::Outcome::TimedOut => {
            let limit = seconds(probe.timeout);
            failed(format!("script '{line}' did not end within {limit}"))
        }
        run::Outcome::NotStarted(_) => Outcome::Inconclusive(format!("script '{line}' {ended}")),
    }
}

/// What `misc_dynamic` makes of an exit status.
fn weight(status: i32) -> Option<u32> {
    let weight = u32::try_from(status).ok()?.checked_sub(2)?;
    (weight <= 253).then_some(weight)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::Command;

    fn judged(dynamic: bool, ended: &run::Outcome) -> Outcome {
        let probe = MiscProbe {
            command: Command {
                line: "/x y".to_owned(),
                program: "/x".to_owned(),
                arguments: vec!["y".to_owned()],
                user: None,
            },
            timeout: Duration::from_secs(3),
            dynamic,
        };
        judge(&probe, &probe.command.line, ended)
    }

    #[test]
    fn every_exit_status_has_its_meaning() {
        use run::Outcome::Exited;
        assert_eq!(judged(false, &Exited(0)), Outcome::Passed);
        assert_eq!(judged(true, &Exited(0)), Outcome::Passed);
        for status in 1..=255 {
            let said = failed(format!("script '/x y' exited with {status}"));
            assert_eq!(judged(false, &Exited(status)), said);
            let weighed = match u32::try_from(status).unwrap() {
                1 => said,
                status => Outcome::Weighed(Weighing::Set(status - 2)),
            };
            assert_eq!(judged(true, &Exited(status)), weighed);
        }
    }

    #[test]
    fn other_ends_are_failures_and_no_beginning_is_none() {
        let said = |text: &str| failed(text.to_owned());
        let killed = judged(true, &run::Outcome::Killed(9));
        assert_eq!(killed, said("script '/x y' was killed by SIGKILL"));
        let hung = judged(true, &run::Outcome::TimedOut);
        assert_eq!(hung, said("script '/x y' did not end within 3 s"));
        let absent = judged(true, &run::Outcome::NotStarted("no memory".to_owned()));
        let said = "script '/x y' not started: no memory".to_owned();
        assert_eq!(absent, Outcome::Inconclusive(said));
    }
}
