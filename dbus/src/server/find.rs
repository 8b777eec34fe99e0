//! What a caller means by a name or an id.

use std::{str::FromStr, sync::Arc};

use nexus_model::{ErrorKind, Id, InvalidName};

use crate::Error;

/// The name of the one of `all` whose name or id was given. `noun` and `list` are for the error.
pub(super) fn find<T, N>(
    noun: &str,
    given: &str,
    by_name: impl FnOnce(&N) -> Option<Arc<T>>,
    all: impl FnOnce() -> Vec<Arc<T>>,
    name_and_id: impl Fn(&T) -> (&N, Id),
) -> Result<N, Error>
where
    N: FromStr<Err = InvalidName> + Clone,
{
    let name = given.parse::<N>();
    if let Ok(name) = &name
        && by_name(name).is_some()
    {
        return Ok(name.clone());
    }
    if let Ok(id) = given.parse::<Id>()
        && let Some(found) = all().iter().find(|object| name_and_id(object).1 == id)
    {
        return Ok(name_and_id(found).0.clone());
    }
    match name {
        Ok(_) => Err(nexus_actors::Error::not_found(noun, given).into()),
        Err(error) => Err(Error::new(ErrorKind::InvalidName, error.to_string())),
    }
}
