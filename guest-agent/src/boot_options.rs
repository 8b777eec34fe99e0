//! What the host passes on the kernel's command line.

use nexus_protocol::Token;

/// Options of this boot. Others on the command line are not for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BootOptions {
    /// `nexus.hostname=`
    pub(crate) hostname: Option<String>,
    /// `nexus.token=`: the secret without which the agent answers nobody.
    pub(crate) token: Option<Token>,
}

impl BootOptions {
    /// Reads `/proc/cmdline`.
    pub(crate) fn of_this_boot() -> Self {
        std::fs::read("/proc/cmdline").map(|line| Self::parse(&String::from_utf8_lossy(&line))).unwrap_or_default()
    }

    fn parse(line: &str) -> Self {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("nexus.hostname", name)) if !name.is_empty() => options.hostname = Some(name.to_owned()),
                Some(("nexus.token", secret)) if !secret.is_empty() => options.token = Some(Token::from(secret)),
                _ => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_own_words() {
        let options = BootOptions::parse("console=ttyS0 nexus.hostname=web-1 quiet nexus.token=abc rw\n");
        assert_eq!(options, BootOptions { hostname: Some("web-1".into()), token: Some(Token::from("abc")) });
        assert_eq!(BootOptions::parse("nexus.hostname= xnexus.token=abc"), BootOptions::default());
    }
}
