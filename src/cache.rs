//! stub
/// x
pub struct Cache; 
/// x
pub struct Outcome;
