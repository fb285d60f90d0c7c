//! Reservoir sampling: Vitter, *Random Sampling with a Reservoir*, ACM TOMS 1985; for replay, Chaudhry et al., *On Tiny
//! Episodic Memories in Continual Learning*, 2019, arXiv 1902.10486.
use super::{Buffer, Rows};
use mtl_core::{Error, Result, Seed, StateDict, check, no_grad};
use rand::RngExt;
use tch::{Kind, Tensor};

/// A memory in which every example offered so far is kept with the same probability.
///
/// ```
/// use mtl_continual::buffer::{Buffer, Reservoir, Rows};
/// use mtl_core::Seed;
/// use tch::Tensor;
///
/// let mut memory = Reservoir::new(3)?;
/// let column = |n: i64| Tensor::arange(n, (tch::Kind::Int64, tch::Device::Cpu));
/// let rows = Rows { input: column(10).view([10, 1]), label: column(10), task: column(10) };
/// memory.offer(&rows, Seed(0), 0)?;
/// assert_eq!((memory.len(), memory.seen()), (3, 10));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Reservoir {
    capacity: usize,
    seen: u64,
    rows: Option<Rows>,
}

impl Reservoir {
    /// An empty memory of `capacity` rows.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `capacity` is 0.
    pub fn new(capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::config("capacity", "at least 1", capacity));
        }
        Ok(Self { capacity, seen: 0, rows: None })
    }

    /// Rows offered so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Where each of `n` new rows goes: pairs of (row offered, slot), at most one for each slot.
    fn place(&mut self, n: usize, seed: Seed, step: u64) -> (Vec<i64>, Vec<i64>) {
        let mut rng = seed.stream("reservoir", step);
        let mut source = std::collections::BTreeMap::new();
        for row in 0..n {
            let slot =
                if self.seen < self.capacity as u64 { self.seen } else { rng.random_range(0..=self.seen) };
            self.seen += 1;
            if slot < self.capacity as u64 {
                source.insert(slot as i64, row as i64); // A later row replaces an earlier one of the same batch.
            }
        }
        source.into_iter().map(|(slot, row)| (row, slot)).unzip()
    }

    fn allocate(&self, like: &Rows) -> Result<Rows> {
        let parts = [&like.input, &like.label, &like.task];
        let row =
            |t: &Tensor| t.size()[1..].iter().product::<i64>() as u64 * t.kind().elt_size_in_bytes() as u64;
        let rows = self.capacity as u64;
        check::memory("replay memory", parts.map(row).iter().sum::<u64>().saturating_mul(rows))?;
        let [input, label, task] = parts.map(|t| {
            let mut dims = t.size();
            dims[0] = self.capacity as i64;
            Tensor::zeros(dims.as_slice(), (t.kind(), t.device()))
        });
        Ok(Rows { input, label, task })
    }
}

impl Buffer for Reservoir {
    fn offer(&mut self, rows: &Rows, seed: Seed, step: u64) -> Result<()> {
        let n = rows.label.numel();
        for (name, t) in [("input", &rows.input), ("label", &rows.label), ("task", &rows.task)] {
            if t.size().first() != Some(&(n as i64)) {
                return Err(Error::shape(name, format!("[{n}, …]"), t.size()));
            }
        }
        let mut kept = match self.rows.take() {
            Some(kept) => kept,
            None => self.allocate(rows)?,
        };
        if kept.input.size()[1..] != rows.input.size()[1..] {
            let expected = format!("[…, {:?}] as the rows before", &kept.input.size()[1..]);
            self.rows = Some(kept);
            return Err(Error::shape("input", expected, rows.input.size()));
        }
        let (from, to) = self.place(n, seed, step);
        if !from.is_empty() {
            let (from, to) = (Tensor::from_slice(&from), Tensor::from_slice(&to));
            no_grad(|| {
                for (kept, new) in [
                    (&mut kept.input, &rows.input),
                    (&mut kept.label, &rows.label),
                    (&mut kept.task, &rows.task),
                ] {
                    let _ =
                        kept.index_copy_(0, &to, &new.detach().index_select(0, &from).to_kind(kept.kind()));
                }
            });
        }
        self.rows = Some(kept);
        Ok(())
    }

    fn draw(&self, n: usize, seed: Seed, step: u64) -> Option<Rows> {
        let rows = self.rows.as_ref().filter(|_| !self.is_empty())?;
        let picked =
            rand::seq::index::sample(&mut seed.stream("replay", step), self.len(), n.min(self.len()));
        let index = Tensor::from_slice(&picked.into_iter().map(|i| i as i64).collect::<Vec<_>>());
        let pick = |t: &Tensor| t.index_select(0, &index);
        Some(Rows { input: pick(&rows.input), label: pick(&rows.label), task: pick(&rows.task) })
    }

