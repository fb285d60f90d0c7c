//! Memory of gradients that are no longer needed, kept for those of the next step.
use crate::StateDict;
use std::{cell::RefCell, collections::VecDeque, fmt};
use tch::Tensor;

/// Gradients of the last step, let go one set at a time just before a backward pass asks for memory.
///
/// Freed all at once at the end of a step, they would make a large hole at the top of the heap, which the allocator gives back
/// to the system; the next step would then wait for every page to be handed out and zeroed again. Nothing is ever read from
/// here, and no more sets are alive at once than without it.
#[derive(Default)]
pub(super) struct Spare(RefCell<VecDeque<Vec<Tensor>>>);

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spare").field(&self.sets()).finish()
    }
}

impl Spare {
    /// Keeps the memory of these gradients after everybody else has dropped them.
    pub(super) fn keep(&self, sets: &[StateDict]) {
        let tensors = |set: &StateDict| set.iter().map(|(_, t)| t.shallow_clone()).collect();
        *self.0.borrow_mut() = sets.iter().map(tensors).collect();
    }

    /// Frees one set, if there is any.
    pub(super) fn let_go(&self) {
        self.0.borrow_mut().pop_front();
    }

    /// How many sets there are.
    pub(super) fn sets(&self) -> usize {
        self.0.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn sets_go_one_by_one_and_are_replaced_by_the_next_step() {
        let set = |v: f64| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[v]))]);
        let spare = Spare::default();
        spare.let_go(); // The first step has none.
        spare.keep(&[set(1.0), set(2.0)]);
        spare.let_go();
        assert_eq!(spare.sets(), 1);
        spare.keep(&[set(3.0), set(4.0)]);
        assert_eq!(spare.sets(), 2);
    }
}
