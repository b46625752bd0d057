//! The room `listen`.
