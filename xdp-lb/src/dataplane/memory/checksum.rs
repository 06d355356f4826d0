//! The Internet's checksum (RFC 1071), over whole packets and in steps (RFC 1624, equation 3).

/// The sum of all words in ones' complement; what is missing of the last one is 0.
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    words.fold(0, |sum, word| {
        let low = word.get(1).copied().unwrap_or_default();
        let high = word.first().copied().unwrap_or_default();
        let (sum, carry) = u16::from_be_bytes([high, low]).overflowing_add(sum);
        sum + u16::from(carry)
    })
}

/// As it stands in a UDP header: 0 there says that there is none.
pub(super) const fn of_udp(checksum: u16) -> u16 {
    match checksum {
        0 => u16::MAX,
        checksum => checksum,
    }
}
/// A checksum after the octets that it covers have changed. One that was wrong stays as wrong.
pub(super) fn follow(checksum: u16, before: &[&[u8]], after: &[&[u8]]) -> u16 {
    let parts = [!checksum, !sum(before), sum(after)].map(u16::to_be_bytes);
    !sum(&parts.each_ref().map(<[u8; 2]>::as_slice))
}
