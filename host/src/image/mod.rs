//! Master images.
