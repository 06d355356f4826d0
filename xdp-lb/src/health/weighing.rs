//! What several checks together make of the weight of their server.

use super::Weighing;

/// All of them together; `None` if no check says anything.
///
/// As in keepalived each check moves the weight by the difference between what it wants and what is
/// configured, and the differences add up. So one that sets the weight has its way, two that do move
/// it by both their differences.
pub fn together(configured: u32, each: impl Iterator<Item = Weighing>) -> Option<Weighing> {
    let configured = i64::from(configured);
    let mut sets = false;
    let difference = each.map(|weighing| match weighing {
        Weighing::Set(weight) => {
            sets = true;
            i64::from(weight) - configured
        }
        Weighing::Add(more) => more,
    });
    let difference = difference.reduce(i64::saturating_add)?;
    if !sets {
        return Some(Weighing::Add(difference));
    }
    let weight = configured.saturating_add(difference);
    let weight = weight.clamp(0, i64::from(u32::MAX));
    // It fits.
    Some(Weighing::Set(u32::try_from(weight).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::table::ServerHealth;

    fn of(configured: u32, each: &[Weighing]) -> u32 {
        let weighing = together(configured, each.iter().copied());
        let health = ServerHealth {
            weighing,
            ..ServerHealth::default()
        };
        health.weight(configured)
    }

    #[test]
    fn differences_add_up() {
        use Weighing::{Add, Set};
        assert_eq!(together(5, std::iter::empty()), None);
        assert_eq!(of(5, &[Set(10)]), 10);
        assert_eq!(of(5, &[Set(10), Set(20)]), 25, "5 and 15 more than 5");
        assert_eq!(of(5, &[Set(10), Add(-3)]), 7);
        assert_eq!(of(5, &[Add(2), Add(-3)]), 4);
        assert_eq!(of(5, &[Set(0)]), 0);
        assert_eq!(of(5, &[Set(1), Add(-9)]), 0);
    }

    fn any_weighing() -> impl Strategy<Value = Weighing> {
        prop_oneof![
            (0_u32..300).prop_map(Weighing::Set),
            (-300_i64..300).prop_map(Weighing::Add),
        ]
    }

    proptest! {
        #[test]
        fn the_order_of_the_checks_does_not_matter(
            configured in 0_u32..300,
            each in prop::collection::vec(any_weighing(), 0..6),
        ) {
            let turned: Vec<_> = each.iter().rev().copied().collect();
            prop_assert_eq!(of(configured, &each), of(configured, &turned));
            let differences = each.iter().map(|weighing| match weighing {
                Weighing::Set(weight) => i64::from(*weight) - i64::from(configured),
                Weighing::Add(more) => *more,
            });
            let sum = i64::from(configured) + differences.sum::<i64>();
            prop_assert_eq!(i64::from(of(configured, &each)), sum.max(0));
        }

        #[test]
        fn nothing_overflows(
            configured in any::<u32>(),
            weights in prop::collection::vec(any::<u32>(), 0..4),
            more in prop::collection::vec(any::<i64>(), 0..4),
        ) {
            let sets = weights.into_iter().map(Weighing::Set);
            let each: Vec<_> = sets.chain(more.into_iter().map(Weighing::Add)).collect();
            prop_assert!(of(configured, &each) <= 2_147_483_647 || each.is_empty());
        }
    }
}
