//! x
mod bus;
mod count;
mod ledger;
mod names;
mod parcel;
mod position;
mod presence;
mod state;
fn main() {}
