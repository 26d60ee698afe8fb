//! Wrong usage that only shows once arguments are looked at together: exit code 2, as for the parser's own errors.

use std::fmt;

use ferroflow::core::io::OutputError;
use ferroflow::data::DataError;
use ferroflow::infer::{offline::OfflineError, submit::SubmitError};
use ferroflow::kernels::Isa;
use ferroflow::net::ModelError;
use ferroflow::train::nearest;

use crate::interrupt::Stopped;

/// The command line asks for something that cannot be; the text says what to type instead.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Returns early with a [`UsageError`].
macro_rules! usage {
    ($($text:tt)*) => { return Err($crate::usage::UsageError(format!($($text)*)).into()) };
}
pub(crate) use usage;

/// The exit code for an error: 1 if the work failed, 2 for wrong usage, 128 + N if signal N stopped a run, which is saved.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(Stopped { signal }) = error.downcast_ref() {
        return 128 + signal;
    }
    if is_wrong_usage(error) { 2 } else { 1 }
}

/// Whether another command line is needed. What a file says (a network that it names, a data set's contents) is no usage.
fn is_wrong_usage(error: &anyhow::Error) -> bool {
    let output = error.downcast_ref::<OutputError>().or_else(|| match error.downcast_ref::<DataError>() {
        Some(DataError::Output(output)) => Some(output),
        _ => match (error.downcast_ref::<OfflineError>(), error.downcast_ref::<SubmitError>()) {
            (Some(OfflineError::Output(output)), _) | (_, Some(SubmitError::Output(output))) => Some(output),
            _ => None,
        },
    });
    error.is::<UsageError>()
        || error.is::<ModelError>()
        || matches!(error.downcast_ref(), Some(OfflineError::Untold { .. }))
        || matches!(error.downcast_ref(), Some(DataError::Spec { .. }))
        || output.is_some_and(OutputError::is_usage)
}

/// The error and its causes on one line. A cause that the text before already ends with is not said twice.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if let Some(ModelError::UnknownName { name, known }) = error.downcast_ref()
        && let Some(meant) = nearest(name, known.iter().copied().chain(["dis", "dis-fast"]))
    {
        text = format!("there is no network `{name}`; did you mean {meant}? `ferroflow models` lists all");
    }
    text
}

/// Checks what the environment says: a slip there must not pass for what was meant.
pub fn environment() -> anyhow::Result<()> {
    let said = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    if let Some(name) = said("FERROFLOW_ISA") {
        let here: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        let name = name.to_string_lossy();
        if !here.contains(&&*name) {
            let meant = nearest(&name, here.iter().copied()).map_or(String::new(), |n| format!("did you mean {n}? "));
            usage!("FERROFLOW_ISA is `{name}`; {meant}this machine has {}", here.join(", "));
        }
    }
    if let Some(name) = said("FERROFLOW_BF16") {
        const KNOWN: [&str; 3] = ["portable", "avx512", "amx"];
        let name = name.to_string_lossy();
        if !KNOWN.contains(&&*name) {
            usage!("FERROFLOW_BF16 is `{name}`; it takes {}", KNOWN.join(", "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn causes_are_named_once() {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let wrapped = anyhow::Error::from(missing()).context("a.flo: entity not found").context("reading");
        assert_eq!(explain(&wrapped), "reading: a.flo: entity not found");
        assert_eq!(explain(&missing().into()), "entity not found");
    }

    #[test]
    fn wrong_usage_is_told_from_failed_work() {
        let clash = || OutputError::Twice { path: "a".into(), first: "b".into(), second: "c".into() };
        assert_eq!(exit_code(&clash().into()), 2);
        assert_eq!(exit_code(&DataError::Output(clash()).into()), 2);
        assert_eq!(exit_code(&anyhow::Error::from(clash()).context("with a context")), 2);
        assert_eq!(exit_code(&OutputError::Exists("a".into()).into()), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("the disk is full")), 1);
        assert_eq!(exit_code(&Stopped { signal: 15 }.into()), 143);
    }
}
