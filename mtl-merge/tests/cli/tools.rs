use super::{INPUTS, Lab};
use insta::assert_snapshot;

#[test]
fn inspect_lists_the_tensors_of_a_model() {
    let lab = Lab::new();
    lab.model("m.safetensors", &[3.0, -4.0, 0.0, f32::NAN]);
    assert_snapshot!(lab.run("inspect m.safetensors").expect(0).out, @"");
    assert_snapshot!(lab.run("inspect m.safetensors --csv").expect(0).out, @"");
    let json = lab.run(&format!("inspect {INPUTS}/bf16/base --json")).expect(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json[0]["dtypes"]["BF16"].as_u64(), json[0]["non_finite"].as_u64()), (Some(40224), Some(0)));
    assert_eq!(lab.run("inspect nowhere").expect(2).out, "");
}

#[test]
fn inspect_relates_task_vectors() {
    let lab = Lab::new();
    lab.model("base", &[0.0; 4]).model("a", &[3.0, 4.0, 0.0, 0.0]).model("b", &[-3.0, 4.0, 0.0, 0.0]);
    let answer = lab.run("inspect a b --base base").expect(0);
    assert_snapshot!(answer.out, @"");
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
    assert_snapshot!(lab.run("diff a b").expect(1).out, @"");
    assert_snapshot!(lab.run("diff a c").expect(1).out, @"");
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