    fn len(&self) -> usize {
        self.seen.min(self.capacity as u64) as usize
    }

    fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.numel() / self.capacity * self.len() * t.kind().elt_size_in_bytes();
        self.rows.as_ref().map_or(0, |r| size(&r.input) + size(&r.label) + size(&r.task))
    }

    fn state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("seen", Tensor::from_slice(&[self.seen as i64, self.capacity as i64]));
        if let Some(rows) = &self.rows {
            for (name, t) in [("input", &rows.input), ("label", &rows.label), ("task", &rows.task)] {
                state.insert(name, t.copy());
            }
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let wrong = |differences: String| Error::Mismatch { what: "replay memory".into(), differences };
        let counters = state.get("seen").filter(|t| t.kind() == Kind::Int64 && t.size() == [2]);
        let Some(counters) = counters else { return Err(wrong("`seen` is missing".into())) };
        let (seen, capacity) = (counters.int64_value(&[0]), counters.int64_value(&[1]));
        if capacity != self.capacity as i64 {
            return Err(wrong(format!("capacity is {capacity}, expected {}", self.capacity)));
        }
        let rows = match (state.get("input"), state.get("label"), state.get("task")) {
            (Some(input), Some(label), Some(task)) => {
                for t in [input, label, task] {
                    if t.size().first() != Some(&capacity) {
                        return Err(wrong(format!(
                            "a tensor has shape {:?}, expected [{capacity}, …]",
                            t.size()
                        )));
                    }
                }
                Some(Rows { input: input.copy(), label: label.copy(), task: task.copy() })
            }
            (None, None, None) if seen == 0 => None,
            _ => return Err(wrong("rows are missing".into())),
        };
        (self.seen, self.rows) = (seen.max(0) as u64, rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(first: i64, n: i64) -> Rows {
        let ids = Tensor::arange_start(first, first + n, (Kind::Int64, tch::Device::Cpu));
        Rows {
            input: ids.to_kind(Kind::Float).view([n, 1]),
            label: ids.shallow_clone(),
            task: ids.zeros_like(),
        }
    }

    #[test]
    fn an_input_of_another_shape_is_refused_and_nothing_is_lost() {
        let mut memory = Reservoir::new(4).unwrap();
        memory.offer(&rows(0, 2), Seed(0), 0).unwrap();
        let mut other = rows(0, 2);
        other.input = Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu));
        let err = memory.offer(&other, Seed(0), 1).unwrap_err();
        insta::assert_snapshot!(err, @"`input` must have shape […, [1]] as the rows before, but has [2, 3]");
        assert_eq!(memory.len(), 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_capacity_beyond_the_machine_is_refused() {
        let err = Reservoir::new(1 << 45).unwrap().offer(&rows(0, 2), Seed(0), 0).unwrap_err();
        assert!(matches!(err, Error::Memory { .. }), "{err}");
    }

    #[test]
    fn a_state_of_another_capacity_is_refused() {
        let err = Reservoir::new(4).unwrap().load_state(&Reservoir::new(5).unwrap().state()).unwrap_err();
        insta::assert_snapshot!(err, @"parameters of `replay memory` do not fit: capacity is 5, expected 4");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Kept rows are different rows of the stream, and a draw gives different rows of those kept.
        #[test]
        fn rows_are_kept_once(seed: u64, capacity in 1usize..12, batches in 1i64..6) {
            let mut memory = Reservoir::new(capacity).unwrap();
            for step in 0..batches {
                memory.offer(&rows(step * 5, 5), Seed(seed), step as u64).unwrap();
            }
            prop_assert_eq!(memory.len(), capacity.min(batches as usize * 5));
            let drawn = memory.draw(capacity, Seed(seed), 0).unwrap();
            let mut labels: Vec<i64> = drawn.label.try_into().unwrap();
            labels.sort_unstable();
            labels.dedup();
            prop_assert_eq!(labels.len(), memory.len());
            prop_assert!(labels.iter().all(|l| (0..batches * 5).contains(l)));
        }

        /// Saving and loading in the middle of a stream changes nothing.
        #[test]
        fn a_resumed_memory_goes_on_alike(seed: u64, capacity in 1usize..8) {
            let mut memory = Reservoir::new(capacity).unwrap();
            memory.offer(&rows(0, 6), Seed(seed), 0).unwrap();
            let mut resumed = Reservoir::new(capacity).unwrap();
            resumed.load_state(&memory.state()).unwrap();
            for m in [&mut memory, &mut resumed] {
                m.offer(&rows(6, 6), Seed(seed), 1).unwrap();
            }
            prop_assert!(memory.state().get("label").unwrap().equal(resumed.state().get("label").unwrap()));
        }
    }
}
