//! `mtl-merge` with a method of one's own: every command knows it, and a recipe names it like the others.
//!
//! `cargo run -p mtl-merge --example own_method -- run recipe.yml merged/` with `merge_method: loudest` in `recipe.yml`.
use mtl_merge::{
    Kernel, MergeMethod, MethodSpec, Methods, ParamSpec, Preset, Resolved, Result, Tensor, params::FINITE,
};

/// Takes each weight from the model where it is largest, up to a factor of that model's own.
#[derive(Debug)]
struct Loudest;

static SPEC: MethodSpec = MethodSpec::new("loudest", "none", "this example").params(&[ParamSpec::per_model(
    "gain",
    Preset::Number(1.0),
    FINITE,
    "factor of the model's weights",
)]);

impl MergeMethod for Loudest {
    fn spec(&self) -> &'static MethodSpec {
        &SPEC
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>> {
        let gains = params.per_model("gain")?;
        Ok(Box::new(move |piece, out| {
            for (i, out) in out.iter_mut().enumerate() {
                let values = piece.models.iter().zip(gains).map(|(model, gain)| gain * model[i]);
                *out = values.fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            }
        }))
    }
}

fn main() -> std::process::ExitCode {
    mtl_merge::cli::main(Methods::default().with(&Loudest))
}
