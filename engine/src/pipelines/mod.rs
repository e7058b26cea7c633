//! Work that is more than one text from one model. Each folder is a pipeline; none names another.

pub mod c2c;
pub mod speech;
