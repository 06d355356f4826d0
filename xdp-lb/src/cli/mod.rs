//! What users type: one file per verb.

pub mod check;
//! What users type: one file per command.

pub mod realserver;
