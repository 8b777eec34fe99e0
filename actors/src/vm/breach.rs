//! How often it is said that a guest agent does not keep to the protocol.

use std::time::Duration;

use tokio::time::Instant;

/// What goes on is said again after that long. A guest decides what happens, and must not fill the journal with it.
const AGAIN: Duration = Duration::from_secs(600);

/// How an agent broke the protocol, as was last said.
#[derive(Debug, Default)]
pub(super) struct Breach(Option<(String, Instant)>);

impl Breach {
    /// It was broken like this; whether that is news.
    pub(super) fn is_news(&mut self, how: &str) -> bool {
        if self.0.as_ref().is_some_and(|(said, at)| said == how && at.elapsed() < AGAIN) {
            return false;
        }
        self.0 = Some((how.to_owned(), Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_news_only_now_and_then() {
        let mut breach = Breach::default();
        assert_eq!(["a", "a", "b", "b"].map(|how| breach.is_news(how)), [true, false, true, false]);
        tokio::time::advance(AGAIN).await;
        assert!(breach.is_news("b"));
    }
}
