use super::{INPUTS, Lab};
use insta::assert_snapshot;

#[test]
fn inspect_lists_the_tensors_of_a_model() {
    let lab = Lab::new();
    lab.model("m.safetensors", &[3.0, -4.0, 0.0, f32::NAN]);
    assert_snapshot!(lab.run("inspect m.safetensors").expect(0).out, @"
    m.safetensors: 1 tensors, 4 elements (4 F32), 16 B, norm 5.000, 1 values NaN or infinite

    tensor      type  shape  bytes   norm     mean    std     min    max  zeros  non-finite
    layers.0.w  F32       4     16  5.000  -0.3333  2.867  -4.000  3.000      1           1
    ");
    assert_snapshot!(lab.run("inspect m.safetensors --csv").expect(0).out, @"
    model,tensor,dtype,shape,elements,bytes,norm,mean,std,min,max,zeros,non-finite
    m.safetensors,layers.0.w,F32,4,4,16,5,-0.3333333333333333,2.8674417556808756,-4,3,1,1
    ");
    let json = lab.run(&format!("inspect {INPUTS}/bf16/base --json")).expect(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json[0]["dtypes"]["BF16"].as_u64(), json[0]["non_finite"].as_u64()), (Some(84288), Some(0)));
    assert_eq!(lab.run("inspect nowhere").expect(2).out, "");
}

#[test]
fn inspect_relates_task_vectors() {
    let lab = Lab::new();
    lab.model("base", &[0.0; 4]).model("a", &[3.0, 4.0, 0.0, 0.0]).model("b", &[-3.0, 4.0, 0.0, 0.0]);
    let answer = lab.run("inspect a b --base base").expect(0);
    assert_snapshot!(answer.out, @"
    Task vectors τ of 2 models against `base`, norm 0, 4 elements

    model    ‖τ‖  ‖τ‖/‖base‖
    a      5.000  -
    b      5.000  -

    Cosine of the angles between task vectors
            a       b
    a  1.0000  0.2800
    b  0.2800  1.0000

    Share of opposite signs where both task vectors are non-zero
            a       b
    a  0.0000  0.5000
    b  0.5000  0.0000

    50.00 % of the changed elements are pushed in opposite directions by some models

    Norms of task vectors by part of the model
    part      base      a      b
    layers.0     0  5.000  5.000
    ");
    let csv = lab.run("inspect a b --base base --csv").expect(0).out;
    assert_snapshot!(csv, @"
    part,base,a,b
    layers.0,0,5,5
    ");
}

#[test]
fn inspect_plots_are_pictures() {
    let lab = Lab::new();
    let models: Vec<String> = (1..=3).map(|i| format!("{INPUTS}/f32/ft{i}")).collect();
    let words = format!("inspect {} --base {INPUTS}/f32/base --plots plots", models.join(" "));
    lab.run(&words).expect(0);
    for name in ["cosine", "sign-conflict", "norms"] {
        let svg = std::fs::read_to_string(lab.path(&format!("plots/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("ft2"), "{name}");
        let png = std::fs::read(lab.path(&format!("plots/{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 4000, "{name}: {}", png.len());
    }
}

#[test]
fn diff_tells_equal_different_and_unreadable_apart() {
    let lab = Lab::new();
    lab.model("a", &[1.0, 2.0, 4.0]).model("b", &[1.0, 2.0, 4.5]).model("c", &[1.0]);
    lab.run("diff a a").expect(0);
    assert_snapshot!(lab.run("diff a b").expect(1).out, @"
    tensor      type  different  of  max |a-b|  max rel.  rel. norm  1 - cosine  max ulp  at
    layers.0.w  F32           1   3     0.5000    0.1111    0.09950    0.001179  1048576   2
    different: 1 tensors compared, 0 identical, 0 in one only, 0 of other shape or type
    ");
    assert_snapshot!(lab.run("diff a c").expect(1).out, @"
    layers.0.w: F32 [3] in `a`, F32 [1] in `c`
    different: 0 tensors compared, 0 identical, 0 in one only, 1 of other shape or type
    ");
    lab.run("diff a b --atol 0.5").expect(0);
    lab.run("diff a b --rtol 0.1").expect(1);
    lab.run("diff a nowhere").expect(2);
    lab.run("diff a b --rtol -1").expect(2);
    let json: serde_json::Value = serde_json::from_str(&lab.run("diff a b --json").expect(1).out).unwrap();
    assert_eq!(json["tensors"][0]["max_ulp"], 1 << 20);
    // A folder with shards, its index, and itself.
    let index = format!("{INPUTS}/bf16/base/model.safetensors.index.json");
    lab.run(&format!("diff {INPUTS}/bf16/base {index} --quiet")).expect(0);
}
