//! Marks the structs that cross into maps as plain data.

/// Declares that a `repr(C)` struct may be copied to and from a map byte by byte.
///
/// Structs of several fields also prove with `no_padding!` that they are as long as their fields.
macro_rules! pod {
    ($name:ty) => {
        #[cfg(feature = "user")]
        // SAFETY: every field is an integer or an array of `pod!` types, so all bit patterns are
        // valid, and the struct is `repr(C)` without padding (asserted by `no_padding!`).
        #[expect(unsafe_code, reason = "aya's marker for map values is an unsafe trait")]
        unsafe impl aya::Pod for $name {}
    };
}
pub(crate) use pod;

/// Asserts at compile time that a struct is as long as its fields, so that it holds no padding.
macro_rules! no_padding {
    ($name:ty, $($field:ty),+ $(,)?) => {
        const _: () = assert!(
            core::mem::size_of::<$name>() == 0 $(+ core::mem::size_of::<$field>())+,
            "this struct has padding, or its field list here is stale"
        );
    };
}
pub(crate) use no_padding;
