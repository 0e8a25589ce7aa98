//! Log lines.
/// Log lines by stream.
#[derive(Default)]
pub struct LogStore {}
