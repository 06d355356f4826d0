//! Numbers that the compiler or the verifier is not to know, so that few branches and few states come of
//! them.

/// The same number; where it comes from the compiler does not know. It makes branches of arithmetic that
/// was written to have none.
#[cfg_attr(
    target_arch = "bpf",
    expect(
        unsafe_code,
        reason = "`asm!` is; that of `black_box` goes through memory"
    )
)]
#[inline(always)]
pub fn hidden(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let same;
        // An instruction, as the kernel refuses debug information of an empty one.
        // SAFETY: a copy of one register to another.
        unsafe {
            core::arch::asm!(
                "{0} = {1}",
                lateout(reg) same,
                in(reg) number,
                options(pure, nomem, nostack)
            );
        }
        same
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// The same number, of which the verifier knows nothing more if it knows nothing about `by`. It walks what
/// comes next once for all such numbers, and not once for each constant.
#[inline(always)]
pub fn blurred(number: u64, by: u64) -> u64 {
    hidden(number ^ by) ^ by
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_number_is_the_same(number: u64, by: u64) {
            prop_assert_eq!((hidden(number), blurred(number, by)), (number, number));
        }
    }
}
