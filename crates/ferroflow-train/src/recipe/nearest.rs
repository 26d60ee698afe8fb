//! What was probably meant.

/// The known name nearest to a wrong one, if one is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + wrong.chars().count() / 3).then_some(name)
}

/// "there is no loss `robbust`; did you mean `robust`? There are ..."
pub fn no_such<'a>(what: &str, wrong: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let meant = nearest(wrong, known.clone()).map_or(String::new(), |name| format!(" did you mean `{name}`?"));
    let known: Vec<&str> = known.collect();
    format!("there is no {what} `{wrong}`;{meant} there are {}", known.join(", "))
}
