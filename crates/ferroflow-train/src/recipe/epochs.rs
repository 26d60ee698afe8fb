//! Training counted in epochs: an epoch is as many steps as the data give full batches, or as the recipe says.
//!
//! They are counted once, when a recipe is read: from there on it speaks of steps alone.

use toml::{Table, Value};

use crate::data::join;

/// How long a run is.
const LENGTHS: [&str; 2] = ["steps", "epochs"];

/// One length, not two.
pub(super) fn one_length(table: &Table) -> Result<(), String> {
    if LENGTHS.iter().all(|key| table.contains_key(*key)) {
        return Err("steps and epochs both say how long the run is: give one of them".into());
    }
    Ok(())
}

/// The length among the changes counts, not that of the recipe.
pub(super) fn replace(table: &mut Table, changed: &Table) {
    for [given, other] in [LENGTHS, [LENGTHS[1], LENGTHS[0]]] {
        if changed.contains_key(given) {
            table.remove(other);
        }
    }
}

/// Epochs become steps: `epochs`, and every `"N epochs"` in the place of a number of steps.
pub(super) fn settle(table: &mut Table) -> Result<(), String> {
    let epochs = table.remove("epochs");
    if epochs.is_none() && !table.values().any(speaks_of_epochs) {
        return Ok(());
    }
    let length = match table.get("epoch_steps").and_then(Value::as_integer) {
        Some(steps) if steps > 0 => steps,
        _ => length(table)?,
    };
    table.insert("epoch_steps".into(), Value::Integer(length));
    if let Some(epochs) = epochs {
        let count = epochs.as_integer().filter(|count| *count > 0);
        let count = count.ok_or_else(|| format!("epochs is {epochs}: give a whole number above 0"))?;
        let steps = count.checked_mul(length).ok_or("epochs: so many steps cannot be counted")?;
        table.insert("steps".into(), Value::Integer(steps));
    }
    table.iter_mut().for_each(|(_, value)| count(value, length));
    Ok(())
}

/// Steps of an epoch of the data.
fn length(table: &Table) -> Result<i64, String> {
    let number = |key: &str| table.get(key).map_or(Some(1), Value::as_integer).filter(|n| *n > 0).unwrap_or(1);
    let texts =
        |value: &Value| value.as_array().map(|list| list.iter().filter_map(Value::as_str).map(String::from).collect());
    let data: Vec<String> = table.get("data").and_then(texts).unwrap_or_default();
    let pairs = join(&data).map_err(|e| e.to_string())?.len();
    let pairs = pairs.ok_or("data that never end have no epochs: say how many steps one has (epoch_steps)")?;
    let batch = number("batch") * number("accumulate");
    match pairs as i64 / batch {
        0 => Err(format!("{pairs} pairs are no epoch of batches of {batch}: make batch smaller, or give epoch_steps")),
        steps => Ok(steps),
    }
}

/// The number of epochs that a text names.
fn named(text: &str) -> Option<f64> {
    let number = text.strip_suffix(" epochs").or_else(|| text.strip_suffix(" epoch"))?;
    number.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

fn speaks_of_epochs(value: &Value) -> bool {
    match value {
        Value::String(text) => named(text).is_some(),
        Value::Array(values) => values.iter().any(speaks_of_epochs),
        Value::Table(table) => table.values().any(speaks_of_epochs),
        _ => false,
    }
}

fn count(value: &mut Value, length: i64) {
    match value {
        Value::String(text) => {
            if let Some(epochs) = named(text) {
                *value = Value::Integer((epochs * length as f64).round() as i64);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| count(value, length)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| count(value, length)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;

    const TEXT: &str = "model = 'lightflow-0.5'\ndata = 'synth:chairs@size=64x64,count=21'\nbatch = 2\ncrop = '64x64'\n\
                        lr = 1e-4\nloss = 'lightflow-l1'\n";

    fn parse(more: &str, changes: &[&str]) -> Result<Recipe, String> {
        Recipe::parse("test", &format!("{TEXT}{more}"), changes).map_err(|e| e.to_string())
    }

    #[test]
    fn an_epoch_is_as_many_steps_as_the_data_give_batches() {
        let recipe = parse("epochs = 3", &[]).unwrap();
        assert_eq!((recipe.steps, recipe.epoch_steps), (30, 10));
        let recipe = parse("epochs = 3\naccumulate = 2", &[]).unwrap();
        assert_eq!((recipe.steps, recipe.epoch_steps), (15, 5));
        let recipe = parse("epochs = 3", &["epoch_steps=1000"]).unwrap();
        assert_eq!((recipe.steps, recipe.epoch_steps), (3000, 1000));
        assert_eq!((parse("steps = 7", &[]).unwrap().epoch_steps), 0);
    }

    #[test]
    fn every_number_of_steps_may_be_one_of_epochs() {
        let schedule = "schedule = { name = 'multistep', at = ['2 epochs', 25, '3.5 epochs'] }\nwarmup = '1 epoch'\n\
                        checkpoint_every = '2 epochs'\nvalidate_every = '0.5 epochs'\nstart = '1 epochs'";
        let recipe = parse(&format!("steps = '4 epochs'\n{schedule}"), &[]).unwrap();
        assert_eq!((recipe.steps, recipe.warmup, recipe.checkpoint_every, recipe.validate_every), (40, 10, 20, 5));
        assert_eq!(recipe.start, 10);
        let rates = [19, 20, 25, 35].map(|step| recipe.schedule.rate(8.0, step, 40));
        assert_eq!(rates, [8.0, 4.0, 2.0, 1.0]);
        // Written and read again it is the same.
        assert_eq!(Recipe::parse("again", &recipe.to_toml(), &[""; 0]).unwrap(), recipe);
    }

    #[test]
    fn one_length_replaces_the_other() {
        assert_eq!(parse("steps = 7", &["epochs=2"]).unwrap().steps, 20);
        assert_eq!(parse("epochs = 2", &["steps=7"]).unwrap().steps, 7);
        for (text, changes) in [("steps = 7\nepochs = 2", &[][..]), ("steps = 7", &["epochs=2", "steps=9"])] {
            assert!(parse(text, changes).unwrap_err().contains("give one of them"));
        }
    }

    #[test]
    fn epochs_that_are_none_are_refused() {
        let refused = |more: &str, changes: &[&str]| parse(more, changes).unwrap_err();
        assert!(refused("epochs = 1", &["data=synth:chairs"]).contains("epoch_steps"));
        assert!(refused("epochs = 1", &["batch=22"]).contains("21 pairs"));
        assert!(refused("epochs = 0", &[]).contains("above 0"));
        assert!(refused("epochs = 'many'", &[]).contains("above 0"));
    }
}
