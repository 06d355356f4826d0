//! `FILE_CHECK`: what the number in a tracked file says.
//!
//! The number is multiplied by the weight. With weight 0 any number but 0 is a failure. Otherwise the
//! product is added to the weight of the server, `dynamic` or not as in keepalived 2.2.7, which does
//! not know that word; a product of -2147483648 or less is a failure.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Context, failed};
use crate::config::model::{FileProbe, FileWeight, TrackFile};
use crate::health::{Outcome, Weighing};
use crate::sys::number::{Content, read};

/// Products down to this one are failures.
const FAULT: i64 = -2_147_483_648;
/// Whoever writes a file empties it first; by then it has written it.
const WRITTEN: Duration = Duration::from_millis(50);

/// Looks at the file once.
pub async fn run(probe: &FileProbe, context: &Context) -> Outcome {
    let Some(file) = context.files.get(&probe.file) else {
        return Outcome::Inconclusive(format!("there is no track_file {}", probe.file));
    };
    let mut content = look(file).await;
    if let Ok(Some(Content::Nothing)) = content {
        sleep(WRITTEN).await;
        content = look(file).await;
    }
    let path = file.path.display();
    match content {
        Ok(content) => judge(probe, file, content),
        Err(why) => Outcome::Inconclusive(format!("cannot read {path}: {why}")),
    }
}

async fn look(file: &TrackFile) -> Result<Option<Content>, String> {
    let path = file.path.clone();
    match spawn_blocking(move || read(&path)).await {
        Ok(content) => content.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn judge(probe: &FileProbe, file: &TrackFile, content: Option<Content>) -> Outcome {
    let path = file.path.display();
    let number = match content {
        Some(Content::Number(number)) => number,
        Some(Content::OutOfRange) => {
            return Outcome::Inconclusive(format!("the number in {path} is out of range"));
        }
        None | Some(Content::Nothing | Content::NoNumber) => 0,
    };
    let FileWeight { factor, reverse } = probe.weight.unwrap_or_else(|| FileWeight {
        factor: i32::from(file.weight.value),
        reverse: file.weight.reverse,
    });
    if factor == 0 {
        // keepalived has `reverse` turn the sign alone: 0 stays good.
        return if number == 0 {
            Outcome::Passed
        } else {
            failed(format!("{path} holds {number}, expected 0"))
        };
    }
    let sign = if reverse { -1 } else { 1 };
    // At most 2^62.
    let product = i64::from(number) * i64::from(factor) * sign;
    if product <= FAULT {
        return failed(format!(
            "{path} holds {number}: times the weight that is {FAULT} or less"
        ));
    }
    Outcome::Weighed(Weighing::Add(product))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::Weight;

    fn judged(weight: (i32, bool), dynamic: bool, number: i32) -> Outcome {
        let probe = FileProbe {
            file: "f".to_owned(),
            weight: Some(FileWeight {
                factor: weight.0,
                reverse: weight.1,
            }),
            dynamic,
        };
        judge(&probe, &file(1), Some(Content::Number(number)))
    }

    fn file(weight: i16) -> TrackFile {
        TrackFile {
            name: "f".to_owned(),
            path: "/x".into(),
            weight: Weight {
                value: weight,
                reverse: false,
            },
            initial: None,
        }
    }

    #[test]
    fn the_number_times_the_weight_is_added() {
        let added = |more| Outcome::Weighed(Weighing::Add(more));
        assert_eq!(judged((2, false), true, 5), added(10));
        assert_eq!(judged((2, true), true, 5), added(-10));
        assert_eq!(judged((-1, false), true, 5), added(-5));
        assert_eq!(judged((2, false), false, 5), added(10));
        // 0 is a number, too: what was added before is taken back.
        assert_eq!(judged((2, false), true, 0), added(0));
        let lowest = failed("/x holds -2147483648: times the weight that is -2147483648 or less");
        assert_eq!(judged((1, false), false, i32::MIN), lowest);
    }

    #[test]
    fn without_a_weight_of_its_own_that_of_the_file_counts() {
        let probe = FileProbe {
            file: "f".to_owned(),
            weight: None,
            dynamic: true,
        };
        let three = Some(Content::Number(3));
        let added = Outcome::Weighed(Weighing::Add(12));
        assert_eq!(judge(&probe, &file(4), three), added);
        let bad = failed("/x holds 3, expected 0");
        assert_eq!(judge(&probe, &file(0), three), bad);
        assert_eq!(judge(&probe, &file(0), None), Outcome::Passed);
        let strange = judge(&probe, &file(0), Some(Content::OutOfRange));
        assert!(matches!(strange, Outcome::Inconclusive(_)));
    }

    proptest! {
        #[test]
        fn nothing_overflows(factor in any::<i32>(), reverse: bool, dynamic: bool, number: i32) {
            judged((factor, reverse), dynamic, number);
        }
    }
}
