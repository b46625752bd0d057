//! Models that give items their vectors from sequences of plays alone.

pub mod sasrec;
