//! Losses of the task kinds, and the predictions that metrics score.
//!
//! Each loss is the mean over examples (and positions, labels or numbers of an example). The plain functions check
//! shapes only; [`task_loss`] and [`masked_cross_entropy`] check the labels too, which reads them once.
use crate::{Error, Result, TaskKind, TaskSpec, check};
use tch::{Kind, Reduction, Tensor};

/// The loss of `output` for the `target` of a task, with label range and shapes checked.
///
/// ```
/// use mtl_core::{TaskSpec, loss::task_loss};
/// use tch::Tensor;
///
/// let parity = TaskSpec::classification("parity", 2);
/// let logits = Tensor::from_slice(&[0.0f32, 0.0]).view([1, 2]);
/// let loss = task_loss(&parity, &logits, &Tensor::from_slice(&[1i64]))?;
/// assert!((loss.double_value(&[]) - 2f64.ln()).abs() < 1e-6);
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Shape`] when `output` or `target` do not have the shape of the task's kind, [`Error::Config`] for an empty
/// batch, a label outside the range, or a kind of task that has no loss of its own.
pub fn task_loss(task: &TaskSpec, output: &Tensor, target: &Tensor) -> Result<Tensor> {
    match task.kind {
        TaskKind::Classification { classes } | TaskKind::DenseClassification { classes, .. } => {
            check::labels(target, &format!("target of task `{}`", task.name), classes)?;
        }
        _ if target.numel() == 0 => {
            let name = format!("target of task `{}`", task.name);
            return Err(Error::config(name, "a batch of at least one example", "empty"));
        }
        _ => {}
    }
    task_loss_unchecked(task, output, target)
}

/// [`task_loss`] without the look at the labels, for data whose labels were checked when it was loaded.
///
/// # Errors
///
/// [`Error::Shape`] and [`Error::Config`] as [`task_loss`].
pub fn task_loss_unchecked(task: &TaskSpec, output: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (outputs, target_shape) = shapes(task, output.size().first().copied().unwrap_or(0))?;
    if output.size() != outputs {
        return Err(Error::shape(
            format!("output of task `{}`", task.name),
            format!("{outputs:?}"),
            output.size(),
        ));
    }
    if target.size() != target_shape {
        let expected = format!("{target_shape:?}");
        return Err(Error::shape(format!("target of task `{}`", task.name), expected, target.size()));
    }
    match task.kind {
        TaskKind::Classification { .. } | TaskKind::DenseClassification { .. } => {
            if target.kind() != Kind::Int64 {
                let name = format!("target of task `{}`", task.name);
                return Err(Error::config(name, "of kind Int64", format!("{:?}", target.kind())));
            }
            Ok(cross_entropy(output, target, 0.0))
        }
        TaskKind::MultiLabel { .. } => Ok(binary_cross_entropy(output, target)),
        _ => Ok(mean_squared_error(output, target)),
    }
}

/// Shapes of output and target of a batch.
fn shapes(task: &TaskSpec, batch: i64) -> Result<(Vec<i64>, Vec<i64>)> {
    Ok(match task.kind {
        TaskKind::Classification { classes } => (vec![batch, classes], vec![batch]),
        TaskKind::MultiLabel { labels: n } | TaskKind::Regression { dims: n } => {
            (vec![batch, n], vec![batch, n])
        }
        TaskKind::DenseClassification { classes, height, width } => {
            (vec![batch, classes, height, width], vec![batch, height, width])
        }
        TaskKind::DenseRegression { channels, height, width } => {
            (vec![batch, channels, height, width], vec![batch, channels, height, width])
        }
        ref other => {
            let field = format!("kind of task `{}`", task.name);
            return Err(Error::config(field, "one with a loss of its own", format!("{other:?}")));
        }
    })
}

/// Cross entropy of `logits` `[batch, classes, …]` and class indices `[batch, …]`, or probabilities of the shape of
/// `logits`; `smoothing` in 0..1 spreads that share of the target over all classes. Nothing is checked.
pub fn cross_entropy(logits: &Tensor, target: &Tensor, smoothing: f64) -> Tensor {
    logits.cross_entropy_loss(target, None::<&Tensor>, Reduction::Mean, -100, smoothing)
}

/// Cross entropy in which only the logits of `classes` compete, as in class-incremental learning.
///
/// # Errors
///
/// [`Error::Shape`] when `logits` are not `[batch, classes]`; [`Error::Config`] when `classes` are empty or outside the
/// range, when the batch is empty or when a label is not among `classes`.
pub fn masked_cross_entropy(logits: &Tensor, target: &Tensor, classes: &[i64]) -> Result<Tensor> {
    let (_, outputs) = check::dims2(logits, "logits", "[batch, classes]")?;
    check::labels(target, "target", outputs)?;
    let hidden = hidden_classes(outputs, classes)?;
    let missing = hidden.index_select(0, target);
    if missing.any().int64_value(&[]) != 0 {
        let first = missing.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
        let value = target.int64_value(&[first]);
        return Err(Error::config("target", format!("among the classes {classes:?}"), value));
    }
    masked_cross_entropy_unchecked(logits, target, classes)
}

/// [`masked_cross_entropy`] without the look at the labels; a label that is not among `classes` gives an infinite loss.
///
/// # Errors
///
/// [`Error::Shape`] and [`Error::Config`] for the wrong `logits` or `classes` as [`masked_cross_entropy`].
pub fn masked_cross_entropy_unchecked(logits: &Tensor, target: &Tensor, classes: &[i64]) -> Result<Tensor> {
    Ok(cross_entropy(&mask_classes(logits, classes)?, target, 0.0))
}

/// `logits` `[batch, classes]` with −∞ for every class that is not among `classes`.
///
/// # Errors
///
/// See [`masked_cross_entropy`].
pub fn mask_classes(logits: &Tensor, classes: &[i64]) -> Result<Tensor> {
    let (_, outputs) = check::dims2(logits, "logits", "[batch, classes]")?;
    let hidden = hidden_classes(outputs, classes)?.to_device(logits.device());
    Ok(logits.masked_fill(&hidden, f64::NEG_INFINITY))
}

/// True for each of `outputs` classes that is not among `classes`.
fn hidden_classes(outputs: i64, classes: &[i64]) -> Result<Tensor> {
    if classes.is_empty() {
        return Err(Error::config("classes", "at least one class", "empty"));
    }
    let mut hidden = vec![true; usize::try_from(outputs).unwrap_or(0)];
    for &class in classes {
        match usize::try_from(class).ok().and_then(|c| hidden.get_mut(c)) {
            Some(slot) => *slot = false,
            None => return Err(Error::config("classes", format!("in 0..{outputs}"), class)),
        }
    }
    Ok(Tensor::from_slice(&hidden))
}

/// Binary cross entropy of logits and targets in 0..=1 of the same shape, mean over all elements.
pub fn binary_cross_entropy(logits: &Tensor, target: &Tensor) -> Tensor {
    let target = target.to_kind(logits.kind());
    logits.binary_cross_entropy_with_logits(&target, None::<&Tensor>, None::<&Tensor>, Reduction::Mean)
}

/// Mean squared error of two tensors of the same shape.
pub fn mean_squared_error(output: &Tensor, target: &Tensor) -> Tensor {
    output.mse_loss(target, Reduction::Mean)
}

/// Cross entropy of `logits` `[batch, classes]` and probabilities of the same shape, mean over examples.
///
/// # Errors
///
/// [`Error::Shape`] when the shapes differ.
pub fn soft_cross_entropy(logits: &Tensor, probabilities: &Tensor) -> Result<Tensor> {
    same_shape(logits, probabilities, "probabilities")?;
    Ok(cross_entropy(logits, probabilities, 0.0))
}

/// Distillation: `T²` times the divergence KL(teacher ‖ student) of the softened outputs, mean over examples.
///
/// Hinton et al., *Distilling the Knowledge in a Neural Network*, arXiv 1503.02531. No gradient reaches the teacher.
///
/// # Errors
///
/// [`Error::Shape`] when the logits are not two `[batch, classes]` of the same shape, [`Error::Config`] when
/// `temperature` is not positive and finite.
pub fn distillation(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    check::dims2(student, "student", "[batch, classes]")?;
    same_shape(student, teacher, "teacher")?;
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::config("temperature", "positive and finite", temperature));
    }
    let soften = |logits: &Tensor| (logits / temperature).log_softmax(-1, None);
    let (student, teacher) = (soften(student), soften(&teacher.detach()));
    let divergence = student.kl_div(&teacher, Reduction::Sum, true);
    Ok(divergence * (temperature * temperature / student.size().first().copied().unwrap_or(1).max(1) as f64))
}

fn same_shape(a: &Tensor, b: &Tensor, name: &str) -> Result<()> {
    if a.size() == b.size() {
        return Ok(());
    }
    Err(Error::shape(name, format!("{:?}", a.size()), b.size()))
}

/// What metrics score: the class of the largest logit, `[batch]` or `[batch, height, width]`; the probability of each
/// label, `[batch, labels]`; the numbers themselves.
///
/// # Errors
///
/// [`Error::Shape`] when `output` does not have the shape of the task's kind, [`Error::Config`] for a kind of task
/// without predictions of its own.
pub fn predictions(task: &TaskSpec, output: &Tensor) -> Result<Tensor> {
    let (wanted, _) = shapes(task, output.size().first().copied().unwrap_or(0))?;
    if output.size() != wanted {
        return Err(Error::shape(
            format!("output of task `{}`", task.name),
            format!("{wanted:?}"),
            output.size(),
        ));
    }
    Ok(match task.kind {
        TaskKind::Classification { .. } | TaskKind::DenseClassification { .. } => output.argmax(1, false),
        TaskKind::MultiLabel { .. } => output.sigmoid(),
        _ => output.shallow_clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Seed, rng};

    fn logits(dims: &[i64]) -> Tensor {
        rng::normal(&mut Seed(5).stream("test", 0), dims, 1.0)
    }

    fn value(t: &Tensor) -> f64 {
        t.double_value(&[])
    }

    #[test]
    fn a_mask_is_the_same_as_leaving_the_columns_out() {
        let x = logits(&[3, 5]).set_requires_grad(true);
        let loss = masked_cross_entropy(&x, &Tensor::from_slice(&[1i64, 4, 1]), &[4, 1]).unwrap();
        let kept = x.index_select(1, &Tensor::from_slice(&[1i64, 4]));
        let wanted = cross_entropy(&kept, &Tensor::from_slice(&[0i64, 1, 0]), 0.0);
        assert!((value(&loss) - value(&wanted)).abs() < 1e-6);
        let grads = Tensor::run_backward(&[loss], &[&x], false, false);
        assert_eq!(value(&grads[0].index_select(1, &Tensor::from_slice(&[0i64, 2, 3])).abs().max()), 0.0);
        assert!(value(&grads[0].abs().max()) > 0.0);
    }

    #[test]
    fn a_label_outside_the_mask_is_refused() {
        let (x, target) = (logits(&[2, 3]), Tensor::from_slice(&[1i64, 2]));
        insta::assert_snapshot!(masked_cross_entropy(&x, &target, &[0, 1]).unwrap_err(), @"`target` must be among the classes [0, 1], but is 2");
        insta::assert_snapshot!(masked_cross_entropy(&x, &target, &[0, 3]).unwrap_err(), @"`classes` must be in 0..3, but is 3");
        insta::assert_snapshot!(masked_cross_entropy(&x, &target, &[]).unwrap_err(), @"`classes` must be at least one class, but is empty");
    }

    #[test]
    fn a_dense_loss_is_the_mean_over_positions() {
        let task = TaskSpec::new("map", TaskKind::DenseClassification { classes: 3, height: 2, width: 2 });
        let (x, target) =
            (logits(&[2, 3, 2, 2]), Tensor::from_slice(&[0i64, 1, 2, 0, 2, 2, 1, 0]).view([2, 2, 2]));
        let flat = x.permute([0, 2, 3, 1]).reshape([8, 3]);
        let wanted = cross_entropy(&flat, &target.view([8]), 0.0);
        assert!((value(&task_loss(&task, &x, &target).unwrap()) - value(&wanted)).abs() < 1e-6);
        assert_eq!(predictions(&task, &x).unwrap().size(), [2, 2, 2]);
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        let x = Tensor::from_slice(&[0.0f64, 2.0]).view([1, 2]);
        let labels = TaskSpec::new("labels", TaskKind::MultiLabel { labels: 2 });
        let bce = task_loss(&labels, &x, &Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2])).unwrap();
        assert!((value(&bce) - f64::midpoint(2f64.ln(), 2.0 + (-2f64).exp().ln_1p())).abs() < 1e-9);
        let numbers = TaskSpec::new("numbers", TaskKind::Regression { dims: 2 });
        let mse = task_loss(&numbers, &x, &Tensor::from_slice(&[1.0f64, 0.0]).view([1, 2])).unwrap();
        assert!((value(&mse) - 2.5).abs() < 1e-12);
        let smooth = cross_entropy(&x, &Tensor::from_slice(&[1i64]), 0.2);
        let log_sum = 2.0 + (-2f64).exp().ln_1p();
        assert!((value(&smooth) - (0.9 * (log_sum - 2.0) + 0.1 * log_sum)).abs() < 1e-9);
    }

    #[test]
    fn distillation_vanishes_at_the_teacher_only() {
        let (student, teacher) = (logits(&[4, 3]), logits(&[4, 3]).flip([0]));
        assert!(value(&distillation(&teacher, &teacher, 2.0).unwrap()).abs() < 1e-6);
        let loss = value(&distillation(&student, &teacher, 2.0).unwrap());
        let p = (&teacher / 2.0).softmax(-1, None);
        let entropy = value(&soft_cross_entropy(&(&teacher / 2.0), &p).unwrap());
        let cross = value(&soft_cross_entropy(&(&student / 2.0), &p).unwrap());
        assert!((loss - 4.0 * (cross - entropy)).abs() < 1e-5 && loss > 0.0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let task = TaskSpec::classification("digit", 3);
        let refuse =
            |output: &Tensor, target: &Tensor| task_loss(&task, output, target).unwrap_err().to_string();
        insta::assert_snapshot!(refuse(&logits(&[2, 4]), &Tensor::from_slice(&[0i64, 1])), @"`output of task `digit`` must have shape [2, 3], but has [2, 4]");
        insta::assert_snapshot!(refuse(&logits(&[2, 3]), &Tensor::from_slice(&[0i64])), @"`target of task `digit`` must have shape [2], but has [1]");
        insta::assert_snapshot!(refuse(&logits(&[2, 3]), &Tensor::from_slice(&[0i64, 3])), @"`target of task `digit`` must be in 0..3, but is 3");
        let ranking = TaskSpec::new("rank", TaskKind::Ranking);
        insta::assert_snapshot!(predictions(&ranking, &logits(&[2, 3])).unwrap_err(), @"`kind of task `rank`` must be one with a loss of its own, but is Ranking");
    }
}
