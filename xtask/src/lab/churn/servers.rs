//! What may happen to real servers, and how they stand: pure.

use std::fmt;

/// How a real server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It serves with this weight.
    Serves(u32),
    /// nginx is dead.
    Failed,
    /// It takes no new clients.
    Drained,
    /// It does not stand in the file.
    Removed,
}

/// What happens to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// nginx is killed.
    Fail,
    /// nginx starts again.
    Recover,
    /// `xdp-lb drain`.
    Drain,
    /// `xdp-lb undrain`.
    Undrain,
    /// `xdp-lb weight`.
    Weigh(u32),
    /// Taken out of the file.
    Remove,
    /// Put back into the file.
    Add,
}

impl Blow {
    /// How the server stands afterwards.
    pub(super) const fn standing(self) -> Standing {
        match self {
            Self::Fail => Standing::Failed,
            Self::Recover | Self::Undrain | Self::Add => Standing::Serves(1),
            Self::Drain => Standing::Drained,
            Self::Weigh(weight) => Standing::Serves(weight),
            Self::Remove => Standing::Removed,
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fails"),
            Self::Recover => f.write_str("is back"),
            Self::Drain => f.write_str("drained"),
            Self::Undrain => f.write_str("undrained"),
            Self::Weigh(weight) => write!(f, "gets weight {weight}"),
            Self::Remove => f.write_str("removed from the file"),
            Self::Add => f.write_str("added to the file again"),
        }
    }
}

/// What comes next. The first events are one of each kind; two servers always serve.
pub(super) fn draw(
    random: &mut fastrand::Rng,
    count: usize,
    standings: &[Standing; 4],
) -> (usize, Blow) {
    let serves = |standing: &Standing| matches!(standing, Standing::Serves(_));
    let serving = standings.iter().filter(|standing| serves(standing)).count();
    let with = |random: &mut fastrand::Rng, wanted: &dyn Fn(&Standing) -> bool| {
        let found = standings.iter().enumerate();
        let found = found.filter(|(_, standing)| wanted(standing));
        let found: Vec<_> = found.map(|(number, _)| number).collect();
        random.choice(found)
    };
    let hit = serving > 2 && (serving == standings.len() || random.bool());
    let target = if hit {
        with(random, &serves)
    } else {
        with(random, &|standing| !serves(standing))
    };
    let Some(target) = target else {
        return (0, Blow::Weigh(1));
    };
    let blow = match standings[target] {
        Standing::Failed => Blow::Recover,
        Standing::Drained => Blow::Undrain,
        Standing::Removed => Blow::Add,
        Standing::Serves(_) => match (count % 4, random.u32(1..=4)) {
            (0, _) => Blow::Fail,
            (1, _) => Blow::Drain,
            (2, weight) => Blow::Weigh(weight),
            _ => Blow::Remove,
        },
    };
    (target, blow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_always_serve_and_every_kind_of_event_comes() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut standings = [Standing::Serves(1); 4];
            let mut seen = Vec::new();
            let mut hits = 0;
            for _ in 0..30 {
                let (target, blow) = draw(&mut random, hits, &standings);
                if matches!(standings[target], Standing::Serves(_)) {
                    hits += 1;
                }
                standings[target] = blow.standing();
                seen.push(std::mem::discriminant(&blow));
                let serving = standings.iter();
                let serving = serving.filter(|s| matches!(s, Standing::Serves(_))).count();
                assert!(serving >= 2, "seed {seed}: {standings:?}");
            }
            for blow in [Blow::Fail, Blow::Drain, Blow::Weigh(1), Blow::Remove] {
                assert!(seen.contains(&std::mem::discriminant(&blow)), "seed {seed}");
            }
        }
    }
}
