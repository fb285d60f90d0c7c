//! Recipes that must be refused before anything is written, with a message that names place and cause.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use mtl_merge::{
    Base, Engine, Error, Kernel, MergeMethod, MethodSpec, Methods, ParamSpec, Preset, Recipe, Resolved,
    Result, Tensor,
    params::{FINITE, SHARE},
};
use std::{fs, path::Path};

/// The needs of a method and nothing behind them, where this crate has no method of that name.
#[derive(Debug)]
struct Stub(&'static MethodSpec);

impl MergeMethod for Stub {
    fn spec(&self) -> &'static MethodSpec {
        self.0
    }

    fn check(&self, params: &Resolved) -> Result<()> {
        if self.0.has("epsilon") && params.per_model("density")?[0] + params.per_model("epsilon")?[0] >= 1.0 {
            let must = "below 1 - density".to_owned();
            return Err(Error::Parameter { path: "epsilon".into(), must, found: "0.15".into() });
        }
        Ok(())
    }

    fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, _params: &'t Resolved) -> Result<Kernel<'t>> {
        Ok(Box::new(|_, _| {}))
    }
}

const WEIGHT: ParamSpec = ParamSpec::per_model("weight", Preset::Required, FINITE, "weight");
const DENSITY: ParamSpec = ParamSpec::per_model("density", Preset::Number(1.0), SHARE, "density");
const EPSILON: ParamSpec = ParamSpec::per_model("epsilon", Preset::Number(0.15), FINITE, "epsilon");
static TIES: MethodSpec =
    MethodSpec::new("ties", "", "").base(Base::Required).models(0, None).params(&[WEIGHT, DENSITY]);
static DELLA: MethodSpec =
    MethodSpec::new("della", "", "").base(Base::Required).models(0, None).params(&[WEIGHT, DENSITY, EPSILON]);
static SLERP: MethodSpec = MethodSpec::new("slerp", "", "")
    .base(Base::Required)
    .models(1, Some(1))
    .params(&[ParamSpec::number("t", Preset::Required, FINITE, "t")]);
static STUBS: [Stub; 3] = [Stub(&TIES), Stub(&DELLA), Stub(&SLERP)];

fn methods() -> Methods {
    STUBS.iter().fold(Methods::default(), |methods, stub| match methods.get(stub.0.info.name) {
        Ok(_) => methods,
        Err(_) => methods.with(stub),
    })
}

/// The message for one of the golden cases, with paths as the case has them.
fn refusal(case: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = fs::read_to_string(golden.join(format!("errors/{case}.yml"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("{case}.yml"));
    fs::write(&file, text.replace("inputs/", &format!("{}/inputs/", golden.display()))).unwrap();
    let engine = Engine::default().methods(methods());
    let error = Recipe::from_path(&file).and_then(|recipe| engine.check(&recipe)).unwrap_err().to_string();
    error.replace(&format!("{}/", golden.display()), "").replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn every_golden_error_names_place_and_cause() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors/errors.json");
    let cases: serde_json::Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let names = cases.as_array().unwrap().iter().filter_map(|case| case["name"].as_str());
    let refusals: Vec<String> = names.filter(|name| *name != "della_epsilon").map(refusal).collect();
    assert_eq!(refusals.len(), 14);
    insta::assert_snapshot!(refusals.join("\n"), @"");
    let della = refusal("della_epsilon"); // The method's own words.
    assert!(della.contains("epsilon") && della.contains("density"), "{della}");
}

#[test]
fn strict_engines_refuse_what_others_remark_on() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inputs/f32");
    let text = format!(
        "merge_method: linear\nmodels:\n  - model: {}\n    parameters:\n      weight: 1\n      int8_mask: true\ngradient_clipping: 1\n",
        golden.join("ft1").display()
    );
    let recipe = Recipe::from_yaml(&text).unwrap();
    let report = Engine::default().check(&recipe).unwrap();
    insta::assert_snapshot!(report.warnings.join("\n"), @"");
    insta::assert_snapshot!(Engine::default().strict(true).check(&recipe).unwrap_err(), @"");
}
