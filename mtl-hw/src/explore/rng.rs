//! Named random streams: a draw depends on (seed, purpose, step), never on history.
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The stream for `purpose` at `step`.
pub(super) fn stream(seed: u64, purpose: &str, step: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(fnv1a(seed.to_le_bytes().into_iter().chain(purpose.bytes())));
    rng.set_stream(step);
    rng
}

/// FNV-1a hash.
pub(super) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
