//! From TOML and `key=value` changes to a recipe.

use toml::{Table, Value};

use super::{Recipe, batches, epochs, nearest::nearest};

/// Keys that may be a single text instead of a list.
const LISTS: [&str; 3] = ["data", "validate", "freeze"];
/// Keys that may be a name instead of a table with that name.
const NAMED: [&str; 4] = ["loss", "optimiser", "schedule", "initialisation"];

/// The recipe, or what is wrong with it.
pub(super) fn parse<S: AsRef<str>>(text: &str, changes: &[S]) -> Result<Recipe, String> {
    let mut table: Table = toml::from_str(text).map_err(|e| e.to_string())?;
    spell_out(&mut table);
    epochs::one_length(&table)?;
    let mut changed = Table::new();
    for change in changes {
        let before = table.clone();
        set(&mut table, change.as_ref())?;
        spell_out(&mut table);
        changed.extend(
            table.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    epochs::one_length(&changed)?;
    epochs::replace(&mut table, &changed);
    batches::scale(&mut table)?;
    epochs::settle(&mut table)?;
    Recipe::deserialize(table)
}

impl Recipe {
    fn deserialize(table: Table) -> Result<Self, String> {
        <Self as serde::Deserialize>::deserialize(table).map_err(|e: toml::de::Error| {
            // After the message comes the key it is about, on a line of its own.
            let text = e.to_string();
            let place = text.trim().rsplit_once("\nin ").map_or(String::new(), |(_, key)| format!("{}: ", key.trim()));
            place + &explain(e.message())
        })
    }
}

/// Short spellings become long ones.
fn spell_out(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::String(text) if LISTS.contains(&key.as_str()) => {
                let text = std::mem::take(text);
                *value = Value::Array(if text.is_empty() { Vec::new() } else { vec![Value::String(text)] });
            }
            Value::String(text) if NAMED.contains(&key.as_str()) => {
                let name = Value::String(std::mem::take(text));
                *value = Value::Table([("name".to_string(), name)].into_iter().collect());
            }
            Value::String(file) if key == "init" => {
                let file = Value::String(std::mem::take(file));
                let given = file.as_str().is_some_and(|f| !f.is_empty());
                *value = Value::Table(given.then_some((String::new(), file)).into_iter().collect());
            }
            Value::Array(stages) if key == "pretrain" => {
                stages.iter_mut().filter_map(Value::as_table_mut).for_each(spell_out);
            }
            Value::Table(options) if key == "options" => {
                for option in options.iter_mut().map(|(_, v)| v).filter(|v| !v.is_str()) {
                    *option = Value::String(option.to_string());
                }
            }
            _ => {}
        }
    }
}

/// Applies `key=value` or `table.key=value`. The value is TOML, or a text where it is none.
fn set(table: &mut Table, change: &str) -> Result<(), String> {
    let (path, text) = change.split_once('=').ok_or_else(|| format!("`{change}` changes nothing: write key=value"))?;
    let (path, text) = (path.trim(), text.trim());
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|t| t.len() == 1)
        .and_then(|mut t| t.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()));
    // Only known tables are entered: a prefix or an option may itself hold a dot.
    let (key, inner) = match path.split_once('.') {
        Some((key, inner)) => (key, Some(inner)),
        None => (path, None),
    };
    match inner {
        None => {
            table.insert(key.into(), value);
        }
        Some(inner) => match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(entries) => {
                entries.insert(inner.into(), value);
            }
            _ => return Err(format!("`{path}`: {key} has no parts")),
        },
    }
    Ok(())
}

/// Adds the nearest known name where the message says "unknown field `a`, expected one of `b`, `c`".
fn explain(message: &str) -> String {
    let message = message.trim().replace("unknown field", "unknown key").replace("missing field", "missing key");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown ") => match nearest(wrong, known.iter().copied()) {
            Some(name) => {
                let what = message.split(',').next().unwrap_or(&message);
                format!("{what}; did you mean `{name}`? known are {}", known.join(", "))
            }
            None => message,
        },
        _ => message,
    }
}
