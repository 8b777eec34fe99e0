//! What is said of a command line that is not understood.

use clap::error::{ContextKind, ContextValue, Error};

/// Leaves out of an error what would mislead. clap finds `restart` similar to `reset`, and `pause` to `update`: whoever follows
/// that does something else than was meant. A slip of one key is another thing, and so is a name that goes on.
pub(crate) fn plain(mut error: Error) -> Error {
    if let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand).cloned()
        && let Some(ContextValue::Strings(mut similar)) = error.remove(ContextKind::SuggestedSubcommand)
    {
        similar.retain(|name| is_meant(&typed, name));
        if !similar.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(similar));
        }
    }
    // No name of anything begins with a hyphen, so that none was to be passed as one.
    if error.get(ContextKind::InvalidArg).is_some() {
        error.remove(ContextKind::Suggested);
    }
    error
}

fn is_meant(typed: &str, name: &str) -> bool {
    typed.starts_with(name) || name.starts_with(typed) || strsim::damerau_levenshtein(typed, name) == 1
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    fn said(line: &str) -> String {
        let words = std::iter::once("nexusctl").chain(line.split(' '));
        super::plain(Cli::try_parse_from(words).unwrap_err()).to_string()
    }

    #[test]
    fn what_is_suggested_is_what_was_meant() {
        for (line, tip) in [
            ("vm reset", "'reset-failed'"),
            ("vm set-policy", "'set'"),
            ("vm delte", "'delete'"),
            ("vm log", "'logs'"),
            ("event", "'events'"),
        ] {
            let text = said(line);
            assert!(text.contains(&format!("tip: a similar subcommand exists: {tip}\n")), "{text}");
        }
        for line in ["vm update", "vm unset", "vm status web", "start web", "vm remove web"] {
            let text = said(line);
            assert!(text.contains("unrecognized subcommand") && !text.contains("tip:"), "{text}");
        }
        let text = said("vm set web --policy no");
        assert!(text.contains("unexpected argument '--policy'") && !text.contains("tip:"), "{text}");
        assert!(said("vm set web --restart no").contains("a similar argument exists: '--restart-policy'"));
    }
}
