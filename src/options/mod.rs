//! The daemon's options: torrc syntax, one table, set, reset and save as one transaction.
