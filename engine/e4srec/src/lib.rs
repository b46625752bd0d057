//! The room `e4srec`.
