//! Gradient mode, threads and panic boundaries.
use crate::{Error, Result, error::first_line};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f` without recording gradients; restores the mode even when `f` panics.
///
/// The mode belongs to the thread: call it inside a parallel closure, not around it.
#[allow(clippy::disallowed_methods)] // The one place that may touch tch's guard.
pub fn no_grad<T>(f: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    f()
}

/// Turns a panic inside `f` (tch's operators unwrap) into [`Error::Torch`].
///
/// For the outermost loop only: one study cell, one command. Anything a user can get wrong
/// must have been reported by a typed error before this catches it.
///
/// # Errors
///
/// What `f` returns, and [`Error::Torch`] with the panic's message.
pub fn isolate<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("unknown panic");
        // tch panics with the Debug form of its error; keep the message, drop the C++ frames.
        let text = text.split_once("Torch(\"").map_or(text, |(_, message)| message);
        Err(Error::Torch(first_line(&text.replace("\\n", "\n"))))
    })
}

/// Sets the number of intra-op threads of libtorch; call it once, at the start.
///
/// One is the right number for small steps and for every worker of a study: on a loaded machine two threads on small
/// operators are many times slower than one.
///
/// # Errors
///
/// [`Error::Config`] when `threads` is 0.
pub fn set_threads(threads: usize) -> Result<()> {
    let n = i32::try_from(threads).unwrap_or(i32::MAX);
    if n == 0 {
        return Err(Error::config("threads", "at least 1", threads));
    }
    tch::set_num_threads(n);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn isolate_keeps_the_message_and_drops_the_frames() {
        let a = Tensor::from_slice(&[1.0f32; 6]).view([2, 3]);
        let err = isolate(|| Ok(a.matmul(&a))).unwrap_err();
        insta::assert_snapshot!(err, @"libtorch: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
    }

    #[test]
    fn gradients_are_back_on_after_a_panic() {
        let w = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
        let _ = isolate(|| no_grad(|| -> Result<()> { panic!("boom") }));
        assert!((&w * 2.0).requires_grad());
    }
}
