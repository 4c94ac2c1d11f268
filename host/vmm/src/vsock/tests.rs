//! The device against a driver made by hand: ordinary traffic, then everything a hostile guest can
//! put into its memory.

mod broken;
mod driver;
mod hostile;
mod resets;
mod traffic;
