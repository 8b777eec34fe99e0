//! Kernels and initrds.
