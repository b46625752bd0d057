//! The room `recall`.
