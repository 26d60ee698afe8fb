//! Steps that are meant for batches of one size and taken with another, as tfoptflow's fine-tuning scales its iterations.
//!
//! They are scaled once, when a recipe is read: from there on it speaks of its own batches alone.

use toml::{Table, Value};

const KEY: &str = "steps_for_batch";
/// What is scaled: where the run ends and begins, and its learning rate.
const SCALED: [&str; 4] = ["steps", "start", "warmup", "schedule"];
/// Schedules whose steps are part of their names.
const FIXED: [&str; 4] = ["s-short", "s-long", "s-fine", "lightflow"];

/// Numbers of steps become as many as pass over as many pairs in the recipe's own batches.
pub(super) fn scale(table: &mut Table) -> Result<(), String> {
    let Some(given) = table.remove(KEY) else { return Ok(()) };
    let reference = given.as_integer().filter(|batch| *batch > 0);
    let reference = reference.ok_or_else(|| format!("{KEY} is {given}: give the batch that steps are meant for"))?;
    let batch = ["batch", "accumulate"].iter().filter_map(|key| table.get(*key)?.as_integer()).product::<i64>();
    if batch < 1 || batch == reference {
        return Ok(());
    }
    if table.contains_key("epochs") {
        return Err(format!("epochs do not depend on the batch: leave out {KEY}, or give steps"));
    }
    let name = table.get("schedule").and_then(|schedule| schedule.get("name")).and_then(Value::as_str);
    if let Some(name) = name.filter(|name| FIXED.contains(name)) {
        return Err(format!("{KEY}: the steps of the schedule {name} are fixed; write it as \"multistep\""));
    }
    for key in SCALED {
        if let Some(value) = table.get_mut(key) {
            each(value, &|steps| steps.saturating_mul(reference) / batch);
        }
    }
    Ok(())
}

/// Changes every whole number.
fn each(value: &mut Value, change: &dyn Fn(i64) -> i64) {
    match value {
        Value::Integer(number) => *number = change(*number),
        Value::Array(values) => values.iter_mut().for_each(|value| each(value, change)),
        // Rates written as whole numbers are no steps.
        Value::Table(table) => {
            table
                .iter_mut()
                .filter(|(key, _)| !["rates", "factor", "max"].contains(&key.as_str()))
                .for_each(|(_, value)| each(value, change));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;

    fn parse(changes: &[&str]) -> Result<Recipe, String> {
        let text = "model = 'lightflow-0.5'\ndata = 'synth:chairs'\nsteps = 100\nbatch = 4\ncrop = '64x64'\n\
                    lr = 1.0\nloss = 'lightflow-l1'\nsteps_for_batch = 4\nwarmup = 6\ncheckpoint_every = 10\n\
                    schedule = { name = 'piecewise', at = [60, 60, 80], rates = [4, 3, 2, 1] }";
        Recipe::parse("test", text, changes).map_err(|e| e.to_string())
    }

    #[test]
    fn steps_are_as_many_as_pass_over_as_many_pairs() {
        let plain = parse(&[]).unwrap();
        assert_eq!((plain.steps, plain.warmup, plain.schedule.rate(1.0, 60, 100)), (100, 6, 4.0));
        for (changes, steps) in [(&["batch=8"][..], 50), (&["batch=2"], 200), (&["accumulate=4"], 25)] {
            let recipe = parse(changes).unwrap();
            assert_eq!((recipe.steps, recipe.checkpoint_every), (steps, 10), "{changes:?}");
            let boundary = 60 * steps / 100;
            let rates = [boundary, boundary + 1].map(|step| recipe.schedule.rate(1.0, step, steps));
            assert_eq!(rates, [4.0, 2.0], "{changes:?}");
            // Written and read again it is not scaled twice.
            assert_eq!(Recipe::parse("again", &recipe.to_toml(), &[""; 0]).unwrap(), recipe);
        }
    }

    #[test]
    fn what_does_not_scale_is_refused() {
        assert!(parse(&["batch=8", "schedule=s-long"]).unwrap_err().contains("multistep"));
        assert!(parse(&["batch=8", "epochs=3", "epoch_steps=10"]).unwrap_err().contains("epochs do not"));
        assert!(parse(&["steps_for_batch=0"]).unwrap_err().contains("meant for"));
    }
}
