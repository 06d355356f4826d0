//! What users type: one file per verb.

pub mod check;
