//! host identity
