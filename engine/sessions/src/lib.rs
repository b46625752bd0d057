//! The room `sessions`.
