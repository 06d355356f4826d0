//! `FILE_CHECK` of real files.

use std::path::Path;

use xdp_lb::health::{Outcome, Weighing};

use super::{passes, run_with, why};

async fn check(path: &Path, of_file: &str, of_check: &str) -> Outcome {
    let file = format!("track_file f {{\nfile {}\n{of_file}\n}}", path.display());
    let lines = format!("track_file f\n{of_check}");
    run_with(&file, "FILE_CHECK", "10.0.0.2:80".parse().unwrap(), &lines).await
}

#[tokio::test]
async fn the_number_in_a_file_fails_or_weighs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("number");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    // What is not there is 0.
    passes(&check(&path, "weight 0", "").await);
    write("3\n");
    let failed = why(check(&path, "weight 0", "").await);
    assert_eq!(failed, format!("{} holds 3, expected 0", path.display()));
    let added = |more| Outcome::Weighed(Weighing::Add(more));
    assert_eq!(check(&path, "", "").await, added(3));
    assert_eq!(check(&path, "weight 2", "dynamic").await, added(6));
    let own = check(&path, "weight 2", "weight 5 reverse\ndynamic").await;
    assert_eq!(own, added(-15));
    write("");
    assert_eq!(check(&path, "", "dynamic").await, added(0));
    write("99999999999");
    let said = check(&path, "", "dynamic").await;
    assert!(matches!(said, Outcome::Inconclusive(_)), "{said:?}");
    let said = check(folder.path(), "", "").await;
    assert!(matches!(said, Outcome::Inconclusive(_)), "{said:?}");
}
