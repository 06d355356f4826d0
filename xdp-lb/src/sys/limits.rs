//! What this process may use.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Sees to it that so many files may be open, as far as the hard limit goes. How many may be, and why
/// not all of them if that is not the limit itself. Never fewer than before.
///
/// The limit is inherited by scripts, so it is raised no further than it must be.
pub fn allow_open_files(wanted: usize) -> (usize, Option<io::Error>) {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return (0, Some(error.into())),
    };
    let count = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let raised = u64::try_from(wanted).unwrap_or(u64::MAX).min(hard);
    if raised <= soft {
        return (count(soft), None);
    }
    match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => (count(raised), None),
        Err(error) => (count(soft), Some(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes_and_never_lowered() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let (few, refused) = allow_open_files(1);
        assert!(refused.is_none());
        assert!(u64::try_from(few).unwrap() >= soft);
        let (more, refused) = allow_open_files(few + 1);
        assert!(refused.is_none());
        let expected = u64::try_from(few + 1).unwrap().min(hard);
        assert_eq!(u64::try_from(more).unwrap(), expected.max(soft));
        let (_, still) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(still, hard);
    }
}
