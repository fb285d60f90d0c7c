//! Several tasks on one image: their queues at each expert, joined.
use super::{TraceHeader, TraceRecord};
use crate::math::sum;
use crate::{HwError, Result};

/// Queues of all tasks of one image in one layer, so that each expert is loaded once for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedQueues {
    /// Tokens per expert, over all tasks.
    pub queues: Vec<u64>,
    /// Experts that at least one task uses, |∪A|.
    pub loads: u64,
    /// Expert loads when the tasks run apart, Σ|A|.
    pub separate_loads: u64,
}

impl MergedQueues {
    /// Joins the queues of each task.
    ///
    /// ```
    /// use mtl_hw::routing::MergedQueues;
    /// let merged = MergedQueues::of(&[&[3, 0, 1], &[2, 2, 0]])?;
    /// assert_eq!((merged.queues.as_slice(), merged.loads, merged.separate_loads), ([5, 2, 1].as_slice(), 3, 4));
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when there is no task or the numbers of experts differ, [`HwError::Overflow`] beyond 64 bits.
    pub fn of(tasks: &[&[u64]]) -> Result<Self> {
        let Some(first) = tasks.first() else { return Err(HwError::config("tasks", "at least one", 0)) };
        let mut merged = Self { queues: vec![0; first.len()], loads: 0, separate_loads: 0 };
        for queues in tasks {
            if queues.len() != first.len() {
                let must = format!("of {} experts each", first.len());
                return Err(HwError::config("queues", must, queues.len()));
            }
            for (all, &n) in merged.queues.iter_mut().zip(*queues) {
                *all = sum("tokens", [*all, n])?;
                merged.separate_loads += u64::from(n > 0);
            }
        }
        merged.loads = merged.queues.iter().filter(|&&n| n > 0).count() as u64;
        Ok(merged)
    }

    /// Loads of the tasks apart over loads of the batch: Σ|A| / |∪A|; 1 when nobody uses an expert.
    #[must_use]
    pub fn reuse(&self) -> f64 {
        if self.loads == 0 { 1.0 } else { self.separate_loads as f64 / self.loads as f64 }
    }
}

/// Joins the records of several tasks on one image in one layer.
///
/// # Errors
///
/// [`HwError::Routing`] when the records are of different layers or images, or one is not of this trace;
/// [`HwError::Config`] when there is none.
pub fn task_batch(header: &TraceHeader, records: &[&TraceRecord]) -> Result<MergedQueues> {
    let mut queues = Vec::with_capacity(records.len());
    for r in records {
        let fail = |reason: String| HwError::Routing { layer: r.layer.clone(), reason };
        let layer = header.check(r).map_err(fail)?;
        if records.first().is_some_and(|first| first.layer != r.layer || first.image != r.image) {
            return Err(fail("a batch holds tasks of one image and one layer".to_owned()));
        }
        let experts = header.layers.get(layer).map_or(0, |l| l.experts as usize); // at most 65536
        let mut counts = vec![0; experts];
        if let Some(tokens) = &r.experts {
            super::Choices::Nested(tokens).count_into(&mut counts);
        }
        counts.iter_mut().zip(r.histogram.iter().flatten()).for_each(|(sum, n)| *sum += n);
        queues.push(counts);
    }
    MergedQueues::of(&queues.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::TraceLayer;
    use super::*;

    #[test]
    fn records_of_other_images_or_layers_do_not_join() {
        let layer = |id: &str| TraceLayer { id: id.into(), experts: 4, top_k: 1, d_model: 8, d_hidden: 8 };
        let tasks = vec!["a".into(), "b".into()];
        let header = TraceHeader::new("toy", tasks, 2, vec![layer("blk.1"), layer("blk.3")]);
        let record =
            |image, task, layer| TraceRecord::tokens(image, task, layer, vec![vec![3], vec![task as u16]]);
        let (a, b) = (record(0, 0, "blk.1"), record(0, 1, "blk.1"));
        let merged = task_batch(&header, &[&a, &b]).unwrap();
        assert_eq!(merged.queues, [1, 1, 0, 2]);
        assert_eq!((merged.loads, merged.reuse()), (3, 4.0 / 3.0));
        insta::assert_snapshot!(task_batch(&header, &[&a, &record(1, 1, "blk.1")]).unwrap_err(), @"routing of layer `blk.1`: a batch holds tasks of one image and one layer");
        assert!(task_batch(&header, &[&a, &record(0, 1, "blk.3")]).is_err());
        assert!(task_batch(&header, &[&record(0, 1, "blk.5")]).is_err());
        assert!(task_batch(&header, &[]).is_err());
        assert!(MergedQueues::of(&[&[1], &[1, 2]]).is_err());
    }
}
