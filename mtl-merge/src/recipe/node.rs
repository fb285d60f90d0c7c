//! Values with the lines they stand on, read from YAML (of which JSON is a subset) or TOML.
use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};
use std::fmt;

/// A value and its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Counted from 1; for entries of a mapping the line of the key.
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Longest recipe that is read, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Limits that published recipes stay a hundred times below and hostile ones exceed at once.
fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_nodes: 50_000,
        max_events: 150_000,
        max_depth: 64,
        max_documents: 256,
        max_anchors: 1_000,
        max_aliases: 1_000,
        max_merge_keys: 1_000,
        enforce_alias_anchor_ratio: false, // Generated recipes repeat one anchor for every layer.
        max_total_scalar_bytes: MAX_BYTES,
    };
    let alias_limits = serde_saphyr::alias_limits! {
        max_total_replayed_events: 20_000,
        max_replay_stack_depth: 16,
    };
    serde_saphyr::options! {
        budget: budget,
        alias_limits: alias_limits,
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true, // `y` may be a model's name.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough, // Refused by name later.
    }
}

/// The documents of a YAML text that are not empty.
///
/// # Errors
///
/// What is wrong, with line, column and an excerpt.
pub(super) fn yaml(text: &str) -> Result<Vec<Node>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("a recipe has at most {MAX_BYTES} bytes, but this has {}", text.len()));
    }
    let documents: Vec<Spanned<Raw>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| explain(&e))?;
    let nodes = documents.into_iter().map(|document| node(document, 0));
    Ok(nodes.filter(|node| node.value != Value::Null).collect())
}

/// Line, column and excerpt, without the reader's own advice.
fn explain(error: &serde_saphyr::Error) -> String {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

/// A TOML text.
///
/// # Errors
///
/// What is wrong, with line, column and an excerpt.
pub(super) fn toml(text: &str) -> Result<Node, String> {
    let table = toml::de::DeTable::parse(text).map_err(|e| e.to_string())?;
    Ok(Node { line: 1, value: toml_table(table.get_ref(), text)? })
}

fn toml_table(table: &toml::de::DeTable<'_>, text: &str) -> Result<Value, String> {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<_>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        let node = Node { line: line_at(text, key.span().start), value: toml_value(value, text)? };
        Ok((key.get_ref().to_string(), node))
    };
    Ok(Value::Map(table.iter().map(entry).collect::<Result<_, String>>()?))
}

fn toml_value(value: &toml::Spanned<toml::de::DeValue<'_>>, text: &str) -> Result<Value, String> {
    use toml::de::DeValue;
    let line = line_at(text, value.span().start);
    let complain = |what: &str| format!("line {line}: {what}");
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Integer(integer) => {
            let read = i64::from_str_radix(integer.as_str(), integer.radix());
            let whole = read.map_err(|_| complain("the integer does not fit 64 bits"))?;
            u64::try_from(whole).map_or(Value::Signed(whole), Value::Unsigned)
        }
        DeValue::Float(float) => {
            Value::Float(float.as_str().parse().map_err(|_| complain("this is no number"))?)
        }
        DeValue::Datetime(date) => Value::Text(date.to_string()),
        DeValue::Array(items) => {
            let item = |item| {
                let item: &toml::Spanned<DeValue<'_>> = item;
                Ok(Node { line: line_at(text, item.span().start), value: toml_value(item, text)? })
            };
            Value::List(items.iter().map(item).collect::<Result<_, String>>()?)
        }
        DeValue::Table(table) => toml_table(table, text)?,
    })
}

fn line_at(text: &str, byte: usize) -> usize {
    1 + text.as_bytes().iter().take(byte).filter(|&&b| b == b'\n').count()
}

/// A value as `serde-saphyr` hands it over.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

