//! Options of a network as `key=value` text. Each network has one table of its options and what they do.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// One option of a configuration `C`.
pub(crate) struct Setting<C: 'static> {
    key: &'static str,
    help: &'static str,
    values: Values<C>,
    interchangeable: bool,
}

/// An option that is a whole number of a range, kept in the field of that name.
macro_rules! count {
    ($key:literal, $help:literal, $range:expr, $field:ident) => {
        $crate::settings::Setting::<Self>::number(
            $key,
            $help,
            $range,
            |config| config.$field as f64,
            |config, value| config.$field = value as usize,
        )
    };
}
pub(crate) use count;

enum Values<C: 'static> {
    Choice(&'static [(&'static str, fn(&mut C))]),
    Number { range: RangeInclusive<f64>, get: fn(&C) -> f64, set: fn(&mut C, f64) },
}

impl<C> Setting<C> {
    /// One of a few words.
    pub(crate) const fn choice(
        key: &'static str,
        help: &'static str,
        values: &'static [(&'static str, fn(&mut C))],
    ) -> Self {
        Self { key, help, values: Values::Choice(values), interchangeable: false }
    }

    /// A number in a range.
    pub(crate) const fn number(
        key: &'static str,
        help: &'static str,
        range: RangeInclusive<f64>,
        get: fn(&C) -> f64,
        set: fn(&mut C, f64),
    ) -> Self {
        Self { key, help, values: Values::Number { range, get, set }, interchangeable: false }
    }

    /// Weights trained with one value serve with another: what is read outside a frame, how often a step is repeated. Other
    /// options decide which parameters there are, or what the values of the parameters mean.
    pub(crate) const fn interchangeable(mut self) -> Self {
        self.interchangeable = true;
        self
    }

    fn describe(&self) -> OptionHelp {
        let values = match &self.values {
            Values::Choice(values) => values.iter().map(|(word, _)| word.to_string()).collect(),
            Values::Number { range, .. } => vec![format!("{}..={}", range.start(), range.end())],
        };
        OptionHelp { key: self.key, values, help: self.help, interchangeable: self.interchangeable }
    }

    /// The value with which it would leave a configuration as it is.
    fn value_in(&self, config: &C) -> Option<String>
    where
        C: Clone + PartialEq,
    {
        match &self.values {
            Values::Choice(values) => {
                let same = |set: fn(&mut C)| {
                    let mut changed = config.clone();
                    set(&mut changed);
                    changed == *config
                };
                values.iter().find(|(_, set)| same(*set)).map(|(word, _)| word.to_string())
            }
            Values::Number { get, .. } => {
                let value = get(config);
                let single = value as f32;
                Some(if f64::from(single) == value { single.to_string() } else { value.to_string() })
            }
        }
    }

    fn apply(&self, config: &mut C, value: &str) -> bool {
        match &self.values {
            Values::Choice(values) => match values.iter().find(|(word, _)| *word == value) {
                Some((_, set)) => set(config),
                None => return false,
            },
            Values::Number { range, set, .. } => match value.parse::<f64>() {
                Ok(number) if range.contains(&number) => set(config, number),
                _ => return false,
            },
        }
        true
    }
}

/// An option, for help texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionHelp {
    /// The name left of the equals sign.
    pub key: &'static str,
    /// The words that it takes, or one range of numbers.
    pub values: Vec<String>,
    /// What the option decides.
    pub help: &'static str,
    /// Whether weights that were trained with one value can be used with another.
    pub interchangeable: bool,
}

/// The error of an option or a value that a network does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The network has no such option.
    #[error("there is no option `{key}`; {}", list(.known))]
    UnknownKey {
        /// The option that was asked for.
        key: String,
        /// The options that the network has.
        known: Vec<&'static str>,
    },
    /// The option does not take this value.
    #[error("option `{key}` cannot be `{value}`; it takes {}", .known.join(", "))]
    BadValue {
        /// The option.
        key: &'static str,
        /// The value that was asked for.
        value: String,
        /// The values that it takes.
        known: Vec<String>,
    },
}

fn list(known: &[&str]) -> String {
    if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) }
}

/// Applies `given` to `config` in the order of the table, so that `variant` comes before what refines it.
pub(crate) fn apply<C>(
    settings: &[Setting<C>],
    config: &mut C,
    given: &BTreeMap<String, String>,
) -> Result<(), SettingError> {
    if let Some(key) = given.keys().find(|key| !settings.iter().any(|s| s.key == **key)) {
        let known = settings.iter().map(|s| s.key).collect();
        return Err(SettingError::UnknownKey { key: key.clone(), known });
    }
    for setting in settings {
        if let Some(value) = given.get(setting.key)
            && !setting.apply(config, value)
        {
            let known = setting.describe().values;
            return Err(SettingError::BadValue { key: setting.key, value: value.clone(), known });
        }
    }
    Ok(())
}

/// The options that turn `base` into `config`, if there are any.
pub(crate) fn tell<C: Clone + PartialEq>(
    settings: &[Setting<C>],
    base: &C,
    config: &C,
) -> Option<BTreeMap<String, String>> {
    let mut built = base.clone();
    let mut options = BTreeMap::new();
    for setting in settings {
        let Some(value) = setting.value_in(config) else { continue };
        let before = built.clone();
        if setting.apply(&mut built, &value) && built != before {
            options.insert(setting.key.to_string(), value);
        }
    }
    (built == *config).then_some(options)
}

/// The table for help texts.
pub(crate) fn describe<C>(settings: &[Setting<C>]) -> Vec<OptionHelp> {
    settings.iter().map(Setting::describe).collect()
}
