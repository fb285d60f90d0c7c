//! Takes keys out that recipes do not have, so that what remains can be read strictly.
use super::{
    node::{Node, Value},
    origin::Unknown,
};

/// What may stand at one place of a recipe.
enum Shape {
    /// Anything: the type behind it reads it, and methods know their parameters.
    Any,
    /// A mapping with these keys.
    Map(&'static [(&'static str, Shape)]),
    /// A list of one shape.
    List(&'static Shape),
    /// A mapping from free names to one shape.
    Named(&'static Shape),
}

const MODEL: Shape = Shape::Map(&[("model", Shape::Any), ("parameters", Shape::Any)]);
const SOURCE: Shape =
    Shape::Map(&[("model", Shape::Any), ("layer_range", Shape::Any), ("parameters", Shape::Any)]);
const SLICE: Shape =
    Shape::Map(&[("base_model", Shape::Any), ("sources", Shape::List(&SOURCE)), ("parameters", Shape::Any)]);
const MODULE: Shape = Shape::Map(&[
    ("models", Shape::List(&MODEL)),
    ("slices", Shape::List(&SLICE)),
    ("parameters", Shape::Any),
]);
const RECIPE: Shape = Shape::Map(&[
    ("name", Shape::Any),
    ("merge_method", Shape::Any),
    ("base_model", Shape::Any),
    ("models", Shape::List(&MODEL)),
    ("slices", Shape::List(&SLICE)),
    ("modules", Shape::Named(&MODULE)),
    ("parameters", Shape::Any),
    ("dtype", Shape::Any),
    ("out_dtype", Shape::Any),
    ("tokenizer", Shape::Any),
    ("tokenizer_source", Shape::Any),
    ("chat_template", Shape::Any),
    ("seed", Shape::Any),
]);

/// Removes unknown keys and keys without a value; returns the unknown ones.
pub(super) fn sift(root: &mut Node) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    walk(root, &RECIPE, "", &mut unknown);
    unknown
}

fn walk(node: &mut Node, shape: &Shape, path: &str, unknown: &mut Vec<Unknown>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (&mut node.value, shape) {
        (Value::Map(entries), Shape::Map(known)) => {
            entries.retain(|(key, value)| {
                if known.iter().any(|(name, _)| name == key) {
                    return value.value != Value::Null; // `parameters:` with nothing behind it.
                }
                let similar = mtl_core::registry::nearest(key, known.iter().map(|(name, _)| *name));
                unknown.push(Unknown {
                    path: under(key),
                    key: key.clone(),
                    similar: similar.map(str::to_owned),
                });
                false
            });
            for (key, value) in entries {
                if let Some((_, shape)) = known.iter().find(|(name, _)| name == key) {
                    walk(value, shape, &under(key), unknown);
                }
            }
        }
        (Value::Map(entries), Shape::Named(inner)) => {
            entries.iter_mut().for_each(|(key, value)| walk(value, inner, &under(key), unknown));
        }
        (Value::List(items), Shape::List(inner)) => {
            let items = items.iter_mut().enumerate();
            items.for_each(|(i, item)| walk(item, inner, &format!("{path}[{i}]"), unknown));
        }
        _ => {}
    }
}
