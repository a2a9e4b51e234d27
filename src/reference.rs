//! The suite in float64.
