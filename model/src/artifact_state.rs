//! The life of images and assets.

use crate::kebab::words;

words! {
    /// Where an image or an asset is in its life. Stored before its files are written or removed.
    pub enum ArtifactState {
        /// Its files are being written; nothing may use it.
        Creating = "creating",
        /// Whole.
        Ready = "ready",
        /// Its files are being removed; nothing may use it.
        Removing = "removing",
    }
}
