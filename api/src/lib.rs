//! gemba-api
