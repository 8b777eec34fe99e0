//! How often it is said what is wrong with a guest.

use std::time::Duration;

use tokio::time::Instant;

/// What goes on is said again after that long. A guest decides what happens, and must not fill the journal with it.
const AGAIN: Duration = Duration::from_secs(600);

/// What was said last of one thing that can be wrong.
#[derive(Debug, Default)]
pub(super) struct Complaint(Option<(String, Instant)>);

impl Complaint {
    /// It is wrong like this; whether that is news.
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
        let mut complaint = Complaint::default();
        assert_eq!(["a", "a", "b", "b"].map(|how| complaint.is_news(how)), [true, false, true, false]);
        tokio::time::advance(AGAIN).await;
        assert!(complaint.is_news("b"));
    }
}
