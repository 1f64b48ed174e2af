//! gemba
fn main() {}
