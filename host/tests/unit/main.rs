//! Units with real processes, with and without a real systemd user manager.

// clippy.toml allows these in functions that are tests; all of this is one.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

/// Each case without a manager and with one.
macro_rules! both_ways {
    ($($case:ident),+ $(,)?) => {
        mod with_the_shim_alone {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::scene::Scene::shim().await).await;
            })+
        }
        mod with_systemd {
            $(#[tokio::test]
            async fn $case() {
                if let Some(scene) = crate::scene::Scene::systemd().await {
                    super::$case(scene).await;
                }
            })+
        }
    };
}
pub(crate) use both_ways;

mod confinement;
mod escape;
mod life;
mod manager;
mod orphan;
mod restarts;
mod scene;
mod stand_in;
mod start;
