//! The `a{sv}` at the end of a call: every key is known, of exactly one type, or refused.

use std::{collections::HashMap, str::FromStr, time::Duration};

use nexus_model::ErrorKind;
use zbus::{OwnedVariant, Type};

use crate::Error;

/// Options as they arrive.
pub(super) type Dict = HashMap<String, OwnedVariant>;

/// Keys that mean the same in every call that takes them.
const RESERVED: [&str; 5] = ["bind", "dry-run", "idempotency-key", "reason", "timeout-usec"];

/// Options while they are decoded: each key is taken, then [`finish`](Self::finish) refuses what is left.
#[derive(Debug)]
pub(super) struct Options {
    given: Dict,
    known: Vec<&'static str>,
}

impl Options {
    pub(super) const fn new(given: Dict) -> Self {
        Self { given, known: Vec::new() }
    }

    /// The value of `key`, if it was given.
    ///
    /// # Errors
    /// `InvalidArgs` when it has another type.
    pub(super) fn take<T>(&mut self, key: &'static str) -> Result<Option<T>, Error>
    where
        T: Type + TryFrom<OwnedVariant>,
    {
        self.known.push(key);
        let Some(value) = self.given.remove(key) else { return Ok(None) };
        let signature = value.value_signature().to_string();
        if *value.value_signature() != *T::SIGNATURE {
            return Err(wrong_type(key, &T::SIGNATURE.to_string(), &signature));
        }
        value.try_into().map(Some).map_err(|_| wrong_type(key, &T::SIGNATURE.to_string(), &signature))
    }

    /// The value of `key` as one of a type's words or as a name.
    ///
    /// # Errors
    /// `InvalidArgs` when it is no string; what the type says when it is none of its words.
    pub(super) fn parse<T>(&mut self, key: &'static str) -> Result<Option<T>, Error>
    where
        T: FromStr,
        Argument<T::Err>: Into<Error>,
    {
        let text: Option<String> = self.take(key)?;
        text.map(|text| text.parse().map_err(|error| Argument { name: key, error }.into())).transpose()
    }

    /// The keys that were asked for so far.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// A duration in microseconds.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub(super) fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Error> {
        Ok(self.take(key)?.map(Duration::from_micros))
    }

    /// Refuses what nobody has taken.
    ///
    /// # Errors
    /// `NotImplemented` for a reserved key, `InvalidArgs` for any other that does not begin with `x-`.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let mut left: Vec<&String> = self.given.keys().filter(|key| !key.starts_with("x-")).collect();
        left.sort();
        let Some(key) = left.first() else { return Ok(()) };
        self.known.sort_unstable();
        let known = self.known.join(", ");
        if RESERVED.contains(&key.as_str()) {
            let text =
                format!("option `{key}` is reserved and means nothing to this method: leave it out; it takes {known}");
            return Err(Error::new(ErrorKind::NotImplemented, text));
        }
        Err(Error::invalid_args(format!(
            "option `{key}` is not known: this method takes {known}, and x-… for yourself"
        )))
    }
}

/// Decodes options of which none are known but those that every method takes.
#[expect(clippy::unnecessary_wraps, reason = "has the form of every decoder")]
pub(super) const fn nothing(_: &mut Options) -> Result<(), Error> {
    Ok(())
}

fn wrong_type(key: &str, wanted: &str, given: &str) -> Error {
    Error::invalid_args(format!("option `{key}` must be of type `{wanted}`, not `{given}`"))
}

/// What could not be parsed, and which argument it was.
#[derive(Debug)]
pub(super) struct Argument<E> {
    pub(super) name: &'static str,
    pub(super) error: E,
}

impl From<Argument<nexus_model::UnknownWord>> for Error {
    fn from(Argument { name, error }: Argument<nexus_model::UnknownWord>) -> Self {
        Self::invalid_args(format!("`{name}`: {error}"))
    }
}

impl From<Argument<nexus_model::InvalidName>> for Error {
    fn from(Argument { name, error }: Argument<nexus_model::InvalidName>) -> Self {
        Self::new(ErrorKind::InvalidName, format!("`{name}`: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use nexus_model::{Name, restart::RestartPolicy};
    use zbus::Variant;

    use super::*;

    fn options<const N: usize>(given: [(&str, Variant<'static>); N]) -> Options {
        let own = |(key, value): (&str, Variant<'static>)| (key.to_owned(), value.try_into().unwrap());
        Options::new(given.into_iter().map(own).collect())
    }

    #[test]
    fn a_wrong_type_is_named_with_what_was_wanted_and_given() {
        let error = options([("vcpus", 2_i32.into())]).take::<u32>("vcpus").unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::InvalidArgs));
        assert_eq!(error.to_string(), "option `vcpus` must be of type `u`, not `i`");
    }

    #[test]
    fn containers_have_exactly_one_type_too() {
        let mut options = options([("tags", vec!["a", "b"].into()), ("env", HashMap::from([("a", 1_u32)]).into())]);
        assert_eq!(options.take::<Vec<String>>("tags").unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
        let error = options.take::<HashMap<String, String>>("env").unwrap_err();
        assert_eq!(error.to_string(), "option `env` must be of type `a{ss}`, not `a{su}`");
    }

    #[test]
    fn an_unknown_key_is_named_with_the_known_ones() {
        let mut options = options([("froce", true.into())]);
        assert_eq!(options.take::<bool>("remove-workspaces").unwrap(), None);
        assert_eq!(options.take::<bool>("force").unwrap(), None);
        let error = options.finish().unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::InvalidArgs));
        assert_eq!(
            error.to_string(),
            "option `froce` is not known: this method takes force, remove-workspaces, and x-… for yourself"
        );
    }

    #[test]
    fn a_reserved_key_is_never_ignored() {
        for key in RESERVED {
            let error = options([(key, "".into())]).finish().unwrap_err();
            assert_eq!(error.kind(), Some(ErrorKind::NotImplemented), "{key}");
            assert!(error.to_string().contains(key));
        }
    }

    #[test]
    fn own_keys_are_free() {
        options([("x-trace", 1_u8.into())]).finish().unwrap();
    }

    #[test]
    fn words_and_names_say_which_option_they_were() {
        let error = options([("restart-policy", "never".into())]).parse::<RestartPolicy>("restart-policy").unwrap_err();
        assert_eq!(error.to_string(), "`restart-policy`: `never` is none of no, on-failure, always");
        let error = options([("workspace", "A".into())]).parse::<Name>("workspace").unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::InvalidName));
    }
}
