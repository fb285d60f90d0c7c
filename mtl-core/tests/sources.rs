//! Parameter sources driving models: mixtures, low-rank updates, overlays and slices, and what gradients they pass on.
#![cfg(feature = "torch")]
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::{
    Context, Input, Model, ParamSource, Seed, StateDict,
    models::{Mlp, VitClassifier, VitConfig},
    rng,
    source::{Granularity, LoraConfig, Mixture, Overlay, Slice},
};
use tch::{Kind, Tensor};

fn normal(seed: u64, dims: &[i64]) -> Tensor {
    rng::normal(&mut Seed(seed).stream("test", 0), dims, 1.0)
}

/// Two small models with an input for each.
fn models() -> Vec<(Box<dyn Model>, Tensor)> {
    let vit = VitConfig::default().image(1, 8, 4).size(8, 2, 2).build().unwrap();
    vec![
        (Box::new(Mlp::new(&[6, 5, 3]).unwrap()), normal(1, &[4, 6])),
        (Box::new(VitClassifier::new(vit, 3).unwrap()), normal(2, &[4, 1, 8, 8])),
    ]
}

fn double(dict: &StateDict) -> StateDict {
    dict.map(|t| t.to_kind(Kind::Double))
}

fn loss(model: &dyn Model, params: &dyn ParamSource, x: &Tensor) -> Tensor {
    let y = model.forward(params, &Input::from(x.shallow_clone()), &Context::eval()).unwrap();
    let wave = Tensor::arange(y.numel() as i64, (y.kind(), y.device())).sin().view_as(&y);
    (y * wave).exp().sum(None)
}

/// A mixture in `f64` of two task vectors, all coefficients different.
fn mixture(model: &dyn Model, granularity: Granularity) -> Mixture {
    let init = |seed| double(&model.init(Seed(seed)).unwrap());
    let base = init(0);
    let vectors = [1, 2].map(|seed| init(seed).task_vector(&base).unwrap()).into();
    let mut mixture = Mixture::new(base, vectors, granularity, 0.3).unwrap();
    let jitter = normal(7, &mixture.coefficients().size()).to_kind(Kind::Double) * 0.1 + 0.3;
    mixture.set_coefficients(jitter.set_requires_grad(true)).unwrap();
    mixture
}

#[test]
fn gradients_of_mixture_coefficients_are_those_of_finite_differences() {
    for (model, x) in models() {
        let x = x.to_kind(Kind::Double);
        for granularity in [Granularity::TaskWise, Granularity::LayerWise] {
            let mut mixture = mixture(&*model, granularity);
            let lambda = mixture.coefficients().shallow_clone();
            let grad = &Tensor::run_backward(&[loss(&*model, &mixture, &x)], &[&lambda], false, false)[0];
            let (lambda, grad) = (lambda.detach(), grad.flatten(0, -1));
            let h = 1e-6;
            for i in 0..grad.numel() as i64 {
                let mut at = |shift: f64| {
                    let moved = lambda.copy();
                    let _ = moved.view(-1).get(i).g_add_scalar_(shift);
                    mixture.set_coefficients(moved).unwrap();
                    loss(&*model, &mixture, &x).double_value(&[])
                };
                let wanted = (at(h) - at(-h)) / (2.0 * h);
                let found = grad.double_value(&[i]);
                // Central differences in f64 are good to about h² and 1e-16 / h.
                assert!((found - wanted).abs() < 1e-6 * (1.0 + wanted.abs()), "{i}: {found} is not {wanted}");
            }
            assert!(grad.norm().double_value(&[]) > 1e-3);
        }
    }
}

#[test]
fn a_mixture_with_one_coefficient_at_one_is_that_model() {
    for (model, x) in models() {
        let (base, tuned) = (model.init(Seed(0)).unwrap(), model.init(Seed(1)).unwrap());
        let vectors = vec![tuned.task_vector(&base).unwrap()];
        let mixture = Mixture::new(base, vectors, Granularity::TaskWise, 1.0).unwrap();
        let (a, b) = (loss(&*model, &mixture, &x), loss(&*model, &tuned, &x));
        assert!((&a - &b).abs().double_value(&[]) < 1e-4 * b.double_value(&[]));
        assert_eq!(mixture.names(), ParamSource::names(&tuned));
        let merged = loss(&*model, &mixture.merged().unwrap(), &x);
        assert!((a - merged).abs().double_value(&[]) < 1e-4);
    }
}

