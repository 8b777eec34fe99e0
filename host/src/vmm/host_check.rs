/// One thing that was looked for on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCheck {
    /// What was looked for: a kebab-case word that stays the same.
    pub name: &'static str,
    /// Whether it is there. Not everything is needed; the detail says what for.
    pub ok: bool,
    /// What was found, or what to do about it.
    pub detail: String,
}

impl HostCheck {
    pub(super) fn found(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into() }
    }

    pub(super) fn missing(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into() }
    }
}
