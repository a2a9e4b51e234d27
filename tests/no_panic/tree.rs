//! Damage to what a text means: fields that are missing, doubled, renamed or of another type. The text stays one that
//! parses, so that it comes past the syntax.

use serde_json::Value;

use super::random::Random;
use super::text::NASTY;

/// A value as written: fields may be there twice, numbers be none.
#[derive(Debug, Clone)]
pub enum Tree {
    /// A literal.
    Leaf(String),
    /// `[...]`
    List(Vec<Tree>),
    /// `{...}`
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The tree of a valid value.
    pub fn of(value: &Value) -> Tree {
        match value {
            Value::Array(items) => Tree::List(items.iter().map(Tree::of).collect()),
            Value::Object(fields) => {
                Tree::Object(fields.iter().map(|(name, value)| (name.clone(), Tree::of(value))).collect())
            }
            leaf => Tree::Leaf(leaf.to_string()),
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        self.written(": ")
    }

    /// As TOML: a line for each field, everything below inline.
    pub fn toml(&self) -> String {
        let Tree::Object(fields) = self else { return self.written(" = ") };
        fields.iter().map(|(name, value)| format!("{} = {}\n", quoted(name), value.written(" = "))).collect()
    }

    fn written(&self, between: &str) -> String {
        match self {
            Tree::Leaf(text) => text.clone(),
            Tree::List(items) => {
                format!("[{}]", items.iter().map(|item| item.written(between)).collect::<Vec<_>>().join(", "))
            }
            Tree::Object(fields) => {
                let field = |(name, value): &(String, Tree)| {
                    format!("{}{between}{}", quoted(name), value.written(between))
                };
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// After one to three kinds of damage.
    pub fn damaged(&self, random: &mut Random) -> Tree {
        let mut tree = self.clone();
        for _ in 0..=random.below(3) {
            let other = tree.any(random).clone();
            let count = tree.count();
            let node = tree.at_mut(&mut random.below(count)).expect("counted");
            damage(node, other, random);
        }
        tree
    }

    fn any(&self, random: &mut Random) -> &Tree {
        self.at(&mut random.below(self.count())).expect("counted")
    }

    fn count(&self) -> usize {
        1 + match self {
            Tree::Leaf(_) => 0,
            Tree::List(items) => items.iter().map(Tree::count).sum(),
            Tree::Object(fields) => fields.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    /// The node that is reached after so many others.
    fn at(&self, others: &mut usize) -> Option<&Tree> {
        if *others == 0 {
            return Some(self);
        }
        *others -= 1;
        match self {
            Tree::Leaf(_) => None,
            Tree::List(items) => items.iter().find_map(|item| item.at(others)),
            Tree::Object(fields) => fields.iter().find_map(|(_, value)| value.at(others)),
        }
    }

    fn at_mut(&mut self, others: &mut usize) -> Option<&mut Tree> {
        if *others == 0 {
            return Some(self);
        }
        *others -= 1;
        match self {
            Tree::Leaf(_) => None,
            Tree::List(items) => items.iter_mut().find_map(|item| item.at_mut(others)),
            Tree::Object(fields) => fields.iter_mut().find_map(|(_, value)| value.at_mut(others)),
        }
    }
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

/// Damages one node; `other` is a copy of some node of the same tree.
fn damage(node: &mut Tree, other: Tree, random: &mut Random) {
    let nasty = |random: &mut Random| Tree::Leaf(random.pick(&NASTY).to_string());
    match node {
        Tree::Leaf(text) => match (random.below(6), text.parse::<f64>()) {
            // Another number of the same kind: most of these are accepted, and must then be sound.
            (0 | 1, Ok(number)) => {
                let factor = *random.pick(&[2.0, -1.0, 0.5, 1.0 + 1e-15, 1e30, 1e-30, 1e300, 1e-300, 1e15]);
                *text = (number * factor).to_string();
            }
            (2, Ok(number)) => *text = ((number as i64).wrapping_add(1)).to_string(),
            (0, Err(_)) => *text = quoted(&"é".repeat(1 << random.below(16))),
            (3, _) => *node = other,
            _ => *node = nasty(random),
        },
        Tree::List(items) => {
            let at = random.below(items.len());
            match random.below(8) {
                0 if !items.is_empty() => drop(items.remove(at)),
                1 if !items.is_empty() => items.push(items[at].clone()),
                2 => items.clear(),
                3 => items.reverse(),
                4 => items.truncate(at),
                // Long, but of little: the whole stays below a megabyte.
                5 if random.once_in(20) => items.extend(vec![nasty(random); 10_000]),
                6 => items.push(other),
                _ => *node = nasty(random),
            }
        }
        Tree::Object(fields) => {
            let (at, to) = (random.below(fields.len()), random.below(fields.len()));
            match random.below(10) {
                _ if fields.is_empty() => fields.push(("x".into(), other)),
                0 | 1 => drop(fields.remove(at)),
                2 => fields.push(fields[at].clone()),
                3 => fields.push((fields[at].0.clone(), nasty(random))),
                4 => fields[at].0 = random.pick(&["", "x", "\0", "__metadata__", "type"]).to_string(),
                5 => fields[at].0 = fields[to].0.clone(),
                6 => fields.swap(at, to),
                7 => {
                    let value = fields[at].1.clone();
                    fields[at].1 = std::mem::replace(&mut fields[to].1, value);
                }
                8 => {
                    let depth = random.below(200);
                    fields[at].1 = (0..depth).fold(other, |inner, _| Tree::List(vec![inner]));
                }
                _ => fields[at].1 = nasty(random),
            }
        }
    }
}