/// Every linear map of `params`.
fn sites(params: &StateDict) -> Vec<&str> {
    params.iter().filter(|(_, t)| t.dim() == 2).filter_map(|(n, _)| n.strip_suffix(".weight")).collect()
}

#[test]
fn low_rank_updates_get_the_gradients_of_the_weight_they_change() {
    let config = LoraConfig::default().rank(2).alpha(3.0);
    for (model, x) in models() {
        let base = model.init(Seed(0)).unwrap();
        let mut adapters = config.init(&base, &sites(&base), Seed(1)).unwrap();
        let unchanged = loss(&*model, &config.build(&base, &adapters).unwrap(), &x);
        assert!((&unchanged - loss(&*model, &base, &x)).abs().double_value(&[]) < 1e-4);

        for (i, (name, tensor)) in adapters.iter_mut().enumerate() {
            if name.ends_with("lora_B") {
                *tensor = (normal(i as u64, &tensor.size()) * 0.3).set_requires_grad(true);
            }
        }
        let lora = config.build(&base, &adapters).unwrap();
        let grads = adapters.gradients(&loss(&*model, &lora, &x), false).unwrap();
        let mut dense = StateDict::new();
        for name in lora.names() {
            dense.insert(&name, lora.param(&name).unwrap().detach().set_requires_grad(true));
        }
        let dense_grads = dense.gradients(&loss(&*model, &dense, &x), false).unwrap();
        for site in sites(&base) {
            let of = |part: &str| format!("{site}.{part}");
            let weight = dense_grads.get(&of("weight")).unwrap() * 1.5; // α / r
            let (a, b) = (adapters.get(&of("lora_A")).unwrap(), adapters.get(&of("lora_B")).unwrap());
            for (part, wanted) in [("lora_A", b.tr().matmul(&weight)), ("lora_B", weight.matmul(&a.tr()))] {
                let found = grads.get(&of(part)).unwrap();
                let (error, size) =
                    ((found - &wanted).norm().double_value(&[]), wanted.norm().double_value(&[]));
                assert!(size > 0.0 && error < 1e-3 * size, "{site}.{part}: {error} of {size}");
            }
        }
    }
}

#[test]
fn sources_nest_and_gradients_pass_through_all_of_them() {
    for (model, x) in models() {
        let x = x.to_kind(Kind::Double);
        let mixture = mixture(&*model, Granularity::LayerWise);
        let base = mixture.merged().unwrap();
        let site = sites(&base)[0];
        let config = LoraConfig::default().rank(1);
        let adapters = double(&config.init(&base, &[site], Seed(1)).unwrap()).trainable();
        let lora = config.build(&mixture, &adapters).unwrap();
        let bias = base.names().find(|n| n.ends_with(".bias")).unwrap().to_owned();
        let top = StateDict::from_iter([(bias.clone(), base.get(&bias).unwrap().copy() + 1.0)]).trainable();
        let params = Overlay::new(Box::new(lora), &top);
        let loss = loss(&*model, &params, &x);
        let b = adapters.get(&format!("{site}.lora_B")).unwrap();
        for grad in
            Tensor::run_backward(&[loss], &[mixture.coefficients(), b, top.get(&bias).unwrap()], false, false)
        {
            assert!(grad.norm().double_value(&[]) > 0.0);
        }
    }
}

