//! The loop that runs any [`Machine`].

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::machine::{Machine, Now};

/// The agent's clock: [`Now`] is the time since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads zero now.
    pub fn start() -> Self {
        let start = Instant::now();
        Self { start }
    }

    /// What it reads.
    pub fn now(&self) -> Now {
        Now(self.start.elapsed())
    }

    /// Waits for a moment; forever for `None`.
    pub async fn reach(&self, moment: Option<Now>) {
        match moment.and_then(|Now(since)| self.start.checked_add(since)) {
            Some(instant) => sleep_until(instant).await,
            None => std::future::pending().await,
        }
    }
}

/// Carries out what a machine wants done. It must not wait: what takes time is a task of its own.
pub trait Effects<M: Machine> {
    /// Carries out one action; `machine` is in the state after it.
    fn carry_out(&mut self, machine: &M, action: M::Action);
}

/// Runs a machine until every sender of its inputs is gone.
///
/// Only the comparison of the clock with the deadline decides that something is due. A sleep that
/// ends late, because the runtime was busy, or early changes nothing.
pub async fn drive<M: Machine>(
    mut machine: M,
    clock: Clock,
    mut inputs: mpsc::Receiver<M::Input>,
    mut effects: impl Effects<M>,
) {
    let mut actions = Vec::new();
    loop {
        let now = clock.now();
        if machine.deadline().is_some_and(|deadline| deadline <= now) {
            machine.expire(now, &mut actions);
        }
        for action in actions.drain(..) {
            effects.carry_out(&machine, action);
        }
        tokio::select! {
            input = inputs.recv() => match input {
                Some(input) => machine.handle(clock.now(), input, &mut actions),
                None => return,
            },
            () = clock.reach(machine.deadline()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Rings `every` second and counts what it hears.
    struct Metronome {
        next: Now,
        every: Duration,
        heard: Vec<u32>,
    }

    impl Machine for Metronome {
        type Input = u32;
        type Action = String;

        fn handle(&mut self, _: Now, input: u32, actions: &mut Vec<String>) {
            self.heard.push(input);
            actions.push(format!("heard {input}"));
        }

        fn expire(&mut self, now: Now, actions: &mut Vec<String>) {
            assert!(now >= self.next);
            actions.push(format!("tick at {}", now.0.as_secs()));
            self.next = now.after(self.every);
        }

        fn deadline(&self) -> Option<Now> {
            Some(self.next)
        }
    }

    struct Record(mpsc::UnboundedSender<String>);

    impl Effects<Metronome> for Record {
        fn carry_out(&mut self, _: &Metronome, action: String) {
            self.0.send(action).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_and_inputs_take_turns_until_nobody_can_speak() {
        let machine = Metronome {
            next: Now::ZERO,
            every: Duration::from_secs(2),
            heard: Vec::new(),
        };
        let (inputs, receiver) = mpsc::channel(1);
        let (record, mut said) = mpsc::unbounded_channel();
        let driver = tokio::spawn(drive(machine, Clock::start(), receiver, Record(record)));
        assert_eq!(said.recv().await.unwrap(), "tick at 0");
        inputs.send(7).await.unwrap();
        assert_eq!(said.recv().await.unwrap(), "heard 7");
        assert_eq!(said.recv().await.unwrap(), "tick at 2");
        assert_eq!(said.recv().await.unwrap(), "tick at 4");
        drop(inputs);
        driver.await.unwrap();
    }
}