/// Takes the line where the value is written, not where an alias or a merge key repeats it.
fn node(raw: Spanned<Raw>, line: usize) -> Node {
    let own = usize::try_from(raw.defined.line()).unwrap_or_default();
    let line = if line == 0 { own } else { line };
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, 0)).collect()),
        Raw::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                let line = usize::try_from(key.defined.line()).unwrap_or_default();
                (key.value, node(value, line))
            };
            Value::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { line, value }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a recipe's value")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Flag(flag)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Unsigned(number)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
                Ok(Raw::Scalar(u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Float(number)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Text(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Raw::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Raw::Map(map))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The error type only carries a message.
impl<'de> Deserializer<'de> for Node {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Flag(flag) => visitor.visit_bool(flag),
            Value::Unsigned(number) => visitor.visit_u64(number),
            Value::Signed(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Text(text) => visitor.visit_string(text),
            Value::List(items) => {
                let mut items = SeqDeserializer::new(items.into_iter());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Map(entries) => {
                let mut entries = MapDeserializer::new(entries.into_iter());
                let value = visitor.visit_map(&mut entries)?;
                entries.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Text(text) => visitor.visit_enum(text.into_deserializer()),
            _ => Err(Self::Error::invalid_type(Unexpected::Other("no text"), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(node: &Node) -> Vec<(String, usize)> {
        match &node.value {
            Value::Map(entries) => entries
                .iter()
                .flat_map(|(key, node)| [vec![(key.clone(), node.line)], lines(node)].concat())
                .collect(),
            Value::List(items) => items
                .iter()
                .flat_map(|node| [vec![("-".to_owned(), node.line)], lines(node)].concat())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn named(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
        pairs.iter().map(|&(name, line)| (name.to_owned(), line)).collect()
    }

    #[test]
    fn keys_and_items_know_their_lines() {
        let node = yaml("# comment\na: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n").unwrap().remove(0);
        let expected = named(&[("a", 2), ("b", 3), ("-", 4), ("-", 5), ("c", 5), ("d", 6)]);
        assert_eq!(lines(&node), expected);
        let node = toml("a = 1\n\n[[b]]\nc = 2\n[[b]]\nc = 3\nd = [1,\n 2]\n").unwrap();
        let expected = named(&[
            ("a", 1),
            ("b", 3),
            ("-", 3),
            ("c", 4),
            ("-", 5),
            ("c", 6),
            ("d", 7),
            ("-", 7),
            ("-", 8),
        ]);
        assert_eq!(lines(&node), expected);
    }

    #[test]
    fn aliases_and_merge_keys_count_where_they_are_written() {
        let text = "base: &b\n  w: 1\n  d: 2\nuse:\n  <<: *b\n  w: 3\n";
        let node = yaml(text).unwrap().remove(0);
        let mut found = lines(&node);
        found.sort();
        assert_eq!(found, named(&[("base", 1), ("d", 3), ("d", 3), ("use", 4), ("w", 2), ("w", 6)]));
    }

    #[test]
    fn documents_are_told_apart_and_empty_ones_dropped() {
        let nodes = yaml("---\na: 1\n---\n---\nb: 2\n").unwrap();
        assert_eq!(nodes.iter().map(|n| n.line).collect::<Vec<_>>(), [2, 5]);
    }

    #[test]
    fn hostile_texts_are_refused_fast() {
        let started = std::time::Instant::now();
        let bomb = |levels: usize| {
            let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
            for i in 1..levels {
                let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
                text += &format!("a{i}: &a{i} [{aliases}]\n");
            }
            text
        };
        let nested = format!("a: {}", "[".repeat(40_000));
        let maps = format!("a: {}", "{a: ".repeat(40_000));
        let deep: String = (0..1_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        let wide = format!("a: [{}]", "1,".repeat(400_000));
        for text in [bomb(9), bomb(40), nested, maps, deep, wide, "x".repeat(MAX_BYTES + 1)] {
            let message = yaml(&text).unwrap_err();
            assert!(!message.is_empty() && message.len() < 4_000, "{message}");
        }
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    #[test]
    fn repeated_keys_and_broken_texts_are_shown_with_their_line() {
        let message = yaml("a: 1\nb: 2\na: 3\n").unwrap_err();
        insta::assert_snapshot!(message, @r#"
line 3 column 1: duplicate mapping key `a` is not allowed here
 --> <input>:3:1
  |
1 | a: 1
2 | b: 2
3 | a: 3
  | ^ duplicate mapping key `a` is not allowed here
"#);
        let message = yaml("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        insta::assert_snapshot!(message, @r#"
line 3 column 2: illegal placement of ':' indicator
 --> <input>:3:2
  |
1 | a: 1
2 | b: [1, 2
3 | c: 3
  |  ^ illegal placement of ':' indicator
"#);
        let message = toml("a = 1\nb = [\n").unwrap_err();
        insta::assert_snapshot!(message, @r#"
TOML parse error at line 2, column 6
  |
2 | b = [
  |      ^
unclosed array, expected `]`
"#);
    }
}