#[test]
fn an_overlay_keeps_the_low_rank_update_of_what_it_does_not_cover() {
    let base = StateDict::from_iter([("fc.weight".to_owned(), normal(1, &[3, 2]))]);
    let config = LoraConfig::default().rank(1);
    let mut adapters = config.init(&base, &["fc"], Seed(0)).unwrap();
    adapters.insert("fc.lora_B", normal(2, &[3, 1]));
    let x = normal(3, &[4, 2]);
    let lora = config.build(&base, &adapters).unwrap();
    let (plain, full) = (base.linear("fc", &x).unwrap(), lora.linear("fc", &x).unwrap());
    assert!((&full - &plain).norm().double_value(&[]) > 0.1);
    let by_weight = x.linear(&lora.param("fc.weight").unwrap(), None::<&Tensor>);
    assert!((&full - by_weight).abs().max().double_value(&[]) < 1e-5);
    let prompt = StateDict::from_iter([("prompt".to_owned(), normal(4, &[2]))]);
    assert_eq!(Overlay::new(&lora, &prompt).linear("fc", &x).unwrap(), full);
    let bias = StateDict::from_iter([("fc.bias".to_owned(), normal(4, &[3]))]);
    let moved = Overlay::new(&lora, &bias).linear("fc", &x).unwrap();
    assert!((moved - full - bias.get("fc.bias").unwrap()).abs().max().double_value(&[]) < 1e-5);
}

#[test]
fn a_slice_is_the_narrow_network_inside_the_wide_one() {
    let (wide, narrow) = (Mlp::new(&[6, 5, 3]).unwrap(), Mlp::new(&[6, 2, 3]).unwrap());
    let params = wide.init(Seed(0)).unwrap().trainable();
    let sizes = narrow.init(Seed(0)).unwrap();
    let sizes = sizes.iter().map(|(name, t)| (name.to_owned(), t.size())).collect();
    let slice = Slice::new(&params, sizes).unwrap();
    let mut cut = StateDict::new();
    for name in slice.names() {
        cut.insert(&name, slice.param(&name).unwrap().detach().copy());
    }
    cut.same_layout(&narrow.init(Seed(0)).unwrap(), "slice").unwrap();
    let x = normal(1, &[4, 6]);
    let sliced = loss(&wide, &slice, &x);
    assert!((&sliced - loss(&narrow, &cut, &x)).abs().double_value(&[]) < 1e-5);
    let grads = params.gradients(&sliced, false).unwrap();
    let rows = grads.get("fc0.weight").unwrap();
    assert!(rows.narrow(0, 0, 2).norm().double_value(&[]) > 0.0);
    assert_eq!(rows.narrow(0, 2, 3).norm().double_value(&[]), 0.0);
    let err = Slice::new(&params, [("fc0.bias".to_owned(), vec![6])].into()).unwrap_err();
    insta::assert_snapshot!(err, @"`slice of fc0.bias` must have shape at most [5], but has [6]");
}

#[test]
fn sources_that_do_not_fit_are_refused() {
    let base = Mlp::new(&[3, 2]).unwrap().init(Seed(0)).unwrap();
    let other = Mlp::new(&[4, 2]).unwrap().init(Seed(0)).unwrap();
    let zero = || base.task_vector(&base).unwrap();
    let wrong = Mixture::new(other, vec![zero()], Granularity::TaskWise, 0.0).unwrap_err();
    insta::assert_snapshot!(wrong, @"parameters of `task vector 0` do not fit: `fc0.weight` has shape [2, 3], expected [2, 4]");
    let none = Mixture::new(base.shallow(), vec![], Granularity::TaskWise, 0.0).unwrap_err();
    insta::assert_snapshot!(none, @"`vectors` must be at least one task vector, but is empty");
    let mut mixture = Mixture::new(base.shallow(), vec![zero()], Granularity::LayerWise, 0.0).unwrap();
    let shape = mixture.set_coefficients(normal(0, &[2])).unwrap_err();
    insta::assert_snapshot!(shape, @"`coefficients` must have shape [2, 1], but has [2]");
    let site = LoraConfig::default().init(&base, &["fc1"], Seed(0)).unwrap_err();
    insta::assert_snapshot!(site, @"unknown parameter `fc1.weight`; did you mean `fc0.weight`?");
    let rank = LoraConfig::default().rank(0).init(&base, &["fc0"], Seed(0)).unwrap_err();
    insta::assert_snapshot!(rank, @"`rank` must be at least 1, but is 0");
    let input = base.linear("fc0", &normal(0, &[2, 2])).unwrap_err();
    insta::assert_snapshot!(input, @"`input of fc0` must have shape […, 3], but has [2, 2]");
}
